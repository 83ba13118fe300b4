// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What a disk is told to look like: whether partitions are looked for, how large its blocks are.

use crate::case::Case;
use crate::cases::support::content::{self, put_mbr};
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, Dir};
use crate::cases::support::kmsg::Log;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool::{output, run, Loop};
use crate::cases::support::{layers, read};
use rustix::io::Errno;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) const CASES: &[Case] = crate::cases::cases![
    partitions_only_when_asked_for,
    as_loop_without_partscan,
    blocks_of_4096_bytes,
    sizes_in_whole_blocks,
];

/// A device of one layer, off.
fn device(layer: &Path) -> Dir {
    let dir = Dir::new("a");
    dir.layer(0, layer).expect("a layer");
    dir
}

/// An attribute of a disk in sysfs.
fn attribute(node: &str, name: &str) -> String {
    let disk = node.strip_prefix("/dev/").expect("a node");
    let path = Path::new("/sys/block").join(disk).join(name);
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().to_owned()
}

fn partitions_only_when_asked_for() {
    const EXTENT: (usize, usize) = (64, 512);
    let module = Module::load("");
    let scratch = Scratch::new();
    let mut disk = content::disk(81, 1 << 20);
    put_mbr(&mut disk, &[EXTENT]);
    let layer = layers::create(&scratch, "layer", &disk, &["--format=lz4"]);
    let dir = device(&layer);
    for partscan in ["0", "1", "0"] {
        dir.set("partscan", partscan).expect("partscan");
        dir.set("power", "1").expect("power");
        let node = dir.disk();
        let part = format!("{node}p1");
        assert_eq!(attribute(&node, "partscan"), partscan);
        assert_eq!(Path::new(&part).exists(), partscan == "1", "{part}");
        read::check_all(&node, &disk);
        if partscan == "1" {
            let (start, sectors) = EXTENT;
            read::check_all(&part, &disk[start * 512..(start + sectors) * 512]);
            run("blockdev", &["--rereadpt", &node]);
            assert!(Path::new(&part).exists(), "{part} after another look");
        }
        dir.set("power", "0").expect("power off");
    }
    dir.clear().expect("the directories go");
    assert_nothing_left();
    module.unload();
}

/// What can be done about partitions of a disk on which none are looked for.
fn asked_for_by_hand(node: &str, disk: &[u8], (start, sectors): (usize, usize)) -> Vec<String> {
    let mut said = vec![attribute(node, "partscan")];
    let part = format!("{node}p1");
    said.push(format!("at first: {}", Path::new(&part).exists()));
    let reread = output("blockdev", &["--rereadpt", node]);
    said.push(String::from_utf8_lossy(&reread.stderr).trim().to_owned());
    run("partx", &["--add", node]);
    read::check_all(&part, &disk[start * 512..(start + sectors) * 512]);
    run("partx", &["--delete", node]);
    said.push(format!("at last: {}", Path::new(&part).exists()));
    said
}

fn as_loop_without_partscan() {
    const EXTENT: (usize, usize) = (64, 512);
    let module = Module::load("");
    let scratch = Scratch::new();
    let mut disk = content::disk(82, 1 << 20);
    put_mbr(&mut disk, &[EXTENT]);
    let raw = scratch.file("raw", &disk);
    let layer = layers::from_file(&scratch, "layer", &raw, &[]);
    let dir = device(&layer);
    dir.set("power", "1").expect("power");
    let ours = asked_for_by_hand(&dir.disk(), &disk, EXTENT);
    dir.detach();
    let looped = Loop::new(&raw);
    let theirs = asked_for_by_hand(&looped.path().display().to_string(), &disk, EXTENT);
    drop(looped);
    let invalid = "blockdev: ioctl error on BLKRRPART: Invalid argument";
    assert_eq!(ours, ["0", "at first: false", invalid, "at last: false"]);
    assert_eq!(ours, theirs);
    assert_nothing_left();
    module.unload();
}

