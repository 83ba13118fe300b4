// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Memory that images claim: as much as the documents say, a share of the machine's at most, and refused
//! before anything suffers.

use super::{content, large_pieces, layer_of};
use crate::case::Case;
use crate::cases::support::device::{Module, DEVICE};
use crate::cases::support::dir::Dir;
use crate::cases::support::memory::{self, Meminfo};
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool::Loop;
use rustix::io::Errno;
use std::fs;
use std::path::{Path, PathBuf};

pub(in crate::cases) const CASES: &[Case] = crate::cases::cases![
    ten_layers_take_what_their_blocks_take,
    a_layer_named_twenty_five_times,
    a_stack_has_a_quarter_of_the_machine,
    all_stacks_have_half_of_the_machine,
];

/// Blocks of the large layers here: 57 MB of table.
const BLOCKS: u64 = 24_000_000;

/// Bytes that the table of such a layer takes: 76 for 32 blocks.
const TABLE: i64 = (BLOCKS / 32 * 76) as i64;

#[track_caller]
fn holds(disk: &str, seed: u8) {
    let mut want = content(seed);
    want.resize(8192, 0);
    read::check(&read::direct(disk), &want, 0, 8192);
}

/// 4 GiB of disk each, in blocks of 4 KiB: 0.6 MiB of memory for each GiB.
fn ten_layers_take_what_their_blocks_take() {
    const GIB: i64 = 4;
    const LAYERS: i64 = 10;
    let module = Module::load("cache_mb=0");
    let scratch = Scratch::new();
    let layers: Vec<PathBuf> = (0..10u8)
        .map(|n| layer_of(&scratch, &format!("layer{n}"), n, 4096, (GIB as u64) << 18))
        .collect();
    memory::give_up_unused();
    let before = (Meminfo::read().in_use(), large_pieces());
    let dir = Dir::attach("ten", &layers);
    let taken = Meminfo::read().in_use() - before.0;
    let large = large_pieces() - before.1;
    println!("note ten layers of {GIB} GiB take {taken} KiB, {large} of them in large pieces");
    let most = LAYERS * GIB * 1024 * 65 / 100;
    assert!(large < most, "{large} KiB for {} GiB", LAYERS * GIB);
    // KASAN has a byte for each eight of them.
    let symbols = fs::read_to_string("/proc/kallsyms").expect("/proc/kallsyms");
    let shadow = match symbols.contains(" kasan_report") {
        true => large / 8,
        false => 0,
    };
    assert!(
        taken < most + shadow,
        "{taken} KiB for {} GiB",
        LAYERS * GIB
    );
    holds(&dir.disk(), 9);
    dir.detach();
    module.unload();
}

/// Each of them has the same table, which is there once.
fn a_layer_named_twenty_five_times() {
    let scratch = Scratch::new();
    let layer = layer_of(&scratch, "layer", 7, 512, BLOCKS);
    let before = large_pieces();
    let module = Module::stack(&vec![layer; 25], "cache_mb=0");
    let taken = large_pieces() - before;
    let table = TABLE / 1024;
    assert!(
        (table..table + 1024).contains(&taken),
        "{taken} KiB for a table of {table}"
    );
    holds(DEVICE, 7);
    module.unload();
    let left = large_pieces() - before;
    assert!(left < 1024, "{left} KiB are left");
}

/// A part of the machine's memory, in KiB.
fn share(part: i64) -> i64 {
    Meminfo::read().kib("MemTotal") / part
}

/// A device of one disk as so many layers: nobody knows that those are the same.
fn prepared(name: &str, disk: &Path, layers: usize) -> Dir {
    let dir = Dir::new(name);
    for number in 0..layers {
        dir.layer(number, disk).expect("a layer");
    }
    dir
}

/// Figures of a refusal: what is wanted and what may be had, in bytes.
#[track_caller]
fn figures(said: &str) -> (i64, i64) {
    let numbers: Vec<i64> = said
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    let [.., wanted, limit] = numbers[..] else {
        panic!("no figures in: {said}");
    };
    (wanted, limit)
}

fn a_stack_has_a_quarter_of_the_machine() {
    let module = Module::load("cache_mb=0");
    let scratch = Scratch::new();
    let layer = layer_of(&scratch, "layer", 3, 512, BLOCKS);
    let disk = Loop::new(&layer);
    let fit = (share(4) * 1024 / TABLE) as usize;
    let before = large_pieces();
    let dir = prepared("large", &disk.path(), 25);
    assert_eq!(dir.set("power", "1"), Err(Errno::FBIG));
    let said = dir.get("error");
    println!("note {said}");
    assert!(
        said.starts_with(&format!("layer {fit} (/dev/loop")),
        "{said}"
    );
    let (wanted, limit) = figures(&said);
    assert_eq!(wanted / TABLE, fit as i64 + 1);
    assert!((limit / 1024 - share(4)).abs() < 1024, "{limit}");
    dir.clear().expect("the directories go");
    let left = large_pieces() - before;
    assert!(left < 1024, "{left} KiB are left of what was refused");
    // As many as fit are a good stack.
    let dir = prepared("fitting", &disk.path(), fit);
    dir.set("power", "1").expect("power on");
    holds(&dir.disk(), 3);
    dir.detach();
    module.unload();
}

fn all_stacks_have_half_of_the_machine() {
    let module = Module::load("cache_mb=0");
    let scratch = Scratch::new();
    let layer = layer_of(&scratch, "layer", 4, 512, BLOCKS);
    let disk = Loop::new(&layer);
    let each = (share(4) * 1024 / TABLE) as usize;
    let before = large_pieces();
    let mut devices = Vec::new();
    let said = loop {
        let dir = prepared(&format!("d{}", devices.len()), &disk.path(), each);
        match dir.set("power", "1") {
            Ok(()) => devices.push(dir),
            Err(errno) => {
                assert_eq!(errno, Errno::NOMEM);
                let said = dir.get("error");
                dir.clear().expect("the directories go");
                break said;
            }
        }
        assert!(devices.len() < 25);
    };
    println!("note {said}");
    assert!(said.contains("all devices"), "{said}");
    let (wanted, limit) = figures(&said);
    assert!(
        wanted > limit && (limit / 1024 - share(2)).abs() < 1024,
        "{said}"
    );
    assert!(large_pieces() - before <= share(2) + 1024);
    for dir in devices {
        holds(&dir.disk(), 4);
        dir.detach();
    }
    let left = large_pieces() - before;
    assert!(left < 1024, "{left} KiB are left");
    let dir = prepared("again", &disk.path(), each);
    dir.set("power", "1").expect("power on");
    holds(&dir.disk(), 4);
    dir.detach();
    module.unload();
}
