// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Tables that change while they are read.

use super::mapper::{self, Disk, Mapped, Targets};
use super::model::{self, Form, MIXED};
use crate::case::Case;
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use vbd_tests_host::rng::Rng;

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "two_stacks_in_turn_under_load",
        run: two_stacks_in_turn_under_load,
    },
    Case {
        name: "reads_wait_for_resume",
        run: reads_wait_for_resume,
    },
    Case {
        name: "refused_table_changes_nothing",
        run: refused_table_changes_nothing,
    },
    Case {
        name: "disk_grows_and_shrinks",
        run: disk_grows_and_shrinks,
    },
];

const BYTES: usize = 2 << 20;

/// A read of this many bytes is one bio, which one table serves.
const ONE_BIO: usize = 64 << 10;

/// Reads random places until told to stop; each has to be of one of two disks.
///
/// Returns how many reads were of the one and of the other.
pub(super) fn load(path: &str, disks: [&[u8]; 2], seed: u64, stop: &AtomicBool) -> [u64; 2] {
    let mut rng = Rng(seed);
    let file = read::direct(path);
    let mut seen = [0; 2];
    while !stop.load(Ordering::Relaxed) {
        let large = rng.below(8) == 0;
        let most = if large { 1 << 20 } else { ONE_BIO };
        let length = 512 * (1 + rng.below(most as u64 / 512)) as usize;
        let offset = rng.below((disks[0].len() - length) as u64 / 512 + 1) * 512;
        let got = read::pread(&file, offset, length);
        let got = got.unwrap_or_else(|error| panic!("{length} bytes at {offset}: {error}"));
        assert_eq!(got.len(), length, "bytes read at {offset}");
        let [one, other] = disks.map(|disk| read::expected(disk, offset, length));
        if got == one {
            seen[0] += 1;
        } else if got == other {
            seen[1] += 1;
        } else {
            // A read of several bios may begin with one table and end with the other.
            let sectors = got.chunks(512).zip(one.chunks(512).zip(other.chunks(512)));
            for (number, (got, (one, other))) in sectors.enumerate() {
                assert!(
                    large && (got == one || got == other),
                    "sector {number} of {length} bytes at {offset} is of neither disk"
                );
            }
        }
    }
    seen
}

fn two_stacks_in_turn_under_load() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stacks = [
        model::stack(81, BYTES, &MIXED),
        model::stack(82, BYTES, &[Form::Lz4, Form::Zstd]),
    ];
    let disks = Disk::all(
        &scratch,
        &[stacks[0].files.clone(), stacks[1].files.clone()].concat(),
    );
    let parts = mapper::parts(&disks);
    let tables = [&parts[..4], &parts[4..]].map(|parts| mapper::lsmt(BYTES as u64, parts));
    let flat = [&stacks[0].disk[..], &stacks[1].disk[..]];
    let mapped = Mapped::new("dm", &tables[0]);
    let stop = AtomicBool::new(false);
    let swaps = 16;
    let seen = thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|seed| {
                let (path, stop) = (mapped.path(), &stop);
                scope.spawn(move || load(&path, flat, 83 + seed, stop))
            })
            .collect();
        let stopped = Stop(&stop);
        for swap in 0..swaps {
            mapped.load(&tables[(swap + 1) % 2]);
            match swap % 4 {
                0 => mapped.swap(),
                // A resume with a table loaded suspends by itself.
                1 => drop(mapped.dmsetup("resume", &[])),
                2 => {
                    mapped.dmsetup("suspend", &["--nolockfs"]);
                    mapped.dmsetup("resume", &[]);
                }
                _ => {
                    mapped.dmsetup("suspend", &["--noflush"]);
                    mapped.dmsetup("resume", &[]);
                }
            }
        }
        drop(stopped);
        let counts = readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader"));
        counts.fold([0, 0], |sum, seen| [sum[0] + seen[0], sum[1] + seen[1]])
    });
    assert!(seen[0] > 0 && seen[1] > 0, "reads of each: {seen:?}");
    println!(
        "note dm: {swaps} tables swapped under {} reads",
        seen[0] + seen[1]
    );
    assert_eq!(mapped.counter("errors"), 0);
    read::check_all(&mapped.path(), &stacks[0].disk);
    drop((mapped, disks, targets));
}

/// Tells readers to stop, even when the one who tells them panics.
pub(super) struct Stop<'a>(pub(super) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn reads_wait_for_resume() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(84, BYTES, &[Form::Lz4]);
    let disks = Disk::all(&scratch, &stack.files);
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &mapper::parts(&disks)));
    let file = read::direct(&mapped.path());
    let done = AtomicU64::new(0);
    mapped.dmsetup("suspend", &[]);
    thread::scope(|scope| {
        for reader in 0..4 {
            let (file, disk, done) = (&file, &stack.disk, &done);
            scope.spawn(move || {
                read::check(file, disk, reader << 16, 65536);
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        thread::sleep(Duration::from_millis(300));
        let early = done.load(Ordering::Relaxed);
        mapped.dmsetup("resume", &[]);
        assert_eq!(early, 0, "reads of a suspended device");
    });
    assert_eq!(done.load(Ordering::Relaxed), 4);
    drop((file, mapped, disks, targets));
}

fn refused_table_changes_nothing() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(85, BYTES, &[Form::Lz4]);
    let mut files = stack.files.clone();
    files.push(vec![0; 8192]);
    let disks = Disk::all(&scratch, &files);
    let parts = mapper::parts(&disks);
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &parts[..1]));
    let table = mapped.dmsetup("table", &[]);
    let stop = AtomicBool::new(false);
    let flat = [&stack.disk[..]; 2];
    thread::scope(|scope| {
        let (path, stop) = (mapped.path(), &stop);
        scope.spawn(move || load(&path, flat, 86, stop));
        let _stopped = Stop(stop);
        for _ in 0..5 {
            let refused = mapped.try_load(&mapper::lsmt(BYTES as u64, &parts[1..]));
            refused.expect_err("a layer without magic").check(
                "Invalid argument",
                "",
                "the layers cannot be opened, as the line before this one says",
            );
        }
    });
    assert_eq!(mapped.dmsetup("table", &[]), table);
    assert_eq!(mapped.dmsetup("table", &["--inactive"]), "");
    // A table that is loaded and dropped again has not touched anything either.
    mapped.load(&mapper::lsmt(512, &parts[..1]));
    mapped.dmsetup("clear", &[]);
    read::check_all(&mapped.path(), &stack.disk);
    drop((mapped, disks, targets));
}

fn disk_grows_and_shrinks() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let small = model::stack(87, BYTES / 2, &[Form::Lz4]);
    let large = model::stack(88, BYTES, &[Form::Zstd]);
    let disks = Disk::all(
        &scratch,
        &[small.files.clone(), large.files.clone()].concat(),
    );
    let parts = mapper::parts(&disks);
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64 / 2, &parts[..1]));
    for (disk, part) in [(&large.disk, &parts[1..]), (&small.disk, &parts[..1])] {
        mapped.load(&mapper::lsmt(disk.len() as u64, part));
        mapped.swap();
        // What the page cache holds of the device is of the table before.
        read::drop_caches();
        read::check_all(&mapped.path(), disk);
    }
    drop((mapped, disks, targets));
}
