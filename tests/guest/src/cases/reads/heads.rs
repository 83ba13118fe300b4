// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Small parts of large LZ4 blocks: decoded as far as they go, and wholly when more is wanted.

use super::super::support::device::{Faults, Module, DEVICE};
use super::super::support::read;
use super::super::support::scratch::Scratch;
use crate::case::Case;
use std::fs::File;
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::rng::Rng;
use vbd_tests_host::zfile;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    a_small_part_brings_the_head,
    nothing_is_kept_without_a_cache,
    every_part_of_every_block,
    a_block_that_ends_too_early,
    a_block_with_a_wrong_checksum,
];

/// Bytes of LSMT header before the disk's first byte.
const HEADER: u64 = 4096;
/// Bytes in a block of most cases.
const BLOCK: u64 = 65_536;
const PAGE: usize = 4096;

/// A disk of two MiB, none of it zero, and the compressed layer that holds it in one piece.
struct Image {
    disk: Vec<u8>,
    zfile: zfile::Spec,
    scratch: Scratch,
}

impl Image {
    fn new(block: u64) -> Image {
        let disk = Rng(60).texture(2 << 20);
        let records = [Record::data(0, disk.len() as u64 / 512, HEADER / 512)];
        let layer = Spec::new(disk.len() as u64, disk.clone(), &records).build();
        Image {
            disk,
            zfile: zfile::Spec::of(&layer, 1, u32::try_from(block).unwrap()),
            scratch: Scratch::new(),
        }
    }

    fn attach(&self, more: &str) -> Module {
        let layer = self.scratch.file("layer", &self.zfile.build());
        Module::stack(&[layer], more)
    }
}

/// Bytes that have been read of an image, and what the device counts of it.
struct Reader<'a> {
    image: &'a Image,
    module: &'a Module,
    file: File,
}

impl Reader<'_> {
    /// Reads `length` bytes from byte `skip` of block `block`, which are right; returns how many
    /// blocks were decoded for them, and how often something was found that had been kept.
    #[track_caller]
    fn cost(&self, block: u64, skip: u64, length: usize) -> (u64, u64) {
        let count = || {
            [
                self.module.stat("blocks_decoded"),
                self.module.stat("cache_hits"),
            ]
        };
        let before = count();
        let at = block * BLOCK + skip - HEADER;
        read::check(&self.file, &self.image.disk, at, length);
        let after = count();
        (after[0] - before[0], after[1] - before[1])
    }
}

fn with_reader(image: &Image, more: &str, work: impl FnOnce(&Reader<'_>)) {
    let module = image.attach(more);
    work(&Reader {
        image,
        module: &module,
        file: read::direct(DEVICE),
    });
    module.unload();
}

fn a_small_part_brings_the_head() {
    let image = Image::new(BLOCK);
    with_reader(&image, "cache_mb=32", |reader| {
        // Decoded up to the end of what is wanted, and that is kept.
        assert_eq!(reader.cost(3, 20 << 10, PAGE), (1, 0));
        assert_eq!(reader.cost(3, 20 << 10, PAGE), (0, 1));
        assert_eq!(reader.cost(3, 0, 24 << 10), (0, 1));
        assert_eq!(reader.cost(3, 512, 1024), (0, 1));
        // A byte more, and all of it is decoded, and kept from then on.
        assert_eq!(reader.cost(3, 24 << 10, 512), (1, 0));
        for skip in (0..BLOCK).step_by(PAGE) {
            assert_eq!(reader.cost(3, skip, PAGE), (0, 1), "{skip}");
        }
        // A part that is not small brings all of it at once.
        assert_eq!(reader.cost(7, 0, 20 << 10), (1, 0));
        assert_eq!(reader.cost(7, 60 << 10, PAGE), (0, 1));
        // Two blocks that a read straddles: the rest of one, the head of the other.
        assert_eq!(reader.cost(10, BLOCK - 512, 1024), (2, 0));
        assert_eq!(reader.cost(10, 0, PAGE), (0, 1));
        assert_eq!(reader.cost(11, 0, 512), (0, 1));
        assert_eq!(reader.cost(11, 512, 512), (1, 0));
        // A whole block is decoded where it is wanted, whatever has been kept.
        assert_eq!(reader.cost(11, 0, 65_536), (0, 1));
        assert_eq!(reader.cost(12, 4096, PAGE), (1, 0));
        assert_eq!(reader.cost(12, 0, 65_536), (1, 0));
    });
}

fn nothing_is_kept_without_a_cache() {
    let image = Image::new(BLOCK);
    with_reader(&image, "cache_mb=0", |reader| {
        for skip in [0, 20 << 10, 20 << 10, 60 << 10, 0] {
            assert_eq!(reader.cost(5, skip, PAGE), (1, 0), "{skip}");
        }
    });
}

/// In blocks of all sizes, each sector of each block is the first one that is wanted of it, and the
/// next one is wanted after it.
fn every_part_of_every_block() {
    for shift in [9, 12, 14, 16] {
        let block = 1 << shift;
        let image = Image::new(block);
        let module = image.attach("");
        let file = read::direct(DEVICE);
        let mut rng = Rng(61);
        let end = image.disk.len() as u64;
        for at in (0..end - block).step_by(usize::try_from(block + 512).unwrap()) {
            let length = 512 * (1 + rng.below(9)) as usize;
            read::check(&file, &image.disk, at, length);
            read::check(&file, &image.disk, at + length as u64, 512);
        }
        drop(file);
        assert_eq!(module.faults(), Faults::default());
        module.unload();
    }
}

/// Half of a stream, under a checksum that is right: what is there can be read, and the rest fails.
fn a_block_that_ends_too_early() {
    let mut image = Image::new(BLOCK);
    let length = image.zfile.blocks[4].len();
    image.zfile.blocks[4].truncate(length / 2);
    with_reader(&image, "", |reader| {
        assert_eq!(reader.cost(4, 0, PAGE).0, 1);
        let at = 4 * BLOCK - HEADER;
        read::check_eio(&reader.file, at + (60 << 10), PAGE);
        read::check_eio(&reader.file, at, 65_536);
        read::check_eio(&reader.file, at + (32 << 10), 512);
        let faults = Faults {
            crc: 0,
            decode: 6,
            rereads: 3,
            errors: 3,
        };
        assert_eq!(reader.module.faults(), faults);
        // Its neighbours are as they were.
        assert_eq!(reader.cost(3, 60 << 10, PAGE), (1, 0));
        assert_eq!(reader.cost(5, 0, PAGE), (1, 0));
    });
}

/// The checksum is that of the whole block: a part fails even if the damage lies behind it.
fn a_block_with_a_wrong_checksum() {
    let image = Image::new(BLOCK);
    let mut bytes = image.zfile.build();
    let stored: usize = image.zfile.blocks[..=4].iter().map(|b| b.len() + 4).sum();
    bytes[512 + stored - 5] ^= 1;
    let layer = image.scratch.file("layer", &bytes);
    let module = Module::stack(&[layer], "");
    let file = read::direct(DEVICE);
    for skip in [0, 512, 60 << 10] {
        read::check_eio(&file, 4 * BLOCK - HEADER + skip, 512);
    }
    let faults = Faults {
        crc: 6,
        decode: 0,
        rereads: 3,
        errors: 3,
    };
    assert_eq!(module.faults(), faults);
    read::check(&file, &image.disk, 5 * BLOCK - HEADER, PAGE);
    drop(file);
    module.unload();
}
