// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What create writes, the reader reads back: every format variant, every kind of content.

mod common;

use common::{assert_reads_as, make, temp_dir, Rng};
use std::path::PathBuf;
use vbd_format::zfile::Algorithm;
use vbdctl::image::{Compression, Options, Stack};

/// All compressions: plain, and each codec with each block size, with and without checksums.
fn compressions() -> Vec<(String, Option<Compression>)> {
    let mut all = vec![("plain".to_owned(), None)];
    for algorithm in [Algorithm::Lz4, Algorithm::Zstd] {
        for shift in 9..=16 {
            for block_crc in [true, false] {
                let block_size = 1 << shift;
                let name = format!("{}-{block_size}-crc-{block_crc}", algorithm.name());
                let compression = Compression {
                    block_size,
                    block_crc,
                    trailer_only: shift % 2 == 1,
                    jobs: shift % 3 + 1,
                    ..Compression::new(algorithm)
                };
                all.push((name, Some(compression)));
            }
        }
    }
    all
}

/// Kinds of images; none of the lengths is a multiple of a block, most not even of a sector.
fn images() -> Vec<(&'static str, Vec<u8>)> {
    let mut rng = Rng::new(1);
    let mut sparse = vec![0; 5 * 1024 * 1024 + 1536];
    for (at, len) in [(0, 10), (70_000, 3000), (1_000_001, 9000), (4_194_300, 8)] {
        sparse[at..at + len].copy_from_slice(&rng.text(len));
    }
    let last = sparse.len() - 1;
    sparse[last] = 7;
    let mut mixed = rng.text(150_000);
    mixed.extend(rng.noise(150_000));
    mixed.extend(vec![0; 150_000]);
    mixed.extend(rng.text(33));
    vec![
        ("sparse", sparse),
        ("dense", rng.text(200_000)),
        ("noise", rng.noise(333_333)),
        ("mixed", mixed),
        ("zeroes", vec![0; 100_000]),
        ("one-byte", vec![1]),
        ("empty", Vec::new()),
    ]
}

#[test]
fn every_variant_reads_back() {
    let dir = temp_dir();
    let images = images();
    for (name, compression) in compressions() {
        for (kind, image) in &images {
            for tar in [false, true] {
                let options = Options {
                    compression,
                    tar,
                    // An empty image has no size of its own; some others grow.
                    virtual_size: match *kind {
                        "empty" => Some(70_144),
                        "dense" => Some(1 << 20),
                        _ => None,
                    },
                    ..Options::default()
                };
                let (layer, created) = make(dir.path(), "layer", image, None, &options);
                let expected = options
                    .virtual_size
                    .unwrap_or((image.len() as u64).next_multiple_of(512));
                assert_eq!(created.virtual_size, expected, "{name} {kind}");
                let stack = Stack::open(&[&layer]).unwrap();
                assert_eq!(stack.virtual_size(), expected, "{name} {kind}");
                assert_reads_as(&stack, image, 3);
            }
        }
    }
}

#[test]
fn zeroes_are_holes_without_a_base() {
    let dir = temp_dir();
    let mut image = vec![0; 1 << 20];
    image[8192] = 1;
    image[500_000] = 1;
    let (layer, _) = make(dir.path(), "layer", &image, None, &Options::default());
    let stack = Stack::open(&[layer]).unwrap();
    let mapped = stack.mapped();
    assert_eq!(mapped.records, 2);
    assert_eq!(mapped.data_bytes, 8192);
    assert_eq!(mapped.zeroed_bytes, 0);
}

#[test]
fn long_images_get_records_of_whole_pages() {
    let dir = temp_dir();
    let image = Rng::new(2).text(20 << 20);
    let (layer, _) = make(dir.path(), "layer", &image, None, &Options::default());
    let stack = Stack::open(&[layer]).unwrap();
    let lengths: Vec<u64> = stack.index().iter().map(|s| s.sectors()).collect();
    assert_eq!(lengths, [16376, 16376, 40960 - 2 * 16376]);
}

/// Changes some of `disk` at random, and its size.
fn change(rng: &mut Rng, disk: &mut Vec<u8>) {
    let size = 1_000_000 + rng.below(3_000_000) as usize;
    disk.resize(size, 0);
    for _ in 0..rng.below(40) {
        let at = rng.below(size as u64) as usize;
        let len = (1 << rng.below(18)).min(size - at);
        let new = match rng.below(3) {
            0 => vec![0; len],
            1 => rng.noise(len),
            _ => rng.text(len),
        };
        disk[at..at + len].copy_from_slice(&new);
    }
}

