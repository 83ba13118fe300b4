// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The verbs on layers from outside: help, texts, JSON, errors, exit statuses.
//!
//! `UPDATE_GOLDEN=1` rewrites the expected texts in `golden/`.

mod common;

use common::{assert_golden, temp_dir, vbdctl, write_sparse, Rng};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Exit status, standard output and standard error of a run, as a transcript.
fn transcript(dir: &Path, arguments: &str) -> String {
    let output = vbdctl(dir, arguments);
    let status = output.status.code().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let mut text = String::from_utf8(text).unwrap();
    if status == 2 {
        // The rest is usage, which the help tests cover.
        text.truncate(text.find('\n').map_or(text.len(), |end| end + 1));
    }
    format!("$ vbdctl {arguments}\n{text}[{status}]\n")
}

#[track_caller]
fn done(dir: &Path, arguments: &str) {
    let output = vbdctl(dir, arguments);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{arguments}: {output:?}"
    );
}

/// Images `a.img` and `b.img`, layer `a` of the first and `b` of the second on top of it.
fn layers() -> TempDir {
    let temp = temp_dir();
    let dir = temp.path();
    let mut rng = Rng::new(1);
    let mut disk = rng.text(300_000);
    disk.resize(1_000_448, 0);
    disk[700_000..720_000].copy_from_slice(&rng.noise(20_000));
    write_sparse(&dir.join("a.img"), &disk);
    disk[8192..12_288].fill(0);
    disk[500_000] = 1;
    write_sparse(&dir.join("b.img"), &disk);
    done(dir, "create --tar a.img a");
    done(dir, "create --base a -f zstd --size 2M b.img b");
    temp
}

