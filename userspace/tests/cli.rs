// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The program from outside: exit statuses, messages, texts, files that appear or do not.
//!
//! `UPDATE_GOLDEN=1` rewrites the expected texts in `golden/`.

mod common;

use common::{assert_golden, temp_dir, vbdctl, write_sparse, Rng};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Runs vbdctl, which must succeed without a word on standard error; returns standard output.
#[track_caller]
fn done(dir: &Path, arguments: &str) -> String {
    let output = vbdctl(dir, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, "", "vbdctl {arguments}");
    assert_eq!(output.status.code(), Some(0), "vbdctl {arguments}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs vbdctl, which must end with `status`; returns standard error.
#[track_caller]
fn fails(dir: &Path, status: i32, arguments: &str) -> String {
    let output = vbdctl(dir, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments}: {errors}");
    assert_eq!(output.stdout, b"", "vbdctl {arguments}");
    errors
}

/// A directory with a raw image `a.img` and a changed one, `b.img`.
fn images() -> TempDir {
    let dir = temp_dir();
    let mut rng = Rng::new(1);
    let mut disk = rng.text(300_000);
    disk.resize(1_000_000, 0);
    disk[700_000..720_000].copy_from_slice(&rng.noise(20_000));
    write_sparse(&dir.path().join("a.img"), &disk);
    disk[8192..12_288].fill(0);
    disk[500_000] = 1;
    write_sparse(&dir.path().join("b.img"), &disk);
    dir
}

/// Names in a directory, hidden ones too.
fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into())
        .collect();
    names.sort();
    names
}

#[test]
fn info_tells_layers_and_stack() {
    let dir = images();
    let dir = dir.path();
    assert_eq!(done(dir, "create --tar -m first -j 2 a.img base.tar"), "");
    let zstd = "-f zstd -b 64K --no-crc --trailer-only --size 2M";
    assert_eq!(
        done(dir, &format!("create {zstd} --base base.tar b.img top.zst")),
        ""
    );
    assert_eq!(done(dir, "create -f plain a.img plain"), "");

    assert_golden("info-stack.txt", &done(dir, "info base.tar top.zst"));
    assert_golden(
        "info-stack.json",
        &done(dir, "info --json base.tar top.zst"),
    );
    assert_golden("info-plain.txt", &done(dir, "info plain"));
    assert_golden("info-plain.json", &done(dir, "info --json plain"));
}

#[test]
fn help_teaches() {
    let dir = temp_dir();
    assert_golden("help.txt", &done(dir.path(), "--help"));
    assert_golden("help-create.txt", &done(dir.path(), "create --help"));
    assert_golden("help-info.txt", &done(dir.path(), "info --help"));
}

#[test]
fn a_configuration_stands_for_a_stack() {
    let dir = images();
    let dir = dir.path();
    done(dir, "create a.img a.layer");
    fs::create_dir(dir.join("top")).unwrap();
    done(dir, "create --base a.layer b.img top/overlaybd.commit");
    let config = r#"{
        "repoBlobUrl": "https://example.org/v2/blobs",
        "lowers": [
            { "file": "a.layer", "digest": "sha256:00", "size": 1 },
            { "dir": "top", "digest": "sha256:00", "size": 1 }
        ],
        "upper": {},
        "resultFile": "/tmp/result"
    }"#;
    fs::write(dir.join("config.v1.json"), config).unwrap();
    let by_config = done(dir, "info config.v1.json");
    assert_eq!(by_config, done(dir, "info a.layer top/overlaybd.commit"));

    // The same as a base: nothing differs from it.
    done(dir, "create --base config.v1.json b.img same");
    let both = done(dir, "info a.layer top/overlaybd.commit same");
    assert!(both.contains("records       0 and 0 padding"), "{both}");
}

