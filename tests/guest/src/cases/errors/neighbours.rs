// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A damaged block spoils no read but its own: not those before and after it, not those that go
//! together with it, not those that run beside it.

use super::super::support::damage::{Image, BLOCK};
use super::super::support::device::DEVICE;
use super::super::support::scratch::Scratch;
use super::super::support::storage::Failing;
use super::super::support::tool::Loop;
use super::super::support::{content, read};
use crate::case::Case;
use std::fs::File;
use std::thread;
use vbd_tests_host::rng::Rng;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    parts_of_the_block,
    reads_over_it,
    large_direct_reads,
    readahead_over_it,
    several_in_a_row,
    large_blocks,
    side_by_side,
];

/// Blocks on the disk.
const BLOCKS: usize = 512;

/// An image, and its bytes with a flip in each of the bad blocks.
fn damaged(seed: u64, bad: &[usize]) -> (Image, Vec<u8>) {
    damaged_of(BLOCKS, seed, bad)
}

fn damaged_of(blocks: usize, seed: u64, bad: &[usize]) -> (Image, Vec<u8>) {
    let image = Image::new(content::disk(seed, blocks * BLOCK), 1);
    let mut bytes = image.build();
    for &block in bad {
        bytes[image.stored_at(block)] ^= 1;
    }
    (image, bytes)
}

/// A read that has to fail if it touches a bad block, and to be right if it does not.
///
/// `file` is one that goes past the cache, or nothing is read ahead.
fn check(image: &Image, bad: &[usize], file: &File, offset: u64, length: usize) {
    let start = usize::try_from(offset).unwrap() / BLOCK;
    let end = (usize::try_from(offset).unwrap() + length).div_ceil(BLOCK);
    if bad.iter().any(|block| (start..end).contains(block)) {
        read::check_eio(file, offset, length);
    } else {
        read::check(file, &image.disk, offset, length);
    }
}

fn parts_of_the_block() {
    let (image, bytes) = damaged(130, &[9]);
    let module = image.attach(&bytes, "");
    let file = read::direct(DEVICE);
    for sector in 8 * 8..11 * 8 {
        for sectors in [1, 2, 3, 8] {
            check(&image, &[9], &file, sector * 512, sectors * 512);
        }
    }
    drop(file);
    module.unload();
}

/// A direct read with a bad block in it fails as a whole: nobody is told which bytes are good.
fn reads_over_it() {
    let (image, bytes) = damaged(131, &[100]);
    let module = image.attach(&bytes, "");
    let file = read::direct(DEVICE);
    for before in [0, 1, 2, 15, 16, 17, 60] {
        for blocks in [1, 2, 16, 17, 64] {
            check(
                &image,
                &[100],
                &file,
                (100 - before) * BLOCK as u64,
                blocks * BLOCK,
            );
        }
    }
    drop(file);
    module.unload();
}

/// Reads that become several requests. What comes before the bad block may be handed out, as the
/// kernel does for some; what is handed out is right, and never reaches the bad block.
fn large_direct_reads() {
    let bad = 300;
    let (image, bytes) = damaged(132, &[bad]);
    let module = image.attach(&bytes, "");
    let file = read::direct(DEVICE);
    for (start, blocks) in [(0, BLOCKS), (0, 400), (1, 300), (200, 312), (299, 200)] {
        let offset = (start * BLOCK) as u64;
        match read::pread(&file, offset, blocks * BLOCK) {
            Ok(got) => {
                assert!(
                    got.len() <= (bad - start) * BLOCK,
                    "{} bytes at {offset}",
                    got.len()
                );
                read::same(&got, read::expected(&image.disk, offset, got.len()), offset);
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(5), "{error}"),
        }
        // What lies on both sides, in one read each.
        read::check(&file, &image.disk, offset, (bad - start) * BLOCK);
        let after = ((bad + 1) * BLOCK) as u64;
        read::check(&file, &image.disk, after, (BLOCKS - bad - 1) * BLOCK);
    }
    drop(file);
    module.unload();
}

/// What reads through the cache of a disk come to that has a bad block: which blocks cannot be read
/// in order, how long one read over the bad block gets, and which cannot be read backwards.
fn cached(path: &str, name: &str, kib: u32, image: &Image) -> (Vec<u64>, usize, Vec<u64>) {
    read::read_ahead(name, kib);
    let lost = |file: &File, blocks: &mut dyn Iterator<Item = u64>| -> Vec<u64> {
        let fails = |block: &u64| match read::pread(file, block * BLOCK as u64, BLOCK) {
            Ok(got) => {
                let offset = block * BLOCK as u64;
                read::same(&got, read::expected(&image.disk, offset, BLOCK), offset);
                false
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "{error}");
                true
            }
        };
        blocks.filter(fails).collect()
    };
    read::drop_caches();
    let blocks = image.blocks() as u64;
    let forwards = lost(&read::buffered(path), &mut (0..blocks));
    read::drop_caches();
    let at_once = read::pread(&read::buffered(path), 0, 64 * BLOCK);
    let at_once = at_once.expect("what comes before the bad block");
    read::same(&at_once, &image.disk[..at_once.len()], 0);
    read::drop_caches();
    let backwards = lost(&read::buffered(path), &mut (0..blocks).rev());
    (forwards, at_once.len(), backwards)
}

