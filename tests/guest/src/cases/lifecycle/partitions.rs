// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Partition tables in a stack become partitions of the device.

use super::super::support::content::{put_mbr, Extent};
use super::super::support::device::{self, Module, DEVICE};
use super::super::support::scratch::Scratch;
use super::super::support::{content, layers, read, tool};
use super::refuse_to_unload;
use crate::case::Case;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

pub(in super::super) const CASES: &[Case] =
    crate::cases::cases![mbr, gpt, appears_with_a_layer, not_looked_for];

/// Compares the partitions of the device, and that they are no less read-only than the disk.
fn check(disk: &[u8], partitions: &[Extent]) {
    for (number, (start, sectors)) in partitions.iter().enumerate() {
        let path = format!("{DEVICE}p{}", number + 1);
        read::check_all(&path, &disk[start * 512..(start + sectors) * 512]);
        assert_eq!(tool::run("blockdev", &["--getro", &path]), "1", "{path}");
        let attribute = device::attribute(&format!("vbd0p{}/start", number + 1));
        assert_eq!(attribute, start.to_string());
    }
    let more = format!("{DEVICE}p{}", partitions.len() + 1);
    assert!(!Path::new(&more).exists(), "{more}");
    read::check_all(DEVICE, disk);
}

fn mbr() {
    let scratch = Scratch::new();
    let mut disk = content::disk(70, 1 << 20);
    // One that begins and ends inside of a page, and one up to the end of the disk.
    let partitions = [(63, 401), (1024, 1024)];
    put_mbr(&mut disk, &partitions);
    let layer = layers::create(&scratch, "layer", &disk, &[]);
    let module = Module::stack(&[layer], "");
    check(&disk, &partitions);
    // To vbdctl a partition is its disk.
    let said = tool::output("vbdctl", &["status", "/dev/vbd0p1"]).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("vbd0: comes from the module's"), "{said}");
    let open = read::buffered("/dev/vbd0p1");
    let module = refuse_to_unload(module);
    drop(open);
    module.unload();
    assert!(!Path::new("/dev/vbd0p1").exists());
}

fn gpt() {
    let scratch = Scratch::new();
    let raw = scratch.file("raw", &content::disk(71, 2 << 20));
    let mut sfdisk = Command::new("sfdisk");
    sfdisk.args(["--quiet", "--wipe=never"]).arg(&raw);
    let mut child = sfdisk.stdin(Stdio::piped()).spawn().expect("sfdisk");
    let table = b"label: gpt\nstart=64, size=1000\nstart=2048, size=1024\nstart=3072, size=512\n";
    child
        .stdin
        .take()
        .unwrap()
        .write_all(table)
        .expect("sfdisk");
    assert!(child.wait().expect("sfdisk").success());
    let disk = std::fs::read(&raw).expect("the image");
    let layer = layers::from_file(&scratch, "layer", &raw, &["--format=zstd"]);
    let module = Module::stack(&[layer], "");
    check(&disk, &[(64, 1000), (2048, 1024), (3072, 512)]);
    module.unload();
}

/// A table in an upper layer counts, whatever is below.
fn appears_with_a_layer() {
    let scratch = Scratch::new();
    let below = vec![0; 1 << 20];
    let mut above = below.clone();
    put_mbr(&mut above, &[(8, 100)]);
    let layers = layers::stack(&scratch, &[below.clone(), above.clone()], &[&[], &[]]);
    let module = Module::stack(&layers[..1], "");
    check(&below, &[]);
    module.unload();
    let module = Module::stack(&layers, "");
    check(&above, &[(8, 100)]);
    module.unload();
}

/// `partscan=0`: a table is bytes like all others.
fn not_looked_for() {
    let scratch = Scratch::new();
    let mut disk = vec![0; 1 << 20];
    put_mbr(&mut disk, &[(8, 100)]);
    let layer = layers::create(&scratch, "layer", &disk, &[]);
    let module = Module::stack(&[layer], "partscan=0");
    check(&disk, &[]);
    module.unload();
}