#[test]
fn help_teaches() {
    let dir = temp_dir();
    for verb in ["check", "compare", "export", "convert", "commit", "merge"] {
        let output = vbdctl(dir.path(), &format!("{verb} --help"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_golden(&format!("help-{verb}.txt"), &text);
    }
}

#[test]
fn checks_and_comparisons_are_told() {
    let temp = layers();
    let dir = temp.path();
    let mut bytes = fs::read(dir.join("a")).unwrap();
    bytes[1536 + 512 + 20] ^= 1;
    bytes[60_000] ^= 1;
    fs::write(dir.join("bad"), &bytes).unwrap();
    let mut text = String::new();
    for arguments in [
        "check a b",
        "check --quiet a b",
        "check bad",
        "check bad missing a.img",
        "compare a a.img",
        "compare a,b b.img",
        "compare a b.img",
        "compare --all a b.img",
        "compare a bad",
        "compare a missing",
    ] {
        text += &transcript(dir, arguments);
    }
    assert_golden("verdicts.txt", &text);
    assert_golden("check.json", &transcript(dir, "check --json bad b"));
    assert_golden(
        "compare.json",
        &transcript(dir, "compare --json --all a,b a.img"),
    );
}

#[test]
fn layers_are_remade() {
    let temp = layers();
    let dir = temp.path();
    let mut text = String::new();
    for arguments in [
        "convert -f plain a plain",
        "convert -f zstd -b 64K --level 19 --tar plain z",
        "compare a z",
        "convert a.img from-raw",
        "compare a from-raw",
        "merge --bottom a b all",
        "compare a,b all",
        "merge --layers 0-0 a b bottom",
        "merge --layers 1- a b top",
        "compare bottom,top all",
        "export a b raw",
        "compare all raw",
        "export --offset 8K --length 4K b b b a.part",
        "export a missing raw2",
        "export a b raw",
        "export --force a b raw",
        "export --offset 3M a b raw2",
        "merge --layers 1-2 a b out",
        "merge --layers 2-1 a b out",
        "merge --bottom --keep-zeroed a b out",
        "convert missing out",
        "convert a z",
        "convert --level 3 a out",
        "commit a out",
        "commit --sparse a b out",
        "commit a b out",
        "commit a.img b.img out",
        "commit --sparse plain out",
    ] {
        text += &transcript(dir, arguments);
    }
    assert_golden("remade.txt", &text);
    assert!(!dir.join("out").exists() && !dir.join("raw2").exists());
    // Nothing but what was asked for, hidden or not.
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let want = "a a.img a.part all b b.img bottom from-raw plain raw top z";
    assert_eq!(names.join(" "), want);
}

#[test]
fn a_disk_goes_to_standard_output() {
    let temp = layers();
    let dir = temp.path();
    let output = vbdctl(dir, "export --length 1000448 a b -");
    assert!(output.status.success());
    assert!(output.stdout == fs::read(dir.join("b.img")).unwrap());
}

#[test]
fn a_block_device_is_written_with_force_only() {
    use std::io::Write as _;
    let temp = layers();
    let dir = temp.path();
    let losetup = |arguments: &[&str]| {
        let output = Command::new("losetup")
            .current_dir(dir)
            .args(arguments)
            .output();
        output.ok().filter(|output| output.status.success())
    };
    fs::write(dir.join("disk"), Rng::new(4).noise(4 << 20)).unwrap();
    let Some(attached) = losetup(&["--find", "--show", "disk"]) else {
        let text = "SKIPPED a_block_device_is_written_with_force_only: no loop device\n";
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    };
    let device = String::from_utf8(attached.stdout).unwrap();
    let device = device.trim();
    let refused = vbdctl(dir, &format!("export a b {device}"));
    let written = vbdctl(dir, &format!("export --force a b {device}"));
    let compared = vbdctl(dir, &format!("compare a,b {device}"));
    losetup(&["--detach", device]).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(written.status.success(), "{written:?}");
    // Only what lies past the end of the disk is as it was.
    let text = String::from_utf8(compared.stdout).unwrap();
    assert!(text.contains("2097152 bytes from 2097152 differ"), "{text}");
}

#[test]
fn disks_of_virtual_machines_become_layers() {
    let temp = layers();
    let dir = temp.path();
    let made = |format: &str| {
        Command::new("qemu-img")
            .current_dir(dir)
            .args(["convert", "-f", "raw", "-O", format, "a.img", format])
            .stderr(Stdio::inherit())
            .status()
            .is_ok_and(|status| status.success())
    };
    for format in ["qcow2", "vmdk", "vdi", "vhdx"] {
        if !made(format) {
            use std::io::Write as _;
            let text = format!("SKIPPED disks of virtual machines: no {format} by qemu-img\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            continue;
        }
        done(dir, &format!("convert --force {format} layer"));
        // vhdx rounds the size up.
        let compared = transcript(dir, "compare layer a.img");
        assert!(
            compared.contains("equal") || compared.contains("what only one of them has is zero"),
            "{format}: {compared}"
        );
    }
    // Without the program an error says what is missing.
    fs::write(dir.join("q"), b"QFI\xfb\0\0\0\x03").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vbdctl"))
        .current_dir(dir)
        .env("PATH", "/nonexistent")
        .args(["convert", "--from", "qcow2", "q", "out"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, "vbdctl: q: needs qemu-img, which is not here\n");
}

#[test]
fn an_interrupted_export_leaves_nothing() {
    use std::time::Duration;
    let temp = layers();
    let dir = temp.path();
    let big = Rng::new(3).text(48 << 20);
    fs::write(dir.join("big.img"), &big).unwrap();
    done(dir, "create --force -f zstd -b 64K big.img big");
    let names = || fs::read_dir(dir).unwrap().count();
    let before = names();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vbdctl"))
        .current_dir(dir)
        .args(["export", "-j", "1", "big", "raw"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(40));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // If the machine was quick the export is whole; it is never half.
    if child.wait().unwrap().success() {
        assert!(fs::read(dir.join("raw")).unwrap() == big);
    } else {
        assert_eq!(names(), before);
    }
}
