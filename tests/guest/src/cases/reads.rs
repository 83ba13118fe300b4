// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reads of every size, at every place and in every way, against a flat model.
//!
//! The disk is a stack of five layers in five variants, so fragmented that most reads of a few
//! pages meet several segments, blocks and layers.

pub(super) mod heads;
pub(super) mod ways;

use super::support::device::{self, Module, DEVICE};
use super::support::read::{self, drop_caches};
use super::support::scratch::Scratch;
use super::support::{content, layers};
use crate::case::Case;
use rustix::io::Errno;
use std::path::PathBuf;
use std::sync::LazyLock;
use vbd_tests_host::rng::Rng;

pub(super) const CASES: &[Case] = super::cases![
    every_sector,
    every_sector_alone,
    odd_offsets_and_lengths,
    direct_sizes_at_all_alignments,
    direct_memory_alignment,
    direct_misaligned_is_refused,
    across_edges,
    end_of_disk,
    past_the_end,
];

/// Bytes of the disk: no multiple of a page.
const SIZE: usize = (6 << 20) + 3 * 512;

/// The stack of this theme, made once.
struct Stack {
    layers: Vec<PathBuf>,
    disk: Vec<u8>,
    /// Where segments begin and end.
    edges: Vec<u64>,
    _scratch: Scratch,
}

static STACK: LazyLock<Stack> = LazyLock::new(|| {
    let variants: &[&[&str]] = &[
        &["--format=lz4", "--tar"],
        &["--format=zstd", "--block-size=16K"],
        &["--format=plain"],
        &["--format=lz4", "--block-size=64K"],
        &["--format=lz4", "--block-size=512", "--no-crc"],
    ];
    let scratch = Scratch::new();
    let mut disks = vec![content::disk(20, SIZE)];
    let mut edges = Vec::new();
    for seed in 21..25 {
        let mut disk = disks[disks.len() - 1].clone();
        edges.extend(content::change(&mut disk, seed, 250, 20));
        disks.push(disk);
    }
    let layers = layers::stack(&scratch, &disks, variants);
    let disk = disks.pop().expect("the top disk");
    Stack {
        layers,
        disk,
        edges,
        _scratch: scratch,
    }
});

/// The attached stack and its model. Every read of a case has to be free of faults.
fn attached(more: &str, work: impl FnOnce(&Stack)) {
    let stack = &*STACK;
    let module = Module::stack(&stack.layers, more);
    work(stack);
    assert_eq!(module.faults(), device::Faults::default());
    module.unload();
}

fn every_sector() {
    attached("", |stack| read::check_all(DEVICE, &stack.disk));
}

/// Sectors one by one: all of them through the cache, a part past it.
fn every_sector_alone() {
    attached("", |stack| {
        let file = read::buffered(DEVICE);
        let sectors = SIZE as u64 / 512;
        for sector in 0..sectors {
            read::check(&file, &stack.disk, sector * 512, 512);
        }
        let file = read::direct(DEVICE);
        let mut rng = Rng(30);
        for _ in 0..1500 {
            read::check(&file, &stack.disk, rng.below(sectors) * 512, 512);
        }
    });
}

fn odd_offsets_and_lengths() {
    attached("", |stack| {
        let file = read::buffered(DEVICE);
        let mut rng = Rng(31);
        for round in 0..1500 {
            if round % 300 == 0 {
                drop_caches();
            }
            let offset = rng.below(SIZE as u64);
            let length = match rng.below(4) {
                0 => 1 + rng.below(16),
                1 => 500 + rng.below(30),
                2 => 4090 + rng.below(12),
                _ => 1 + rng.below(100_000),
            };
            read::check(&file, &stack.disk, offset, length as usize);
        }
    });
}

fn direct_sizes_at_all_alignments() {
    attached("", |stack| {
        let file = read::direct(DEVICE);
        let mut rng = Rng(32);
        let sizes = [
            512,
            1024,
            1536,
            3584,
            4096,
            4608,
            8192,
            12_800,
            65_536 - 512,
            65_536,
            65_536 + 512,
            128 << 10,
            (1 << 20) - 512,
            1 << 20,
            (1 << 20) + 512,
            (2 << 20) + 1024,
        ];
        for size in sizes {
            // Each sector of a page once; more places for sizes that take little time.
            let rounds = if size <= 65_536 + 512 { 16 } else { 8 };
            for sector in 0..rounds {
                let page = rng.below((SIZE - size) as u64 / 4096);
                read::check(&file, &stack.disk, page * 4096 + sector % 8 * 512, size);
            }
        }
    });
}

/// Memory that begins at any multiple of 512, and in pieces.
fn direct_memory_alignment() {
    attached("", |stack| {
        let file = read::direct(DEVICE);
        let mut rng = Rng(33);
        for after in (0..4096).step_by(512) {
            for length in [512, 4096, 6144, 70_144] {
                let offset = rng.below((SIZE - length) as u64 / 512) * 512;
                let got = read::pread_into(&file, offset, length, after)
                    .unwrap_or_else(|error| panic!("{length} bytes at {offset}: {error}"));
                read::same(&got, read::expected(&stack.disk, offset, length), offset);
            }
        }
    });
}

fn direct_misaligned_is_refused() {
    attached("", |stack| {
        let file = read::direct(DEVICE);
        for (offset, length, after) in [(1, 512, 0), (256, 512, 0), (0, 513, 0), (0, 100, 0)] {
            let error = read::pread_into(&file, offset, length, after).expect_err("misaligned");
            assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        }
        read::check(&file, &stack.disk, 0, 512);
    });
}

/// Reads over the places where segments, and with them layers, change.
fn across_edges() {
    attached("", |stack| {
        let direct = read::direct(DEVICE);
        let buffered = read::buffered(DEVICE);
        for edge in stack.edges.iter().step_by(5) {
            for (before, length) in [(512, 1024), (1024, 1536), (4096, 8192 + 512)] {
                let offset = edge.saturating_sub(before);
                read::check(&direct, &stack.disk, offset, length);
            }
            read::check(&buffered, &stack.disk, edge.saturating_sub(1), 2);
            read::check(&buffered, &stack.disk, edge.saturating_sub(700), 1403);
        }
    });
}

fn end_of_disk() {
    attached("", |stack| {
        let size = SIZE as u64;
        for file in [read::buffered(DEVICE), read::direct(DEVICE)] {
            for (before, length) in [
                (512, 512),
                (512, 1024),
                (1024, 4096),
                (4096, 4096),
                (4096, 65_536),
                (65_536, 1 << 20),
                (SIZE as u64, SIZE + 4096),
            ] {
                // Shorter than asked for where the disk ends.
                read::check(&file, &stack.disk, size - before, length);
            }
        }
        let file = read::buffered(DEVICE);
        for before in [1, 2, 511, 513, 5000] {
            read::check(&file, &stack.disk, size - before, 10_000);
        }
    });
}

fn past_the_end() {
    attached("", |_| {
        let size = SIZE as u64;
        let file = read::buffered(DEVICE);
        for offset in [
            size,
            size + 1,
            size + 512,
            size + (1 << 30),
            i64::MAX as u64 - 8192,
        ] {
            assert_eq!(
                read::pread(&file, offset, 4096).unwrap(),
                [0; 0],
                "{offset}"
            );
        }
        let file = read::direct(DEVICE);
        for offset in [size, size + 512, size + 4096, 1 << 40] {
            assert_eq!(
                read::pread(&file, offset, 4096).unwrap(),
                [0; 0],
                "{offset}"
            );
        }
    });
}