#[test]
fn stacks_of_three_layers_equal_a_flat_model() {
    let dir = temp_dir();
    let compressions = compressions();
    for seed in 0..40 {
        let mut rng = Rng::new(seed + 100);
        let mut disk = Vec::new();
        let mut files: Vec<PathBuf> = Vec::new();
        for number in 0..3 {
            change(&mut rng, &mut disk);
            let (_, compression) = compressions[rng.below(compressions.len() as u64) as usize];
            let options = Options {
                compression,
                tar: rng.below(2) == 0,
                ..Options::default()
            };
            let base = (number > 0).then(|| Stack::open(&files).unwrap());
            let name = format!("layer{number}");
            let (layer, _) = make(dir.path(), &name, &disk, base.as_ref(), &options);
            files.push(layer);
            let stack = Stack::open(&files).unwrap();
            assert_reads_as(&stack, &disk, seed);
        }
    }
}

#[test]
fn a_base_leaves_only_what_differs() {
    let dir = temp_dir();
    let mut rng = Rng::new(5);
    let mut disk = rng.text(1 << 20);
    // A hole in the base.
    disk[200_704..300_032].fill(0);
    let (bottom, created) = make(dir.path(), "bottom", &disk, None, &Options::default());
    let base = Stack::open(&[&bottom]).unwrap();

    disk[1000] ^= 1;
    disk[10_240..20_480].fill(0);
    disk[250_000] = 9;
    let (top, _) = make(dir.path(), "top", &disk, Some(&base), &Options::default());
    let stack = Stack::open(&[bottom, top]).unwrap();
    assert_reads_as(&stack, &disk, 6);

    let layer = &stack.layers()[1];
    assert_eq!(layer.contents.records, 3);
    assert_eq!(layer.contents.data_bytes, 1024);
    assert_eq!(layer.contents.zeroed_bytes, 10_240);
    assert_eq!(layer.lsmt.trailer.parent_uuid, created.uuid);
    assert_eq!(layer.lsmt.trailer.version, 1);
}

#[test]
fn an_unchanged_image_makes_an_empty_layer() {
    let dir = temp_dir();
    let disk = Rng::new(7).noise(100_000);
    let (bottom, _) = make(dir.path(), "bottom", &disk, None, &Options::default());
    let base = Stack::open(&[&bottom]).unwrap();
    let (top, created) = make(dir.path(), "top", &disk, Some(&base), &Options::default());
    assert_eq!(created.file_size, 8192);
    let stack = Stack::open(&[bottom, top]).unwrap();
    assert_eq!(stack.layers()[1].contents.records, 0);
    assert_reads_as(&stack, &disk, 8);
}

#[test]
fn growing_does_not_bring_back_what_a_smaller_layer_hid() {
    let dir = temp_dir();
    let options = Options::default();
    let big = Rng::new(9).noise(1 << 20);
    let (bottom, _) = make(dir.path(), "bottom", &big, None, &options);
    let base = Stack::open(&[&bottom]).unwrap();
    let small = &big[..100_352];
    let (middle, _) = make(dir.path(), "middle", small, Some(&base), &options);
    let base = Stack::open(&[&bottom, &middle]).unwrap();
    assert_eq!(base.virtual_size(), 100_352);
    let mut grown = small.to_vec();
    grown.resize(1 << 20, 0);
    let (top, _) = make(dir.path(), "top", &grown, Some(&base), &options);
    let stack = Stack::open(&[bottom, middle, top]).unwrap();
    assert_reads_as(&stack, &grown, 10);
}

#[test]
fn equal_input_makes_equal_bytes_whatever_the_jobs() {
    let dir = temp_dir();
    let mut rng = Rng::new(11);
    let mut image = rng.text(3 << 20);
    image.extend(rng.noise(100_001));
    for algorithm in [Algorithm::Lz4, Algorithm::Zstd] {
        let made: Vec<Vec<u8>> = [1, 2, 7]
            .into_iter()
            .map(|jobs| {
                let options = Options {
                    compression: Some(Compression {
                        jobs,
                        ..Compression::new(algorithm)
                    }),
                    tar: true,
                    ..Options::default()
                };
                let (layer, _) = make(dir.path(), "layer", &image, None, &options);
                std::fs::read(layer).unwrap()
            })
            .collect();
        assert!(made[0] == made[1] && made[0] == made[2], "{algorithm:?}");
    }
}

#[test]
fn uuids_follow_the_contents() {
    let dir = temp_dir();
    let options = Options::default();
    let (_, one) = make(dir.path(), "one", &[1; 512], None, &options);
    let (_, two) = make(dir.path(), "two", &[2; 512], None, &options);
    let compressed = Options {
        compression: Some(Compression::new(Algorithm::Zstd)),
        ..Options::default()
    };
    let (_, again) = make(dir.path(), "again", &[1; 512], None, &compressed);
    assert_ne!(one.uuid, two.uuid);
    // Compression is not part of a layer's contents.
    assert_eq!(one.uuid, again.uuid);
}
