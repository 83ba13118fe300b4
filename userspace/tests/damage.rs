// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Damaged layers: an error or the right bytes, never wrong ones, never a panic.

mod common;

use common::{make, temp_dir, Rng};
use std::fs;
use std::path::Path;
use vbd_format::zfile::Algorithm;
use vbd_format::Rule;
use vbdctl::image::{Compression, Options, Stack};
use vbdctl::{Error, Result};

const BLOCK: usize = 4096;

fn disk() -> Vec<u8> {
    let mut rng = Rng::new(1);
    let mut disk = rng.text(3 * BLOCK);
    disk.extend(rng.noise(2 * BLOCK));
    disk
}

fn variants() -> Vec<Options> {
    let mut all = vec![Options::default()];
    for algorithm in [Algorithm::Lz4, Algorithm::Zstd] {
        for trailer_only in [false, true] {
            let compression = Compression {
                trailer_only,
                ..Compression::new(algorithm)
            };
            all.push(Options {
                compression: Some(compression),
                tar: trailer_only,
                ..Options::default()
            });
        }
    }
    all
}

fn read(path: &Path, size: usize) -> Result<Vec<u8>> {
    let stack = Stack::open(&[path])?;
    let mut bytes = vec![0xaa; size];
    stack.reader().read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn cut_off_layers_do_not_read_wrong() {
    let dir = temp_dir();
    let disk = disk();
    for options in variants() {
        let (path, _) = make(dir.path(), "layer", &disk, None, &options);
        let whole = fs::read(&path).unwrap();
        for len in (0..whole.len()).step_by(61) {
            fs::write(&path, &whole[..len]).unwrap();
            // A ZFile whose header has the numbers can do without its trailer.
            if let Ok(bytes) = read(&path, disk.len()) {
                assert!(bytes == disk, "{options:?} cut at {len}");
            }
        }
    }
}

#[test]
fn flipped_bits_do_not_read_wrong_where_checksums_are() {
    let dir = temp_dir();
    let disk = disk();
    for options in variants() {
        let (path, _) = make(dir.path(), "layer", &disk, None, &options);
        let mut bytes = fs::read(&path).unwrap();
        let mut refused = 0;
        for at in (0..bytes.len()).step_by(17) {
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            match read(&path, disk.len()) {
                Ok(found) => assert!(
                    // A plain layer has no checksums to find out by.
                    found == disk || options.compression.is_none(),
                    "{options:?} flipped at {at}"
                ),
                Err(_) => refused += 1,
            }
            bytes[at] ^= 1 << (at % 8);
        }
        assert!(refused > 0, "{options:?}");
    }
}

#[test]
fn a_damaged_block_is_named_and_spares_the_others() {
    let dir = temp_dir();
    let disk = disk();
    let options = Options {
        compression: Some(Compression::new(Algorithm::Lz4)),
        ..Options::default()
    };
    let (path, _) = make(dir.path(), "layer", &disk, None, &options);
    let mut bytes = fs::read(&path).unwrap();
    // The noise does not compress: its second block is found by its bytes.
    let noise = &disk[4 * BLOCK + 100..4 * BLOCK + 116];
    let at = bytes.windows(16).position(|w| w == noise).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let stack = Stack::open(&[&path]).unwrap();
    let mut reader = stack.reader();
    let mut block = vec![0; BLOCK];
    let error = reader.read_exact_at(4 * BLOCK as u64, &mut block);
    let Err(Error::Format { path: named, error }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(named, path);
    assert_eq!(error.rule, Rule::ZFileBlockCrc);
    assert!((error.offset as usize) < at && at < error.offset as usize + 4200);

    for good in 0..4 {
        reader
            .read_exact_at((good * BLOCK) as u64, &mut block)
            .unwrap();
        assert!(block == disk[good * BLOCK..(good + 1) * BLOCK]);
    }
    // And once more: a failed read leaves nothing behind.
    assert!(reader
        .read_exact_at(4 * BLOCK as u64 + 1, &mut block[..9])
        .is_err());

    // Without checksums the flipped bit of a literal comes through: that is what they are for.
    let mut unverified = stack.reader().verify(false);
    unverified
        .read_exact_at(4 * BLOCK as u64, &mut block)
        .unwrap();
    assert!(block != disk[4 * BLOCK..]);
}

#[test]
fn stacks_have_limits() {
    let dir = temp_dir();
    let (path, _) = make(dir.path(), "layer", &[1; 512], None, &Options::default());
    let error = Stack::open(&vec![&path; 256]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "stack offset 0: a stack has at most 255 layers (found 256)"
    );
    assert_eq!(Stack::open(&vec![&path; 255]).unwrap().layers().len(), 255);
    let none: [&Path; 0] = [];
    assert!(Stack::open(&none).is_err());
}
