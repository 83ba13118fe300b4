// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reads of every size and place, with memory in pieces, by many readers at a time.

use super::mapper::{self, Disk, Mapped, Targets};
use super::model::{self, MIXED};
use crate::case::Case;
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use rustix::io::preadv;
use std::fs::File;
use std::io::IoSliceMut;
use std::thread;
use vbd_tests_host::rng::Rng;

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "sizes_and_places",
        run: || with_stack(71, sizes_and_places),
    },
    Case {
        name: "memory_in_pieces",
        run: || with_stack(72, memory_in_pieces),
    },
    Case {
        name: "many_readers",
        run: || with_stack(73, many_readers),
    },
    Case {
        name: "whole_disk_at_once",
        run: || with_stack(74, whole_disk_at_once),
    },
];

const BYTES: usize = 2 << 20;

/// Runs `check` on a stack of all kinds of layers, as it is and with the kinds taken apart.
fn with_stack(seed: u64, check: fn(&str, &[u8])) {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(seed, BYTES, &MIXED);
    let disks = Disk::all(&scratch, &stack.files);
    let parts = mapper::parts(&disks);
    let direct = Mapped::new("direct", &mapper::lsmt(BYTES as u64, &parts));
    check(&direct.path(), &stack.disk);
    assert_eq!(direct.counter("errors"), 0);
    drop(direct);

    // All layers but the first are compressed.
    let lines = parts.iter().zip(&stack.blobs).skip(1);
    let lines: Vec<String> = lines
        .map(|(part, blob)| {
            let part = std::slice::from_ref(part);
            mapper::line(0, blob.len() as u64, "zfile_target", part)
        })
        .collect();
    let zfiles = Mapped::many("zfile", &lines);
    let above = zfiles.iter().zip(&stack.blobs[1..]);
    let above = above.map(|(zfile, blob)| zfile.part(blob.len() as u64));
    let parts: Vec<_> = [parts[0].clone()].into_iter().chain(above).collect();
    let stacked = Mapped::new("stacked", &mapper::lsmt(BYTES as u64, &parts));
    check(&stacked.path(), &stack.disk);
    assert_eq!(stacked.counter("errors"), 0);
    drop(stacked);
    Mapped::remove_all(zfiles);
    drop((disks, targets));
}

fn sizes_and_places(path: &str, disk: &[u8]) {
    let mut rng = Rng(75);
    let (direct, buffered) = (read::direct(path), read::buffered(path));
    let sizes = [
        1, 2, 7, 8, 9, 31, 127, 128, 129, 255, 256, 257, 513, 2048, 2500,
    ];
    for sectors in sizes {
        let length = sectors * 512;
        for _ in 0..4 {
            // Up to past the end.
            let offset = rng.below(disk.len() as u64 / 512) * 512;
            read::check(&direct, disk, offset, length);
        }
        let odd = rng.below((disk.len() - length) as u64);
        read::check(&buffered, disk, odd, length - 1);
    }
    // Memory that begins inside a page, as far as the device takes it.
    for after in [512, 1024, 3584] {
        let got = read::pread_into(&direct, 4096 - 512, 40960, after).expect("a read");
        read::same(&got, read::expected(disk, 4096 - 512, 40960), 4096 - 512);
    }
    read::check(&direct, disk, disk.len() as u64, 4096);
}

/// One direct read into several pieces of memory.
fn vector(file: &File, offset: u64, pieces: &mut [read::Memory]) -> usize {
    let mut slices: Vec<IoSliceMut<'_>> = pieces
        .iter_mut()
        .map(|piece| IoSliceMut::new(piece.bytes_mut()))
        .collect();
    preadv(file, &mut slices, offset).expect("preadv")
}

fn memory_in_pieces(path: &str, disk: &[u8]) {
    let mut rng = Rng(76);
    let file = read::direct(path);
    for _ in 0..40 {
        let count = 1 + rng.below(40);
        let mut pieces: Vec<read::Memory> = (0..count)
            .map(|_| {
                let sectors = if rng.below(4) == 0 { 150 } else { 9 };
                let length = 512 * (1 + rng.below(sectors)) as usize;
                read::Memory::new(length, 512 * rng.below(8) as usize)
            })
            .collect();
        let total: usize = pieces.iter().map(|piece| piece.bytes().len()).sum();
        let offset = rng.below((disk.len() - 512) as u64 / 512) * 512;
        let want = read::expected(disk, offset, total);
        assert_eq!(vector(&file, offset, &mut pieces), want.len());
        let got: Vec<u8> = pieces.iter().flat_map(|p| p.bytes()).copied().collect();
        read::same(&got[..want.len()], want, offset);
    }
}

fn many_readers(path: &str, disk: &[u8]) {
    read::drop_caches();
    thread::scope(|scope| {
        for reader in 0..6 {
            scope.spawn(move || {
                let mut rng = Rng(77 + reader);
                let file = if reader % 2 == 0 {
                    read::direct(path)
                } else {
                    read::buffered(path)
                };
                for _ in 0..30 {
                    let length = 512 * (1 + rng.below(400)) as usize;
                    let offset = rng.below(disk.len() as u64 / 512) * 512;
                    read::check(&file, disk, offset, length);
                }
            });
        }
    });
}

fn whole_disk_at_once(path: &str, disk: &[u8]) {
    read::check(&read::direct(path), disk, 0, disk.len());
    read::drop_caches();
    read::check(&read::buffered(path), disk, 0, disk.len());
    read::check_all(path, disk);
}
