// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Backing files that shrink, and storage that fails, under a device that is in use.

use super::super::support::damage::{check_blocks, Image, BLOCK};
use super::super::support::device::{Faults, Module, DEVICE};
use super::super::support::kmsg::Log;
use super::super::support::scratch::Scratch;
use super::super::support::storage::Failing;
use super::super::support::tool::Loop;
use super::super::support::{content, layers, read};
use crate::case::Case;
use std::fs::OpenOptions;
use std::path::Path;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    truncated_plain_layer,
    truncated_inside_a_page,
    truncated_compressed_layer,
    failing_storage_below_a_plain_layer,
    failing_storage_below_a_compressed_layer,
    storage_that_recovers,
];

/// Cuts a layer's file.
pub(super) fn truncate(path: &Path, size: u64) {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .expect("the layer");
    file.set_len(size).expect("truncate");
}

/// A plain layer of noise, so that byte `n` of the disk is byte `4096 + n` of the file.
fn truncated_plain_layer() {
    for scratch in [Scratch::new(), Scratch::in_memory()] {
        let disk = vbd_tests_host::rng::Rng(140).noise(256 << 10);
        let layer = layers::create(&scratch, "layer", &disk, &["--format=plain"]);
        let module = Module::stack(std::slice::from_ref(&layer), "");
        let left: usize = 100 << 10;
        truncate(&layer, (4096 + left) as u64);
        read::drop_caches();
        check_blocks(&disk, |block| block * BLOCK >= left);
        let file = read::direct(DEVICE);
        read::check(&file, &disk, 0, left);
        let log = Log::mark();
        let before = module.faults();
        read::check_eio(&file, left as u64, 512);
        let after = module.faults();
        assert_eq!(
            (after.rereads, after.errors),
            (before.rereads + 1, before.errors + 1)
        );
        // The log may have had enough of it by now.
        let (start, end) = (left, left + 512);
        let line = format!(
            "vbd0: read of bytes {start}..{end}: layer 0 ({}): file offset {}: the file ends early \
             (truncated)",
            layer.display(),
            4096 + left
        );
        let said = log.vbd_errors();
        assert!(said.is_empty() || said == [line], "{said:#?}");
        drop(file);
        module.unload();
    }
}

/// What the page cache keeps of a page behind the new end is zeroes, and nobody's data.
fn truncated_inside_a_page() {
    for scratch in [Scratch::new(), Scratch::in_memory()] {
        let disk = vbd_tests_host::rng::Rng(145).noise(64 << 10);
        let layer = layers::create(&scratch, "layer", &disk, &["--format=plain"]);
        let module = Module::stack(std::slice::from_ref(&layer), "");
        let file = read::direct(DEVICE);
        read::check(&file, &disk, 0, disk.len());
        let left: usize = (40 << 10) + 3 * 512;
        truncate(&layer, (4096 + left) as u64);
        for sector in (36 << 10..48 << 10).step_by(512) {
            if sector < left {
                read::check(&file, &disk, sector as u64, 512);
            } else {
                read::check_eio(&file, sector as u64, 512);
            }
        }
        drop(file);
        module.unload();
    }
}

fn truncated_compressed_layer() {
    let image = Image::new(content::disk(141, 64 * BLOCK), 2);
    let path = image.file(&image.build());
    let module = Module::stack(std::slice::from_ref(&path), "");
    let first_bad = 40;
    // Inside of a block.
    truncate(&path, image.stored_at(first_bad) as u64 + 1);
    read::drop_caches();
    let bad: Vec<usize> = (first_bad..image.blocks()).collect();
    let log = Log::mark();
    let file = read::direct(DEVICE);
    read::check_eio(&file, (first_bad * BLOCK) as u64, BLOCK);
    assert_eq!(log.vbd_errors().len(), 1);
    assert_eq!(
        module.faults(),
        Faults {
            rereads: 1,
            errors: 1,
            ..Faults::default()
        }
    );
    drop(file);
    image.check(&bad);
    module.unload();
}

fn failing_storage_below_a_plain_layer() {
    let scratch = Scratch::new();
    let disk = vbd_tests_host::rng::Rng(142).noise(1 << 20);
    let layer = layers::create(&scratch, "layer", &disk, &["--format=plain"]);
    let below = Loop::new(&layer);
    // Sixteen pages in the middle of the file, which are those of the disk but for the header.
    let bad = 1024..1152_u64;
    let failing = Failing::new(&below.path(), bad.clone());
    // Workers' reads are what read-ahead goes by: it makes folios of good and bad pages.
    for more in ["", "inline=0"] {
        read::drop_caches();
        let module = Module::stack(&[&failing.path()], more);
        check_blocks(&disk, |block| bad.contains(&(block as u64 * 8 + 8)));
        let faults = module.faults();
        assert!(faults.errors >= 32 && faults.rereads >= 32, "{faults:?}");
        assert_eq!((faults.crc, faults.decode), (0, 0));
        module.unload();
    }
}

fn failing_storage_below_a_compressed_layer() {
    let image = Image::new(vbd_tests_host::rng::Rng(143).noise(128 * BLOCK), 1);
    // A device has whole sectors; what is too much goes where it is allowed.
    let mut padded = image.zfile.clone();
    let size = image.build().len();
    padded.junk_before_table = vec![0; size.next_multiple_of(4096) - size];
    let below = Loop::new(&image.file(&padded.build()));
    // The page of the file in which block 50 begins, and nothing else of the storage.
    let first = image.stored_at(50) as u64 / 4096;
    let failing = Failing::new(&below.path(), first * 8..first * 8 + 8);
    // Linux gives up a whole folio of what it reads ahead from this storage, for us as for others.
    read::read_ahead(&failing.disk(), 0);
    let module = Module::stack(&[&failing.path()], "");
    // Blocks that do not compress take more than a page, so two or three lie in the bad one.
    let lost = |block: usize| {
        let end = image.stored_at(block) + image.zfile.blocks[block + 1].len() + 4;
        let pages = image.stored_at(block) as u64 / 4096..(end as u64).div_ceil(4096);
        pages.contains(&first)
    };
    let bad: Vec<usize> = (0..image.blocks()).filter(|&block| lost(block)).collect();
    assert!(bad.contains(&50) && bad.len() <= 3, "{bad:?}");
    image.check(&bad);
    let file = read::direct(DEVICE);
    read::check(&file, &image.disk, 0, bad[0] * BLOCK);
    read::check_eio(&file, 0, 128 * BLOCK);
    drop(file);
    module.unload();
}

/// What failed is not remembered: when the storage is well again, so is the device.
fn storage_that_recovers() {
    let scratch = Scratch::new();
    let disk = content::disk(144, 512 << 10);
    let options = ["--format=lz4", "--tar"];
    let below = Loop::new(&layers::create(&scratch, "layer", &disk, &options));
    let size = super::super::support::device::size(&below.path().display().to_string());
    // Everything but what is read at attach and lies at both ends.
    let middle = size / 512 / 2 / 8 * 8;
    let failing = Failing::new(&below.path(), middle..middle + 16);
    let module = Module::stack(&[&failing.path()], "");
    let file = read::direct(DEVICE);
    let error = read::pread(&file, 0, disk.len()).expect_err("a read over bad storage");
    assert_eq!(error.raw_os_error(), Some(5));
    assert!(module.faults().rereads >= 1);
    failing.heal(&below.path());
    read::check(&file, &disk, 0, disk.len());
    drop(file);
    read::check_all(DEVICE, &disk);
    module.unload();
}
