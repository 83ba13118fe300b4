// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers of every variant that `vbdctl create` makes, as disks that hold what went in.

use super::support::device::{self, Module, DEVICE};
use super::support::scratch::Scratch;
use super::support::{content, layers, read};
use crate::case::Case;
use std::path::PathBuf;
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::rng::Rng;

macro_rules! compressed {
    ($($name:ident: $format:literal $block:literal;)*) => {
        &[$(Case { name: stringify!($name), run: || compressed($format, $block) },)*]
    };
}

/// Compressed formats in all block sizes.
pub(super) const COMPRESSED: &[Case] = compressed! {
        lz4_512: "lz4" "512";
        lz4_1k: "lz4" "1K";
            lz4_4k: "lz4" "4K";
            lz4_16k: "lz4" "16K";
            lz4_64k: "lz4" "64K";
        zstd_512: "zstd" "512";
        zstd_1k: "zstd" "1K";
            zstd_4k: "zstd" "4K";
            zstd_16k: "zstd" "16K";
            zstd_64k: "zstd" "64K";
};

/// What is special about sizes and contents.
pub(super) const CASES: &[Case] = crate::cases::cases![
    plain,
    zstd_levels,
    incompressible,
    based_on_others,
    sizes_between_pages,
    sizes_between_sectors,
    short_last_block,
    empty,
    empty_below_and_above,
    grown_and_shrunk,
    size_parameter,
];

/// Attaches layers and compares the whole disk, through the cache and past it.
fn compare(layers: &[PathBuf], parameters: &str, disk: &[u8]) {
    let module = Module::stack(layers, parameters);
    read::check_all(DEVICE, disk);
    let file = read::direct(DEVICE);
    for (number, want) in disk.chunks(768 << 10).enumerate() {
        read::check(&file, disk, number as u64 * (768 << 10), want.len());
    }
    drop(file);
    assert_eq!(module.faults(), device::Faults::default());
    module.unload();
}

/// One layer of a disk, made with `options`.
fn one(scratch: &Scratch, disk: &[u8], options: &[&str]) {
    let layer = layers::create(scratch, "layer", disk, options);
    compare(std::slice::from_ref(&layer), "", disk);
    std::fs::remove_file(layer).expect("the layer goes");
}

/// A disk of some of everything, with an end inside of a page.
fn sample(seed: u64) -> Vec<u8> {
    content::disk(seed, (640 << 10) + 512)
}

fn compressed(format: &str, block: &str) {
    let scratch = Scratch::new();
    let disk = sample(1);
    let format = format!("--format={format}");
    let block = format!("--block-size={block}");
    for more in [
        &[][..],
        &["--no-crc"],
        &["--tar"],
        &["--no-crc", "--tar"],
        &["--trailer-only"],
        &["--trailer-only", "--no-crc", "--tar"],
    ] {
        let mut options = vec![format.as_str(), block.as_str()];
        options.extend(more);
        one(&scratch, &disk, &options);
    }
}

fn plain() {
    let scratch = Scratch::new();
    for more in [&["--format=plain"][..], &["--format=plain", "--tar"]] {
        one(&scratch, &sample(2), more);
    }
    let memory = Scratch::in_memory();
    one(&memory, &sample(2), &["--format=plain"]);
}

fn zstd_levels() {
    let scratch = Scratch::new();
    // Long windows and repeated offsets come with high levels only.
    for level in ["--level=1", "--level=19", "--level=22"] {
        one(
            &scratch,
            &sample(3),
            &["--format=zstd", "--block-size=64K", level],
        );
    }
}

fn incompressible() {
    let scratch = Scratch::new();
    let disk = Rng(4).noise(512 << 10);
    for format in ["lz4", "zstd"] {
        for block in ["512", "4K", "64K"] {
            let format = format!("--format={format}");
            let block = format!("--block-size={block}");
            one(&scratch, &disk, &[&format, &block]);
        }
    }
}

