// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Directories as layers; needs mkfs.ext4 and mkfs.erofs, and says so where they are missing.

mod common;

use common::temp_dir;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
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
