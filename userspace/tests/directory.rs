// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Directories as layers; needs mkfs.ext4 and mkfs.erofs, and says so where they are missing.

mod common;

use common::{temp_dir, vbdctl};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{chown, symlink, FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use vbdctl::image::filesystem::{image_of, Filesystem};
use vbdctl::image::{create, Options, Stack};

fn is_missing(test: &str, program: &str) -> bool {
    let missing = Command::new(program).arg("-V").output().is_err();
    if missing {
        // Not by a print macro: those are silent when a test passes.
        let text = format!("SKIPPED {test}: no {program}\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
    missing
}

/// Writes the same tree each time; the times of access and of change differ.
fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("etc/deep")).unwrap();
    fs::write(dir.join("etc/deep/file"), vec![7; 100_000]).unwrap();
    fs::write(dir.join("etc/hello"), "hello\n").unwrap();
    symlink("hello", dir.join("etc/link")).unwrap();
    for name in ["etc/deep/file", "etc/hello", "etc/link", "etc/deep", "etc"] {
        let path = dir.join(name);
        let done = Command::new("touch")
            .args(["-h", "-m", "-d", "2024-01-02T03:04:05.678"])
            .arg(path)
            .status()
            .unwrap();
        assert!(done.success());
    }
}

fn layer_of(kind: Filesystem, tree: &Path, size: Option<u64>, layer: &Path) -> Stack {
    let image = image_of(kind, tree, size, layer).unwrap();
    let options = Options {
        virtual_size: size,
        ..Options::default()
    };
    create(&image, None, layer, &options, &mut |_| {}).unwrap();
    Stack::open(&[layer]).unwrap()
}

fn disk(stack: &Stack) -> Vec<u8> {
    let mut disk = vec![0; stack.virtual_size() as usize];
    stack.reader().read_exact_at(0, &mut disk).unwrap();
    disk
}

#[test]
fn ext4_holds_the_files_and_is_the_same_each_time() {
    if is_missing("ext4_holds_the_files", "mkfs.ext4") {
        return;
    }
    let dir = temp_dir();
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    tree(&one);
    let first = layer_of(
        Filesystem::Ext4,
        &one,
        Some(32 << 20),
        &dir.path().join("a"),
    );
    assert_eq!(first.virtual_size(), 32 << 20);
    std::thread::sleep(Duration::from_millis(1100));
    tree(&two);
    let second = layer_of(
        Filesystem::Ext4,
        &two,
        Some(32 << 20),
        &dir.path().join("b"),
    );
    assert!(disk(&first) == disk(&second));
    let bytes = |name| fs::read(dir.path().join(name)).unwrap();
    assert!(bytes("a") == bytes("b"));

    let raw = dir.path().join("raw");
    fs::write(&raw, disk(&first)).unwrap();
    let check = Command::new("e2fsck")
        .arg("-fn")
        .arg(&raw)
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    let hello = Command::new("debugfs")
        .args(["-R", "cat /etc/hello"])
        .arg(&raw)
        .output()
        .unwrap();
    assert_eq!(hello.stdout, b"hello\n");
}

#[test]
fn erofs_is_the_same_each_time() {
    if is_missing("erofs_is_the_same_each_time", "mkfs.erofs") {
        return;
    }
    let dir = temp_dir();
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    tree(&one);
    let first = layer_of(Filesystem::Erofs, &one, None, &dir.path().join("a"));
    std::thread::sleep(Duration::from_millis(1100));
    tree(&two);
    let second = layer_of(Filesystem::Erofs, &two, None, &dir.path().join("b"));
    let first = disk(&first);
    assert!(first == disk(&second));
    assert_eq!(first[1024..1028], 0xe0f5_e1e2u32.to_le_bytes());
    assert!(first.windows(6).any(|bytes| bytes == b"hello\n"));
}

#[test]
fn a_directory_that_does_not_fit_is_an_error() {
    if is_missing("a_directory_that_does_not_fit", "mkfs.ext4") {
        return;
    }
    let dir = temp_dir();
    let one = dir.path().join("1");
    tree(&one);
    let layer = dir.path().join("a");
    let error = image_of(Filesystem::Ext4, &one, Some(65_536), &layer).unwrap_err();
    assert!(error.to_string().contains("mkfs.ext4 failed"), "{error}");
    // The tree alone: no image, no layer.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// What debugfs says to `request` about the disk of `layer`.
#[track_caller]
fn debugfs(dir: &Path, layer: &str, request: &str) -> String {
    let output = vbdctl(dir, &format!("export --force {layer} raw"));
    assert!(output.status.success(), "{output:?}");
    let check = Command::new("e2fsck")
        .current_dir(dir)
        .args(["-fn", "raw"])
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    let output = Command::new("debugfs")
        .current_dir(dir)
        .args(["-R", request, "raw"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_private_directory_stays_private() {
    if is_missing("a_private_directory_stays_private", "mkfs.ext4") {
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    tree(&dir.join("tree"));
    let top = dir.join("tree");
    let attribute =
        rustix::fs::setxattr(&top, "user.note", b"kept", rustix::fs::XattrFlags::empty());
    // Numbers of more than 16 bits have two parts.
    let owner = chown(&top, Some(70_001), Some(131_077)).is_ok();
    for mode in [0o700, 0o1751, 0o2770] {
        fs::set_permissions(&top, fs::Permissions::from_mode(mode)).unwrap();
        let output = vbdctl(dir, "create --force --fs ext4 tree layer");
        assert!(output.status.success(), "{output:?}");
        let text = debugfs(dir, "layer", "stat /");
        let shown = format!("Mode:  0{mode:o}");
        assert!(text.contains(&shown), "{text}");
        if owner {
            assert!(text.contains("User: 70001   Group: 131077"), "{text}");
        }
        if attribute.is_ok() {
            assert!(text.contains("user.note (4) = \"kept\""), "{text}");
        }
    }
}

#[test]
fn links_and_holes_are_counted_once() {
    if is_missing("links_and_holes_are_counted_once", "mkfs.ext4") {
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    let top = dir.join("tree");
    fs::create_dir(&top).unwrap();
    fs::write(top.join("file"), vec![7; 3 << 20]).unwrap();
    for number in 0..300 {
        fs::hard_link(top.join("file"), top.join(format!("link{number}"))).unwrap();
    }
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.set_len(8 << 30).unwrap();
    for extent in 0..1000 {
        sparse.write_all_at(&[1; 4096], extent << 20).unwrap();
    }
    let output = vbdctl(dir, "create --fs ext4 tree layer");
    assert!(output.status.success(), "{output:?}");
    let size = Stack::open(&[dir.join("layer")]).unwrap().virtual_size();
    // 3 MiB and 4 MB, a quarter, and 16 MiB.
    assert!((23 << 20..27 << 20).contains(&size), "{size}");
    let text = debugfs(dir, "layer", "stat /link299");
    assert!(
        text.contains("Links: 301") && text.contains("Size: 3145728"),
        "{text}"
    );
    let text = debugfs(dir, "layer", "stat /sparse");
    assert!(text.contains("Size: 8589934592"), "{text}");
}

#[test]
fn trees_of_every_shape_fit_what_was_counted() {
    if is_missing("trees_of_every_shape_fit", "mkfs.ext4") {
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    type Fill = fn(&Path);
    let shapes: [(&str, Fill); 4] = [
        ("small files", |place| fs::write(place, "x").unwrap()),
        ("directories", |place| fs::create_dir(place).unwrap()),
        ("long links", |place| {
            symlink("l".repeat(200), place).unwrap()
        }),
        ("attributes", |place| {
            fs::write(place, "").unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            // A file system without them has none to count.
            let _ = rustix::fs::setxattr(place, "user.long", &[1; 200], flags);
        }),
    ];
    for (shape, fill) in shapes {
        let top = dir.join("tree");
        // In small directories, as mkfs.ext4 searches through them for each name.
        for number in 0..6000 {
            let place = top.join(format!("{}", number / 100));
            fs::create_dir_all(&place).unwrap();
            fill(&place.join(format!("{number}")));
        }
        let output = vbdctl(dir, "create --force --fs ext4 tree layer");
        assert!(output.status.success(), "{shape}: {output:?}");
        fs::remove_dir_all(&top).unwrap();
    }
}

/// Runs vbdctl in `dir` while proc is mounted in `tree/proc` and a file system in `tree/data`, which
/// no other program sees; [`None`], with a word on standard error, where that cannot be.
fn with_mounts(test: &str, dir: &Path, arguments: &str) -> Option<std::process::Output> {
    let script = "mount -t proc proc tree/proc && mount -t tmpfs tmpfs tree/data && \
                  echo inside >tree/data/file || exit 99; exec timeout 100 \"$@\"";
    let output = Command::new("unshare")
        .current_dir(dir)
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(env!("CARGO_BIN_EXE_vbdctl"))
        .args(arguments.split(' '))
        .output()
        .unwrap();
    // Only the mounts end so: whoever may not make them is no root, or one of a container.
    if output.status.code() == Some(99) || output.stderr.starts_with(b"unshare: unshare failed") {
        let text = format!("SKIPPED {test}: cannot mount: {output:?}\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return None;
    }
    Some(output)
}

#[test]
fn a_view_of_the_kernel_is_no_part_of_a_tree() {
    let test = "a_view_of_the_kernel_is_no_part";
    if is_missing(test, "mkfs.ext4") {
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    for name in ["tree/proc", "tree/data", "tree/etc"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    fs::write(dir.join("tree/etc/hello"), "hello\n").unwrap();
    fs::write(dir.join("tree/data/below"), "below\n").unwrap();
    let Some(output) = with_mounts(test, dir, "create tree layer") else {
        return;
    };
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(
        errors,
        "vbdctl: tree/proc: is a proc file system, which holds no files; \
         --one-file-system leaves it out\n"
    );
    assert!(!dir.join("layer").exists());

    // What lies below the places is seen again.
    let output = with_mounts(test, dir, "create --one-file-system tree layer").unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(debugfs(dir, "layer", "cat /etc/hello"), "hello\n");
    assert_eq!(debugfs(dir, "layer", "cat /data/below"), "below\n");
    let text = debugfs(dir, "layer", "ls -p /proc");
    assert_eq!(
        text.lines().filter(|line| !line.is_empty()).count(),
        2,
        "{text}"
    );

    // Other file systems are part of the tree unless told otherwise.
    fs::remove_dir(dir.join("tree/proc")).unwrap();
    fs::create_dir(dir.join("elsewhere")).unwrap();
    symlink("../elsewhere", dir.join("tree/proc")).unwrap();
    let output = with_mounts(test, dir, "create --force tree layer").unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(debugfs(dir, "layer", "cat /data/file"), "inside\n");
}

#[test]
fn no_name_of_a_directory_is_an_option() {
    let temp = temp_dir();
    let dir = temp.path();
    tree(&dir.join("-dir"));
    // Stands for mkfs.erofs, whether that is here or not.
    fs::create_dir(dir.join("bin")).unwrap();
    let script = "#!/bin/sh\nfor last; do :; done\necho \"$last\" >seen\nexit 1\n";
    fs::write(dir.join("bin/mkfs.erofs"), script).unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir.join("bin/mkfs.erofs"), executable).unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vbdctl"))
        .current_dir(dir)
        .env("PATH", format!("{}/bin:{path}", dir.display()))
        .args(["create", "--fs", "erofs", "--", "-dir", "layer"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(dir.join("seen")).unwrap(), "./-dir\n");

    for program in ["mkfs.ext4", "mkfs.erofs"] {
        if is_missing("no_name_of_a_directory_is_an_option", program) {
            continue;
        }
        let kind = program.trim_start_matches("mkfs.");
        let output = vbdctl(dir, &format!("create --force --fs {kind} -- -dir layer"));
        assert!(output.status.success(), "{output:?}");
        assert!(dir.join("layer").exists());
    }
}
