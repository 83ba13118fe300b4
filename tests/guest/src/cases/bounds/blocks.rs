// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Decoded blocks: as many bytes of them are kept as the cache is said to hold, whatever their size.

use crate::case::Case;
use crate::cases::support::device::{Faults, Module, DEVICE};
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::rng::Rng;
use vbd_tests_host::zfile;

pub(in crate::cases) const CASES: &[Case] =
    crate::cases::cases![all_that_fits_is_kept, what_is_wanted_stays];

/// Bytes of LSMT header before the disk's first byte.
const HEADER: u64 = 4096;

/// Sectors of a record.
const RECORD: u64 = 8192;

/// A disk and its layer in blocks of this size.
fn image(bytes: usize, block: u32) -> (Vec<u8>, Vec<u8>) {
    let disk = Rng(u64::from(block)).texture(bytes);
    // A record has 14 bits of length.
    let record = |at: u64| Record::data(at, RECORD, HEADER / 512 + at);
    let records: Vec<_> = (0..disk.len() as u64 / 512)
        .step_by(RECORD as usize)
        .map(record)
        .collect();
    let layer = Spec::new(disk.len() as u64, disk.clone(), &records).build();
    (disk, zfile::Spec::of(&layer, 1, block).build())
}

/// Three quarters of the cache: whoever reads them for the second time finds all of them.
fn all_that_fits_is_kept() {
    const BYTES: usize = 24 << 20;
    for block in [4096u32, 65_536] {
        let scratch = Scratch::in_memory();
        let (disk, layer) = image(BYTES, block);
        let module = Module::stack(&[scratch.file("layer", &layer)], "cache_mb=32 inline=0");
        let file = read::direct(DEVICE);
        let half = block as usize / 2;
        // The header takes the place of as many blocks, or of a part of one.
        let first = (u64::from(block) - HEADER % u64::from(block)) % u64::from(block);
        let starts = || (first..BYTES as u64).step_by(block as usize);
        let whole = || starts().filter(|start| start + u64::from(block) <= BYTES as u64);
        let pass = |skip: u64| {
            let before = (module.stat("blocks_decoded"), module.stat("cache_hits"));
            for start in whole() {
                read::check(&file, &disk, start + skip, half);
            }
            (
                module.stat("blocks_decoded") - before.0,
                module.stat("cache_hits") - before.1,
            )
        };
        let blocks = whole().count() as u64;
        // A read of a block in which a record ends is one of two parts; what the first takes is the block's
        // head, and is decoded by itself.
        let cut = |start: &u64| {
            let record = |byte: u64| byte / (RECORD * 512);
            record(*start) != record(start + half as u64 - 1)
        };
        let parts = blocks + whole().filter(cut).count() as u64;
        assert_eq!(pass(0), (parts, 0), "blocks of {block}");
        assert_eq!(pass(0), (0, parts), "blocks of {block}, again");
        assert_eq!(
            pass(half as u64),
            (0, blocks),
            "the other halves of {block}"
        );
        drop(file);
        assert_eq!(module.faults(), Faults::default());
        module.unload();
    }
}

/// A MiB that somebody reads again and again is still there after five times the cache went by.
fn what_is_wanted_stays() {
    const BLOCK: u64 = 4096;
    const BYTES: u64 = 40 << 20;
    const WANTED: u64 = 1 << 20;
    let scratch = Scratch::in_memory();
    let (disk, layer) = image(BYTES as usize, BLOCK as u32);
    let module = Module::stack(&[scratch.file("layer", &layer)], "cache_mb=8 inline=0");
    let file = read::direct(DEVICE);
    let halves = |from: u64, to: u64| {
        for start in (from..to).step_by(BLOCK as usize) {
            read::check(&file, &disk, start, 2048);
        }
    };
    for start in (WANTED..BYTES).step_by(1 << 20) {
        halves(0, WANTED);
        halves(start, start + (1 << 20));
    }
    let before = module.stat("blocks_decoded");
    halves(0, WANTED);
    let decoded = module.stat("blocks_decoded") - before;
    assert!(decoded < WANTED / BLOCK / 10, "{decoded} of 256 were gone");
    drop(file);
    module.unload();
}