#[test]
fn configurations_that_cannot_be_honoured_are_refused() {
    let dir = temp_dir();
    let cases = [
        (r#"{"lowers":[]}"#, "lowers: a stack needs a layer"),
        (
            r#"{"lowers":[{"file":"a","targetFile":"t"}]}"#,
            "lowers[0]: targetFile: TurboOCI layers are not supported",
        ),
        (
            r#"{"lowers":[{"file":"a"},{"digest":"sha256:00"}]}"#,
            "lowers[1]: neither file nor dir: remote layers are not supported",
        ),
        (
            r#"{"lowers":[{"file":"a"}],"upper":{"data":"d","index":"i"}}"#,
            "upper: a writable layer is not supported",
        ),
        (
            r#"{"lowers":[{"dir":"."}]}"#,
            "lowers[0]: . holds none of overlaybd.commit, .commit, overlaybd.sealed",
        ),
        (
            r#"{"lowers":[{"file":"a"}],"colour":1}"#,
            "not an image configuration: unknown field `colour`, expected one of",
        ),
    ];
    for (text, reason) in cases {
        fs::write(dir.path().join("c.json"), text).unwrap();
        let errors = fails(dir.path(), 1, "info c.json");
        assert!(
            errors.starts_with(&format!("vbdctl: c.json: {reason}")),
            "{errors}"
        );
    }
}

#[test]
fn errors_name_file_offset_and_rule() {
    let dir = images();
    let dir = dir.path();
    done(dir, "create a.img a.lz4");
    done(dir, "create -f plain a.img a.plain");
    for layer in ["a.lz4", "a.plain"] {
        let bytes = fs::read(dir.join(layer)).unwrap();
        fs::write(dir.join(format!("cut.{layer}")), &bytes[..bytes.len() / 2]).unwrap();
    }
    fs::write(dir.join("nothing"), "").unwrap();

    let mut found = String::new();
    for arguments in [
        "info missing",
        "info .",
        "info a.img",
        "info nothing",
        "info cut.a.lz4",
        "info cut.a.plain",
        "info a.lz4 cut.a.lz4",
        "info /dev/null",
        "create missing out",
        "create a.img a.lz4",
        "create a.img missing/out",
        "create a.img .",
        "create --size 512 a.img out",
        "create nothing out",
        "create --base b.img a.img out",
        "create --base missing a.img out",
    ] {
        found += &format!("$ vbdctl {arguments}\n{}", fails(dir, 1, arguments));
    }
    assert_golden("errors.txt", &found);
    assert!(!dir.join("out").exists());
}

#[test]
fn misuse_ends_with_status_2() {
    let dir = images();
    let dir = dir.path();
    let mut found = String::new();
    for arguments in [
        "",
        "make a.img out",
        "info",
        "create a.img",
        "create -f gzip a.img out",
        "create -b 3K a.img out",
        "create -b 128K a.img out",
        "create --size 1000 a.img out",
        "create --size 1X a.img out",
        "create --size 0 a.img out",
        "create --level 3 a.img out",
        "create -f zstd --level 23 a.img out",
        "create -f plain -b 4K a.img out",
        "create -f plain --no-crc a.img out",
        "create --fs ext4 a.img out",
        "create --jobs 0 a.img out",
        "create --uuid 1234 a.img out",
    ] {
        let errors = fails(dir, 2, arguments);
        // The first line says what is wrong; the rest is usage, which the help tests cover.
        let first = errors.lines().next().unwrap();
        found += &format!("$ vbdctl {arguments}\n{first}\n");
    }
    assert_golden("misuse.txt", &found);
    assert!(!dir.join("out").exists());
}

#[test]
fn files_are_replaced_only_with_force() {
    let dir = images();
    let dir = dir.path();
    fs::write(dir.join("out"), "precious").unwrap();
    fails(dir, 1, "create a.img out");
    assert_eq!(fs::read(dir.join("out")).unwrap(), b"precious");

    // Not even with force if the work fails.
    fails(dir, 1, "create --force --base a.img b.img out");
    assert_eq!(fs::read(dir.join("out")).unwrap(), b"precious");

    done(dir, "create --force a.img out");
    done(dir, "create a.img other");
    assert!(fs::read(dir.join("out")).unwrap() == fs::read(dir.join("other")).unwrap());
    assert_eq!(
        names(dir),
        ["a.img", "b.img", "other", "out"].map(PathBuf::from)
    );
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    use std::process::Stdio;
    use std::time::Duration;
    let dir = temp_dir();
    // Long enough at the highest level to be caught at work.
    write_sparse(&dir.path().join("big.img"), &Rng::new(3).text(48 << 20));
    // Whatever runs the tests in the background may have the signal ignored, which is inherited.
    let mut child = std::process::Command::new("env")
        .current_dir(dir.path())
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_vbdctl")])
        .args("create -f zstd --level 22 -j 1 big.img out".split(' '))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It has begun when it has its output open, which has no name yet.
    let files = format!("/proc/{}/fd", child.id());
    let place = dir.path().canonicalize().unwrap();
    let begun = || {
        let links = fs::read_dir(&files).into_iter().flatten().flatten();
        let mut targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        targets.any(|target| target.starts_with(&place) && target != place.join("big.img"))
    };
    while !begun() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = child.wait().unwrap();
    assert!(
        !ended.success(),
        "the run was over before it was interrupted"
    );
    assert_eq!(names(dir.path()), ["big.img"].map(PathBuf::from));
}

#[test]
fn a_uuid_and_a_message_can_be_given() {
    let dir = images();
    let dir = dir.path();
    let uuid = "f9e58475-50cb-41c1-85f3-5b4ad62a128a";
    done(
        dir,
        &format!("create --uuid {uuid} --message hello a.img out"),
    );
    let text = done(dir, "info out");
    assert!(
        text.contains("F9E58475-50CB-41C1-85F3-5B4AD62A128A"),
        "{text}"
    );
    assert!(text.contains("message       hello"), "{text}");
}