/// A GPT that counts in blocks of 4096 bytes, with one partition, as an image and its layer.
fn large_blocks(scratch: &Scratch, seed: u64) -> (Vec<u8>, PathBuf) {
    let raw = scratch.file("raw", &content::disk(seed, 2 << 20));
    let script = scratch.file("script", b"label: gpt\nstart=64, size=100\n");
    let sfdisk = "sfdisk --quiet --wipe=never --sector-size=4096 \"$1\" < \"$2\"";
    let (raw_path, script) = (raw.display().to_string(), script.display().to_string());
    run("sh", &["-c", sfdisk, "sh", &raw_path, &script]);
    let disk = fs::read(&raw).expect("the image");
    let layer = layers::from_file(scratch, "layer", &raw, &["--format=lz4"]);
    (disk, layer)
}

fn blocks_of_4096_bytes() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layer) = large_blocks(&scratch, 83);
    let dir = device(&layer);
    for (bytes, part_there) in [("4096", true), ("512", false)] {
        dir.set("logical_block_size", bytes)
            .expect("logical_block_size");
        dir.set("partscan", "1").expect("partscan");
        dir.set("power", "1").expect("power");
        let node = dir.disk();
        for (name, value) in [
            ("size", &*(disk.len() / 512).to_string()),
            ("queue/logical_block_size", bytes),
            ("queue/hw_sector_size", bytes),
            ("queue/physical_block_size", "4096"),
            ("queue/minimum_io_size", "4096"),
            ("queue/optimal_io_size", "131072"),
        ] {
            assert_eq!(attribute(&node, name), value, "{name}, {bytes}");
        }
        assert_eq!(run("blockdev", &["--getss", &node]), bytes);
        read::check_all(&node, &disk);
        let file = read::direct(&node);
        for (offset, length) in [(4096, 4096), (0, 64 << 10), ((2 << 20) - 4096, 4096)] {
            read::check(&file, &disk, offset, length);
        }
        // Less than a block cannot be had past the page cache.
        match (bytes, read::pread(&file, 512, 512)) {
            ("512", Ok(got)) => read::same(&got, &disk[512..1024], 512),
            ("4096", Err(error)) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {}
            (_, result) => panic!("512 bytes of a disk of {bytes}: {result:?}"),
        }
        drop(file);
        // The table counts in the blocks that it was made for.
        let part = format!("{node}p1");
        assert_eq!(Path::new(&part).exists(), part_there, "{part}, {bytes}");
        if part_there {
            read::check_all(&part, &disk[64 * 4096..164 * 4096]);
        }
        dir.set("power", "0").expect("power off");
    }
    dir.clear().expect("the directories go");
    assert_nothing_left();
    module.unload();
}

/// A disk ends where a block does, or is not made.
fn sizes_in_whole_blocks() {
    const BYTES: usize = (64 << 10) + 512;
    let module = Module::load("");
    let scratch = Scratch::new();
    let disk = content::disk(84, BYTES);
    let layer = layers::create(&scratch, "layer", &disk, &[]);
    let dir = device(&layer);
    dir.set("logical_block_size", "4096").unwrap();
    let log = Log::mark();
    assert_eq!(dir.set("power", "1"), Err(Errno::INVAL));
    let line = "size 66048: no multiple of the logical block size 4096";
    assert_eq!(dir.get("error"), line);
    assert_eq!(log.vbd_errors(), [line]);
    // More is zeroes, and less is a choice.
    for size in [65536, 69632] {
        dir.set("size", &size.to_string()).unwrap();
        dir.set("power", "1").unwrap();
        let mut whole = disk.clone();
        whole.resize(size, 0);
        read::check_all(&dir.disk(), &whole);
        dir.set("power", "0").unwrap();
    }
    dir.set("size", "0").unwrap();
    dir.set("logical_block_size", "512").unwrap();
    dir.set("power", "1").unwrap();
    read::check_all(&dir.disk(), &disk);
    dir.detach();
    assert_nothing_left();
    module.unload();
}