fn based_on_others() {
    let scratch = Scratch::new();
    let variants: &[&[&str]] = &[
        &["--format=lz4", "--tar"],
        &["--format=plain"],
        &["--format=zstd", "--block-size=64K"],
        &["--format=lz4", "--block-size=512", "--no-crc"],
        &["--format=plain", "--tar"],
        &["--format=zstd", "--block-size=1K", "--trailer-only"],
        &["--format=lz4", "--block-size=64K"],
    ];
    let mut disks = vec![content::disk(5, 2 << 20)];
    for seed in 6..12 {
        let mut disk = disks[disks.len() - 1].clone();
        content::change(&mut disk, seed, 40, 24);
        disks.push(disk);
    }
    let layers = layers::stack(&scratch, &disks, variants);
    // Every height of the stack is a disk of its own.
    for height in 1..=layers.len() {
        compare(&layers[..height], "", &disks[height - 1]);
    }
}

fn sizes_between_pages() {
    let scratch = Scratch::new();
    for sectors in [1, 2, 7, 9, 127, 129, 1025] {
        let disk = content::disk(sectors, sectors as usize * 512);
        one(&scratch, &disk, &["--format=plain"]);
        one(&scratch, &disk, &["--format=lz4"]);
        one(&scratch, &disk, &["--format=zstd", "--block-size=64K"]);
    }
}

/// A virtual size that is no multiple of 512: the disk has whole sectors, and what lies past the
/// virtual size is zero even where the layer has data.
fn sizes_between_sectors() {
    let scratch = Scratch::new();
    let data = Rng(9).noise(16 * 512);
    for odd in [1, 511, 513, 7 * 512 + 100] {
        let spec = Spec::new(odd, data.clone(), &[Record::data(0, 16, 8)]);
        let layer = scratch.file("odd", &spec.build());
        let odd = usize::try_from(odd).unwrap();
        let mut disk = data[..odd].to_vec();
        disk.resize(odd.next_multiple_of(512), 0);
        compare(&[layer], "", &disk);
    }
}

/// The last block is as short as the layer has it, down to a byte.
fn short_last_block() {
    let scratch = Scratch::new();
    let data = content::disk(10, 24 * 512);
    for junk in [1, 100, 511, 4095] {
        let mut spec = Spec::new(24 * 512, data.clone(), &[Record::data(0, 24, 8)]);
        spec.junk_after_index = vec![0x5a; junk];
        let plain = spec.build();
        for (algorithm, block) in [(1, 512), (2, 4096), (1, 65536)] {
            let file = vbd_tests_host::zfile::Spec::of(&plain, algorithm, block).build();
            let layer = scratch.file("short", &file);
            compare(&[layer], "", &data);
        }
    }
}

fn empty() {
    let scratch = Scratch::new();
    let disk = vec![0; 1 << 20];
    one(&scratch, &disk, &["--format=plain"]);
    one(&scratch, &disk, &["--format=lz4", "--tar"]);
    one(&scratch, &disk, &["--format=zstd"]);
}

fn empty_below_and_above() {
    let scratch = Scratch::new();
    let zero = vec![0; 1 << 20];
    let disk = content::disk(11, 1 << 20);
    let disks = [zero.clone(), disk.clone(), disk.clone(), zero];
    let variants: &[&[&str]] = &[&[], &["--format=zstd"], &["--format=plain"], &[]];
    let layers = layers::stack(&scratch, &disks, variants);
    for height in 1..=layers.len() {
        compare(&layers[..height], "", &disks[height - 1]);
    }
}

fn grown_and_shrunk() {
    let scratch = Scratch::new();
    let small = content::disk(12, 256 << 10);
    let mut grown = small.clone();
    grown.extend(content::disk(13, 512 << 10));
    let shrunk = grown[..(100 << 10) + 512].to_vec();
    let disks = [small, grown, shrunk];
    let layers = layers::stack(
        &scratch,
        &disks,
        &[&[], &["--format=plain"], &["--format=zstd"]],
    );
    for height in 1..=layers.len() {
        compare(&layers[..height], "", &disks[height - 1]);
    }
}

/// `size=` cuts the disk off, or goes on with zeroes.
fn size_parameter() {
    let scratch = Scratch::new();
    let disk = sample(14);
    let layer = layers::create(&scratch, "layer", &disk, &[]);
    let layer = std::slice::from_ref(&layer);
    for size in [
        512,
        4096,
        66_048,
        disk.len() - 512,
        disk.len(),
        disk.len() + 512,
        3 << 20,
    ] {
        let mut sized = disk.clone();
        sized.resize(size, 0);
        compare(layer, &format!("size={size}"), &sized);
    }
    compare(layer, "size=0", &disk);
}
