// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Damaged layers: each defect is found at its place, and none hides another.

mod common;

use common::{make, temp_dir, Rng};
use std::fs;
use std::path::{Path, PathBuf};
use vbd_format::zfile::Algorithm;
use vbd_format::Checksum as _;
use vbdctl::image::check::{check, findings::Finding, Report};
use vbdctl::image::codec::Crc;
use vbdctl::image::{Compression, Layer, Options};

const BLOCK: usize = 4096;

fn report(path: &Path) -> Report {
    check(&[path], 2, &mut |_| {}, &mut |_| {})
}

/// Rule and offset of each defect.
fn defects(path: &Path) -> Vec<(&'static str, u64)> {
    let report = report(path);
    let defects: Vec<&Finding> = report.findings.iter().filter(|f| f.defect).collect();
    assert_eq!(report.defects as usize, defects.len());
    assert_eq!(report.ok, defects.is_empty());
    let place = |finding: &&Finding| (finding.rule, finding.offset);
    defects.iter().map(place).collect()
}

/// A layer of 64 blocks of data, half of which compress, and its bytes.
fn layer(dir: &Path, options: &Options) -> (PathBuf, Vec<u8>) {
    let mut rng = Rng::new(1);
    let mut disk = Vec::new();
    for _ in 0..32 {
        disk.extend(rng.noise(BLOCK));
        disk.extend(rng.text(BLOCK));
    }
    let (path, _) = make(dir, "layer", &disk, None, options);
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

fn compressed(trailer_only: bool, block_crc: bool) -> Options {
    Options {
        compression: Some(Compression {
            trailer_only,
            block_crc,
            ..Compression::new(Algorithm::Lz4)
        }),
        ..Options::default()
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Stored places of the blocks of the ZFile `bytes`, and where its jump table is.
fn places(bytes: &[u8]) -> (Vec<(usize, usize)>, usize) {
    let end = bytes.len() - 512;
    let (table, count) = (u64_at(bytes, end + 40), u64_at(bytes, end + 48));
    let mut offset = 512;
    let places = (0..count as usize).map(|block| {
        let entry = &bytes[table as usize + 4 * block..][..4];
        let len = u32::from_le_bytes(entry.try_into().unwrap()) as usize;
        offset += len;
        (offset - len, len)
    });
    (places.collect(), table as usize)
}

/// Sets the digest of the structure at byte `at` right.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at + 28..at + 32].fill(0);
    let sum = Crc.crc32c(0, &bytes[at..at + 512]);
    bytes[at + 28..at + 32].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn sound_layers_have_no_defects() {
    let dir = temp_dir();
    for options in [
        Options::default(),
        compressed(false, true),
        compressed(true, false),
    ] {
        for tar in [false, true] {
            let (path, _) = layer(
                dir.path(),
                &Options {
                    tar,
                    ..options.clone()
                },
            );
            assert_eq!(defects(&path), []);
            let report = report(&path);
            assert_eq!(
                report.notes,
                u64::from(options.compression.is_some_and(|c| !c.block_crc))
            );
            let blocks = if options.compression.is_some() { 67 } else { 0 };
            assert_eq!(report.layers[0].blocks, blocks);
            assert_eq!(report.layers[0].records, 1);
        }
    }
}

#[test]
fn every_damaged_block_is_told() {
    let dir = temp_dir();
    let (path, mut bytes) = layer(dir.path(), &compressed(false, true));
    let (places, _) = places(&bytes);
    let hit = [0, 7, 8, 30, 63];
    for block in hit {
        bytes[places[block].0 + 10] ^= 0x40;
    }
    fs::write(&path, &bytes).unwrap();
    let want: Vec<_> = hit
        .iter()
        .map(|&block| ("ZFileBlockCrc", places[block].0 as u64))
        .collect();
    assert_eq!(defects(&path), want);
    // The header of the layer lies in block 0.
    let notes: Vec<_> = report(&path)
        .findings
        .into_iter()
        .filter(|f| !f.defect)
        .collect();
    assert_eq!(notes.len(), 1);
    assert_eq!((notes[0].rule, notes[0].part), ("NotVerified", "lsmt"));
}

#[test]
fn a_damaged_jump_table_hides_one_block() {
    let dir = temp_dir();
    let (path, good) = layer(dir.path(), &compressed(false, true));
    let (places, table) = places(&good);
    for damaged in [0, 1, 33, 66] {
        for value in [0, 4, 5000, u32::MAX] {
            let mut bytes = good.clone();
            bytes[table + 4 * damaged..][..4].copy_from_slice(&value.to_le_bytes());
            // Behind the entry and before it blocks are verified all the same.
            bytes[places[20].0 + 10] ^= 1;
            bytes[places[50].0 + 10] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let found = defects(&path);
            assert_eq!(
                found[..2],
                [
                    ("ZFileStoredLength", (table + 4 * damaged) as u64),
                    ("ZFileTableCrc", table as u64)
                ]
            );
            assert_eq!(
                found[2..],
                [
                    ("ZFileBlockCrc", places[20].0 as u64),
                    ("ZFileBlockCrc", places[50].0 as u64)
                ],
                "{damaged} {value}"
            );
            let report = report(&path);
            assert_eq!(report.layers[0].blocks, 66);
            assert!(report
                .findings
                .iter()
                .any(|f| f.rule == "NotLocated" && f.found == "1"));
        }
    }
}

#[test]
fn header_and_trailer_are_held_against_each_other() {
    let dir = temp_dir();
    let (path, good) = layer(dir.path(), &compressed(false, true));
    let trailer = good.len() - 512;
    let told = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        defects(&path)
    };
    let at = trailer as u64;
    assert_eq!(told(&|b| b[28] ^= 1), [("ZFileDigest", 28)]);
    assert_eq!(told(&|b| b[300] ^= 1), [("ZFileDigest", 28)]);
    assert_eq!(told(&|b| b[trailer + 300] ^= 1), [("ZFileDigest", at + 28)]);
    assert_eq!(told(&|b| b[trailer] ^= 1), [("NoTrailer", at)]);
    assert_eq!(told(&|b| b.truncate(trailer)), [("NoTrailer", at)]);
    assert_eq!(
        told(&|b| {
            b[trailer + 56] ^= 1;
            b[trailer + 72] ^= 1;
            seal(b, trailer);
        }),
        [("TrailerDiffers", at + 56), ("TrailerDiffers", at + 72)]
    );
    assert_eq!(
        told(&|b| {
            b[trailer + 32] &= !4;
            seal(b, trailer);
        }),
        [("ZFileTrailerFlags", at + 32)]
    );
}

#[test]
fn an_lz4_match_of_distance_0_is_told() {
    let dir = temp_dir();
    let (path, mut bytes) = layer(dir.path(), &compressed(false, false));
    let (places, _) = places(&bytes);
    // Block 2 is text: its first match follows the literals that its token counts.
    let (start, len) = places[2];
    let mut at = start + 1;
    let mut literals = usize::from(bytes[start] >> 4);
    if literals == 15 {
        while bytes[at] == 255 {
            literals += 255;
            at += 1;
        }
        literals += usize::from(bytes[at]);
        at += 1;
    }
    at += literals;
    assert!(at < start + len);
    bytes[at..at + 2].fill(0);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(defects(&path), [("ZFileBlockUndefined", start as u64)]);
}

#[test]
fn every_bad_record_of_a_plain_layer_is_told() {
    let dir = temp_dir();
    let mut disk = vec![0; 1 << 20];
    for page in (0..256).step_by(2) {
        disk[page * BLOCK] = 1;
    }
    let (path, _) = make(dir.path(), "layer", &disk, None, &Options::default());
    let mut bytes = fs::read(&path).unwrap();
    let trailer = bytes.len() - 4096;
    let index = u64_at(&bytes, trailer + 32) as usize;
    // The 3rd record lies before the 2nd; the 10th and the last point past the data.
    let second = u64_at(&bytes, index + 16);
    bytes[index + 2 * 16..][..8].copy_from_slice(&(second - 1).to_le_bytes());
    for record in [9, 127] {
        bytes[index + record * 16 + 8..][..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    }
    // And the size is one that no disk has.
    bytes[trailer + 48 + 7] = 0x40;
    fs::write(&path, &bytes).unwrap();
    let at = |record: usize| (index + record * 16) as u64;
    assert_eq!(
        defects(&path),
        [
            ("LsmtSizeLimit", trailer as u64 + 48),
            ("LsmtOrder", at(2)),
            ("LsmtRange", at(9)),
            ("LsmtRange", at(127)),
        ]
    );

    // A header that is gone does not keep the rest from being looked at.
    bytes[0] = 0;
    bytes[28] = 0;
    fs::write(&path, &bytes).unwrap();
    let found = defects(&path);
    assert_eq!(
        found[..2],
        [("LsmtHeaderMagic", 0), ("LsmtHeaderFlags", 28)]
    );
    assert_eq!(found.len(), 6);
}

#[test]
fn tar_wrappers_are_looked_at() {
    let dir = temp_dir();
    let options = Options {
        tar: true,
        ..compressed(false, true)
    };
    let (path, good) = layer(dir.path(), &options);
    // Another size in the ustar header, with a right checksum of it.
    let mut bytes = good.clone();
    let digit = 1024 + 124 + 10;
    let old = bytes[digit];
    bytes[digit] = if old == b'0' { b'1' } else { old - 1 };
    fs::write(&path, &bytes).unwrap();
    assert_eq!(defects(&path), [("TarSizesDiffer", 1024 + 124)]);

    let cut = &good[..good.len() - 1024];
    fs::write(&path, cut).unwrap();
    let found = report(&path);
    assert!(found.ok);
    assert_eq!(found.findings[0].rule, "TarEnd");

    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert_eq!(defects(&path), [("TarPayloadBounds", 124)]);
}

#[test]
fn stacks_are_looked_at_as_a_whole() {
    let dir = temp_dir();
    let sized = |size| Options {
        virtual_size: Some(size),
        ..Options::default()
    };
    let (a, _) = make(dir.path(), "a", &[1; 512], None, &sized(1 << 20));
    let base = vbdctl::image::Stack::open(&[&a]).unwrap();
    let (b, _) = make(dir.path(), "b", &[2; 512], Some(&base), &sized(1 << 21));
    let rules = |paths: &[&PathBuf]| -> Vec<(&'static str, bool)> {
        let report = check(paths, 1, &mut |_| {}, &mut |_| {});
        let rule = |finding: &Finding| (finding.rule, finding.defect);
        report.findings.iter().map(rule).collect()
    };
    assert_eq!(rules(&[&a, &b]), [("SizesDiffer", false)]);
    assert_eq!(rules(&[&b, &b]), [("ParentDiffers", false)]);
    assert_eq!(rules(&vec![&a; 256]), [("StackLayers", true)]);
    let missing = dir.path().join("missing");
    assert_eq!(rules(&[&missing, &b]), [("Unreadable", true)]);

    let mut bytes = fs::read(&a).unwrap();
    let trailer = bytes.len() - 4096;
    bytes[trailer + 48..trailer + 56].fill(0);
    fs::write(&a, &bytes).unwrap();
    assert_eq!(rules(&[&a]), [("StackNoSize", true)]);
}

#[test]
fn random_damage_is_told_whenever_a_reader_would_notice() {
    let dir = temp_dir();
    for options in [compressed(false, true), compressed(true, true)] {
        let (path, good) = layer(dir.path(), &options);
        let mut rng = Rng::new(9);
        for _ in 0..150 {
            let mut bytes = good.clone();
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            fs::write(&path, &bytes).unwrap();
            let read = Layer::open(&path).and_then(|(layer, _)| {
                let mut all = vec![0; layer.lsmt_size() as usize];
                layer.reader().read_exact_at(0, &mut all)
            });
            let found = defects(&path);
            assert!(read.is_ok() || !found.is_empty(), "{read:?}");
            // Every byte of such a file is under some checksum.
            assert!(bytes == good || !found.is_empty());
        }
    }
}
