// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Devices made, changed and removed many times under load, and what that leaves behind.

use super::mapper::{self, Disk, Mapped, Targets};
use super::model::{self, Form, MIXED};
use super::reload::{load, Stop};
use crate::case::Case;
use crate::cases::support::memory::{self, Meminfo, Slabs};
use crate::cases::support::scratch::Scratch;
use crate::cases::support::{read, tool};
use crate::modules;
use std::fs;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

pub(in crate::cases) const CASES: &[Case] = &[Case {
    name: "fifty_under_load",
    run: fifty_under_load,
}];

const BYTES: usize = 1 << 20;
const CYCLES: usize = 50;

/// What may be more afterwards for reasons of others, in KiB. The targets of 50 cycles take several
/// times as much.
const SLACK: i64 = 8 << 10;

/// Memory of the kernel, in KiB.
#[derive(Clone, Copy, Debug)]
struct Usage {
    /// All but what is free, holds bytes of files, or belongs to processes such as this one.
    kernel: i64,
    percpu: i64,
    slab: i64,
    vmalloc: i64,
    /// Workqueues of targets: each has one thread of its own.
    queues: usize,
}

impl Usage {
    fn now() -> Usage {
        memory::give_up_unused();
        let meminfo = Meminfo::read();
        let checkers = Slabs::read().checkers;
        Usage {
            kernel: meminfo.in_use() - meminfo.kib("AnonPages") - checkers,
            percpu: meminfo.kib("Percpu"),
            slab: meminfo.kib("Slab") - checkers,
            vmalloc: meminfo.kib("VmallocUsed"),
            queues: queues(),
        }
    }
}

/// The workqueues of targets, by the names of their rescuers.
fn queues() -> usize {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let names = processes.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names
        .filter(|name| name.starts_with("kworker/R-") && name.trim().ends_with("_target"))
        .count()
}

fn fifty_under_load() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stacks = [
        model::stack(121, BYTES, &MIXED),
        model::stack(122, BYTES, &[Form::Lz4, Form::Zstd]),
    ];
    let files = [stacks[0].files.clone(), stacks[1].files.clone()].concat();
    let disks = Disk::all(&scratch, &files);
    let parts = mapper::parts(&disks);
    let flat = [&stacks[0].disk[..], &stacks[1].disk[..]];
    let direct = [&parts[..4], &parts[4..]].map(|parts| mapper::lsmt(BYTES as u64, parts));
    let original = stacks[1].blobs[1].len() as u64;

    // The first rounds fill the kernel's own caches of what they use.
    for number in 0..3 {
        cycle(number, &direct, &parts, original, flat);
    }
    let before = Usage::now();
    let begin = Instant::now();
    let mut reads = 0;
    let mut longest = Duration::ZERO;
    for number in 0..CYCLES {
        let start = Instant::now();
        reads += cycle(number, &direct, &parts, original, flat);
        longest = longest.max(start.elapsed());
    }
    let took = begin.elapsed();
    let after = Usage::now();
    println!(
        "note dm: {CYCLES} cycles of create, reload and remove in {:.1} s (longest {:.2} s), {reads} \
         reads of right bytes",
        took.as_secs_f32(),
        longest.as_secs_f32()
    );
    println!("note dm: KiB before {before:?}, after {after:?}");
    assert!(reads > CYCLES as u64, "{reads} reads");
    assert_eq!(before.queues, 0);
    assert_eq!(after.queues, 0, "workqueues of targets that are gone");
    for (what, before, after) in [
        ("memory", before.kernel, after.kernel),
        ("memory of processors", before.percpu, after.percpu),
        ("slabs", before.slab, after.slab),
        ("vmalloc", before.vmalloc, after.vmalloc),
    ] {
        assert!(after - before < SLACK, "{what}: {before} KiB, then {after}");
    }
    assert_eq!(mapper::names(), [""; 0]);
    mapper::unload().expect("rmmod");
    assert!(!modules::is_loaded(mapper::MODULE));
    drop(disks);
    assert_eq!(tool::run("losetup", &["--all"]), "");
    drop(targets);
}

/// One cycle; returns the number of reads.
fn cycle(
    number: usize,
    direct: &[String; 2],
    parts: &[mapper::Part],
    original: u64,
    flat: [&[u8]; 2],
) -> u64 {
    // Every other time the second stack has a zfile_target below it.
    let zfile = (number % 2 == 1).then(|| {
        let line = mapper::line(0, original, "zfile_target", &parts[5..6]);
        Mapped::new("zfile", &line)
    });
    let second = match &zfile {
        Some(zfile) => mapper::lsmt(BYTES as u64, &[parts[4].clone(), zfile.part(original)]),
        None => direct[1].clone(),
    };
    let mapped = Mapped::new("dm", &direct[0]);
    let stop = AtomicBool::new(false);
    let reads = thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let (path, stop) = (mapped.path(), &stop);
                let seed = 123 + (number * 2 + reader) as u64;
                scope.spawn(move || load(&path, flat, seed, stop))
            })
            .collect();
        let stopped = Stop(&stop);
        mapped.load(&second);
        mapped.dmsetup("resume", &[]);
        // A device that is open is not removed from under its readers.
        if number % 10 == 0 {
            let output = tool::output("dmsetup", &["remove", "dm"]);
            assert!(!output.status.success(), "an open device was removed");
        }
        drop(stopped);
        let seen = readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader"));
        seen.map(|[one, other]| one + other).sum()
    });
    read::check(&read::direct(&mapped.path()), flat[1], 0, 65536);
    // What lies on top goes first.
    Mapped::remove_all([mapped].into_iter().chain(zfile).collect());
    reads
}