/// The cache reads ahead over the bad block. That loses what it loses on every disk with a bad
/// sector, which is one made by the device mapper here, and nothing more.
fn readahead_over_it() {
    let bad = 37;
    let (image, bytes) = damaged_of(128, 133, &[bad]);
    let scratch = Scratch::new();
    let below = Loop::new(&scratch.file("disk", &image.disk));
    let sector = (bad * BLOCK / 512) as u64;
    let other = Failing::new(&below.path(), sector..sector + 8);
    let module = image.attach(&bytes, "");
    for kib in [0, 16, 128, 4096] {
        let found = cached(DEVICE, "vbd0", kib, &image);
        let usual = cached(&other.path(), &other.disk(), kib, &image);
        assert_eq!(found, usual, "with {kib} KiB ahead");
        if kib == 0 {
            assert_eq!(found, (vec![bad as u64], bad * BLOCK, vec![bad as u64]));
        }
        assert!(
            found.0.contains(&(bad as u64)) && found.0.len() < 64,
            "{found:?}"
        );
        // Whatever the cache made of it, the block's neighbours are there.
        image.check(&[bad]);
    }
    module.unload();
}

fn several_in_a_row() {
    let bad = [0, 20, 21, 22, 64, 66, 255, 256, BLOCKS - 1];
    let (image, bytes) = damaged(134, &bad);
    let module = image.attach(&bytes, "");
    image.check(&bad);
    let file = read::direct(DEVICE);
    let mut rng = Rng(134);
    for _ in 0..200 {
        let start = rng.below(BLOCKS as u64);
        let blocks = (1 + rng.below(40)).min(BLOCKS as u64 - start);
        check(
            &image,
            &bad,
            &file,
            start * BLOCK as u64,
            blocks as usize * BLOCK,
        );
    }
    drop(file);
    module.unload();
}

/// A block of 64 KiB is bad as a whole, up to its edges.
fn large_blocks() {
    use vbd_tests_host::{lsmt, zfile};
    let disk = content::disk(135, 1 << 20);
    let records = [lsmt::Record::data(0, 2048, 8)];
    let layer = lsmt::Spec::new(1 << 20, disk.clone(), &records).build();
    for algorithm in [1, 2] {
        let spec = zfile::Spec::of(&layer, algorithm, 65_536);
        let mut bytes = spec.build();
        let at: usize = 512
            + spec.blocks[..3]
                .iter()
                .map(|block| block.len() + 4)
                .sum::<usize>();
        bytes[at + 9] ^= 1;
        let image = Image::new(disk.clone(), 1);
        let module = image.attach(&bytes, "");
        let file = read::direct(DEVICE);
        // The layer's bytes begin a page before the disk's.
        let bad = 3 * 65_536 - 4096..4 * 65_536 - 4096_u64;
        for offset in (0..1 << 20).step_by(512) {
            if bad.contains(&offset) {
                read::check_eio(&file, offset, 512);
            } else if offset % 3584 == 0 || offset + 512 == bad.start || offset == bad.end {
                read::check(&file, &disk, offset, 512);
            }
        }
        read::check(&file, &disk, 0, usize::try_from(bad.start).unwrap());
        read::check(
            &file,
            &disk,
            bad.end,
            (1 << 20) - usize::try_from(bad.end).unwrap(),
        );
        drop(file);
        module.unload();
    }
}

/// Good and bad reads at the same time: each gets what it should.
fn side_by_side() {
    let bad = [17, 18, 200, 311];
    let (image, bytes) = damaged(136, &bad);
    let module = image.attach(&bytes, "");
    read::read_ahead("vbd0", 0);
    thread::scope(|scope| {
        for number in 0..6 {
            let image = &image;
            scope.spawn(move || {
                let direct = number % 2 == 0;
                let file = if direct {
                    read::direct(DEVICE)
                } else {
                    read::buffered(DEVICE)
                };
                let mut rng = Rng(137 + number);
                for _ in 0..150 {
                    let near = bad[rng.below(4) as usize] as u64;
                    let start = (near + rng.below(16)).saturating_sub(8);
                    let most = if direct { 8 } else { 1 };
                    let blocks = 1 + rng.below(most);
                    check(
                        image,
                        &bad,
                        &file,
                        start * BLOCK as u64,
                        blocks as usize * BLOCK,
                    );
                    if number == 1 && rng.below(8) == 0 {
                        read::drop_caches();
                    }
                }
            });
        }
    });
    image.check(&bad);
    module.unload();
}
