// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Devices on the same layer file: what they have in common, and that a file with other contents is
//! another layer.

use super::{content, large_pieces, layer_of};
use crate::case::Case;
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, Dir};
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use rustix::fs::{utimensat, AtFlags, Timespec, Timestamps, CWD};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::rng::Rng;
use vbd_tests_host::zfile;

pub(in crate::cases) const CASES: &[Case] = crate::cases::cases![
    a_second_device_costs_next_to_nothing,
    sixteen_devices_at_once,
    a_replaced_file_is_another_layer,
    a_table_that_is_refused_is_nobodys,
];

/// Blocks of a layer with a table of 38 MB.
const BLOCKS: u64 = 16_000_000;

/// KiB of a table, and what a device has besides.
const TABLE: i64 = (BLOCKS / 32 * 76 / 1024) as i64;
const DEVICE: i64 = 512;

#[track_caller]
fn holds(dir: &Dir, seed: u8) {
    read::check(&read::direct(&dir.disk()), &content(seed), 0, 4096);
}

fn a_second_device_costs_next_to_nothing() {
    let module = Module::load("cache_mb=0");
    let scratch = Scratch::new();
    let layer = layer_of(&scratch, "layer", 5, 512, BLOCKS);
    // Whatever it is called.
    let other = scratch.join("other");
    fs::hard_link(&layer, &other).expect("another name");
    let before = large_pieces();
    let first = Dir::attach("first", &[&layer]);
    let one = large_pieces() - before;
    assert!((TABLE..TABLE + DEVICE).contains(&one), "{one} KiB");
    let second = Dir::attach("second", &[&other]);
    // What is verified or not is the blocks' matter.
    let third = Dir::new("third");
    third.set("verify", "0").expect("verify");
    third.layer(0, &layer).expect("a layer");
    third.set("power", "1").expect("power on");
    let three = large_pieces() - before;
    assert!(three < one + 2 * DEVICE, "{one} KiB, {three} KiB for three");
    for dir in [&first, &second, &third] {
        holds(dir, 5);
    }
    // The table is there for those who are left.
    first.detach();
    holds(&second, 5);
    third.detach();
    read::drop_caches();
    holds(&second, 5);
    second.detach();
    let left = large_pieces() - before;
    assert!(left < DEVICE, "{left} KiB are left");
    module.unload();
}

/// One of them loads the table, and the others have it from there.
fn sixteen_devices_at_once() {
    const DEVICES: usize = 16;
    let module = Module::load("cache_mb=0");
    let scratch = Scratch::new();
    let layer = layer_of(&scratch, "layer", 6, 512, BLOCKS);
    let before = large_pieces();
    for _ in 0..3 {
        let devices: Vec<Dir> = thread::scope(|scope| {
            let layer = &layer;
            let attach = |n| scope.spawn(move || Dir::attach(&format!("d{n}"), &[layer]));
            let threads: Vec<_> = (0..DEVICES).map(attach).collect();
            let devices = threads
                .into_iter()
                .map(|thread| thread.join().expect("a device"));
            devices.collect()
        });
        let taken = large_pieces() - before;
        let most = TABLE + DEVICES as i64 * DEVICE;
        assert!((TABLE..most).contains(&taken), "{taken} KiB");
        thread::scope(|scope| {
            for dir in devices {
                scope.spawn(|| {
                    holds(&dir, 6);
                    dir.detach();
                });
            }
        });
        let left = large_pieces() - before;
        assert!(left < DEVICE, "{left} KiB are left");
    }
    assert_nothing_left();
    module.unload();
}

/// A compressed layer of a disk.
fn layer(disk: &[u8]) -> Vec<u8> {
    let records = [Record::data(0, disk.len() as u64 / 512, 8)];
    let layer = Spec::new(disk.len() as u64, disk.to_vec(), &records).build();
    zfile::Spec::of(&layer, 1, 4096).build()
}

/// Gives a file a time of last change.
fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as _,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::empty()).expect("utimensat");
}

/// The same name, size and time, and as many blocks of the same lengths: the bytes alone differ. Whoever
/// has the old one open reads the old one, from its own table and its own decoded blocks.
fn a_replaced_file_is_another_layer() {
    let module = Module::load("cache_mb=32");
    let scratch = Scratch::new();
    let old = Rng(81).texture(1 << 20);
    let new: Vec<u8> = old.iter().map(|byte| !byte).collect();
    let path = scratch.file("layer", &layer(&old));
    let time = fs::metadata(&path).expect("the layer");
    let first = Dir::attach("first", &[&path]);
    // Parts of blocks, which are kept.
    let read_all = |dir: &Dir, disk: &[u8]| {
        let file = read::direct(&dir.disk());
        for at in (0..disk.len() as u64).step_by(2048) {
            read::check(&file, disk, at, 2048);
        }
    };
    read_all(&first, &old);
    let other = scratch.file("new", &layer(&new));
    fs::rename(other, &path).expect("the new layer takes the name");
    set_time(&path, time.mtime(), time.mtime_nsec());
    let second = Dir::attach("second", &[&path]);
    read_all(&second, &new);
    read_all(&first, &old);
    second.detach();
    first.detach();
    // The same file, written over when nobody has it open.
    for disk in [&old, &new, &old] {
        fs::write(&path, layer(disk)).expect("the layer");
        set_time(&path, time.mtime(), time.mtime_nsec());
        let dir = Dir::attach("third", &[&path]);
        read_all(&dir, disk);
        dir.detach();
    }
    module.unload();
}

/// Threads attach a layer whose table is damaged, and each is told so; then it is mended.
fn a_table_that_is_refused_is_nobodys() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let disk = Rng(82).texture(1 << 20);
    let good = layer(&disk);
    let mut bad = good.clone();
    let at = bad.len() - 512 - 4 * 100;
    bad[at] ^= 1;
    let path = scratch.file("layer", &bad);
    let before = large_pieces();
    thread::scope(|scope| {
        for number in 0..8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..20 {
                    let dir = Dir::new(&format!("d{number}"));
                    dir.layer(0, path).expect("a layer");
                    assert_eq!(
                        dir.set("power", "1"),
                        Err(Errno::UCLEAN),
                        "{}",
                        dir.get("error")
                    );
                    dir.clear().expect("the directories go");
                }
            });
        }
    });
    let left = large_pieces() - before;
    assert!(left < DEVICE, "{left} KiB are left");
    fs::write(&path, good).expect("the layer");
    let dir = Dir::attach("good", &[&path]);
    read::check_all(&dir.disk(), &disk);
    dir.detach();
    assert_nothing_left();
    module.unload();
}
