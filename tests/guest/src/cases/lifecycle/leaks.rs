// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Loading, failing to load and unloading give back what they take.

use super::super::support::device::{backfile, Module, DEVICE};
use super::super::support::memory::{self, Meminfo, Slabs};
use super::super::support::scratch::Scratch;
use super::super::support::{content, layers, read};
use crate::case::Case;
use std::array;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![good_loads, failed_loads];

/// Loads in a round.
const ROUND: usize = 25;
/// Rounds that are measured, at most, after a first one that fills the kernel's caches.
const ROUNDS: i64 = 6;
/// Kinds of memory, and the growth in KiB over a round that is not ours. What others take and give back
/// counts for less the more rounds there are; whatever is lost with each load does not.
const KINDS: [(&str, i64); 4] = [
    ("used", 384),
    ("unreclaimable slabs", 96),
    ("vmalloc", 64),
    ("per processor", 16),
];

/// Memory in use, by kind, in KiB.
fn usage() -> [i64; KINDS.len()] {
    // What the kernel frees later, it frees in this time.
    thread::sleep(Duration::from_millis(300));
    memory::give_up_unused();
    thread::sleep(Duration::from_millis(100));
    let meminfo = Meminfo::read();
    [
        meminfo.in_use(),
        meminfo.kib("SUnreclaim") - Slabs::read().checkers,
        meminfo.kib("VmallocUsed"),
        meminfo.kib("Percpu"),
    ]
}

/// Does something often, and then as often again, more than once: that must not cost memory.
fn steady(mut work: impl FnMut()) {
    let mut round = || {
        for _ in 0..ROUND {
            work();
        }
        usage()
    };
    let first = round();
    let areas_first = areas();
    let mut rounds = 0;
    let growth = loop {
        let now = round();
        rounds += 1;
        let growth: [i64; KINDS.len()] = array::from_fn(|kind| (now[kind] - first[kind]) / rounds);
        let is_steady = growth
            .iter()
            .zip(KINDS)
            .all(|(growth, (_, noise))| *growth < noise);
        if rounds == ROUNDS || rounds > 1 && is_steady {
            break growth;
        }
    };
    for ((kind, noise), growth) in KINDS.into_iter().zip(growth) {
        println!("{kind}: {growth} KiB more after {ROUND} loads, as the mean of {rounds} times");
        assert!(growth < noise, "{kind} grows by {growth} KiB");
    }
    assert_eq!(areas(), areas_first, "areas in /proc/vmallocinfo");
}

/// Size and origin of the kernel's mapped areas, how often each: memory for large buffers, and for
/// the code of modules.
fn areas() -> BTreeMap<String, usize> {
    let text = fs::read_to_string("/proc/vmallocinfo").expect("/proc/vmallocinfo");
    let mut areas = BTreeMap::new();
    for line in text.lines() {
        let (_, area) = line.split_once(' ').expect("an area after its addresses");
        // Stacks come and go with the kernel's own threads.
        if !area.contains(" kernel_clone+") {
            *areas.entry(area.trim().to_string()).or_default() += 1;
        }
    }
    areas
}

/// A stack that uses everything: both codecs, plain data, blocks of all sizes.
fn stack(scratch: &Scratch) -> (Vec<PathBuf>, Vec<u8>) {
    let mut disks = vec![content::disk(90, 512 << 10)];
    for seed in 91..93 {
        let mut disk = disks[disks.len() - 1].clone();
        content::change(&mut disk, seed, 20, 16);
        disks.push(disk);
    }
    let variants: &[&[&str]] = &[
        &["--format=lz4"],
        &["--format=zstd", "--block-size=64K"],
        &["--format=plain"],
    ];
    let layers = layers::stack(scratch, &disks, variants);
    (layers, disks.pop().expect("the top disk"))
}

fn good_loads() {
    let scratch = Scratch::new();
    let (layers, disk) = stack(&scratch);
    steady(|| {
        let module = Module::stack(&layers, "");
        read::check(&read::direct(DEVICE), &disk, 0, disk.len());
        module.unload();
    });
}

/// Failures at every stage: the last layer's file, its header, table, index, and the disk's size.
fn failed_loads() {
    let scratch = Scratch::new();
    let (mut layers, disk) = stack(&scratch);
    let good = fs::read(&layers[1]).expect("the compressed layer");
    let damaged = |name: &str, at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0xff;
        scratch.file(name, &bytes)
    };
    let tops = [
        scratch.join("missing"),
        damaged("header", 40),
        damaged("table", good.len() - 514),
        // The last block holds the index.
        damaged(
            "index",
            good.len() - 512 - 4 * disk.len().div_ceil(65536) - 100,
        ),
        scratch.file("cut", &good[..good.len() / 2]),
    ];
    let mut number = 0;
    steady(|| {
        layers.push(tops[number % tops.len()].clone());
        number += 1;
        let parameters = backfile(&layers);
        assert!(
            Module::try_load(&parameters).is_err(),
            "insmod vbd.ko {parameters}"
        );
        layers.pop();
    });
    let module = Module::stack(&layers, "");
    read::check_all(DEVICE, &disk);
    module.unload();
}
