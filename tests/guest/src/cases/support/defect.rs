// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers with one defect each, and what has to be said of it.

use super::damage::{Image, BLOCK};
use std::ops::Range;
use vbd_tests_host::codec::encode;
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::rng::Rng;

/// Blocks of the disk.
const BLOCKS: usize = 64;

/// The one that cannot be read.
const BAD: usize = 21;

/// A layer that is good but for one block.
pub(crate) struct Defect {
    pub(crate) name: &'static str,
    /// The layer's file, in whole pages.
    pub(crate) file: Vec<u8>,
    pub(crate) cause: Cause,
    /// What is said after the layer's name.
    pub(crate) rule: String,
}

/// What makes the block bad.
pub(crate) enum Cause {
    /// Its bytes.
    Bytes,
    /// The file is cut to so many bytes, in whole sectors, once it is in use.
    Cut(u64),
    /// Sectors of the file that cannot be read.
    Sectors(Range<u64>),
}

/// Bytes of the disk that cannot be read.
pub(crate) fn bad() -> Range<usize> {
    BAD * BLOCK..(BAD + 1) * BLOCK
}

/// A layer that belongs below, so that the defect does not lie in layer 0.
pub(crate) fn bottom() -> Vec<u8> {
    let size = (BLOCKS * BLOCK) as u64;
    Spec::new(size, vec![1; 512], &[Record::data(0, 1, 8)]).build()
}

/// One of each kind.
pub(crate) fn all() -> Vec<Defect> {
    [compressed(), plain()].into_iter().flatten().collect()
}

fn early(offset: u64) -> String {
    format!("file offset {offset}: the file ends early (truncated)")
}

fn failed(offset: u64) -> String {
    format!("file offset {offset}: read failed (EIO)")
}

/// The sectors of the page in which a byte lies.
fn page(offset: u64) -> Range<u64> {
    let first = offset / 4096 * 8;
    first..first + 8
}

fn compressed() -> Vec<Defect> {
    let image = || Image::new(Rng(151).noise(BLOCKS * BLOCK), 1);
    let whole_pages = |image: &mut Image| {
        let size = image.build().len();
        image.zfile.junk_before_table = vec![0; size.next_multiple_of(4096) - size];
        image.build()
    };
    let at = image().stored_at(BAD) as u64;
    let of_block = |rule: &str| format!("zfile offset {at}: {rule} (found {})", BAD + 1);

    let good = whole_pages(&mut image());
    let mut flipped = good.clone();
    flipped[usize::try_from(at).unwrap() + 100] ^= 4;
    let mut short = image();
    *short.block_mut(BAD) = encode(1, &Rng(152).noise(BLOCK - 1));
    // The block begins before the end, and does not reach so far.
    let cut = (at + 1).next_multiple_of(512);
    let defect = |name, file, cause, rule| Defect {
        name,
        file,
        cause,
        rule,
    };
    vec![
        defect(
            "a checksum",
            flipped,
            Cause::Bytes,
            of_block("block checksum does not match"),
        ),
        defect(
            "a length",
            whole_pages(&mut short),
            Cause::Bytes,
            of_block("block decompresses to a wrong length"),
        ),
        defect("a cut ZFile", good.clone(), Cause::Cut(cut), early(cut)),
        defect(
            "a ZFile's storage",
            good,
            Cause::Sectors(page(at)),
            failed(at),
        ),
    ]
}

fn plain() -> Vec<Defect> {
    let disk = Rng(153).noise(BLOCKS * BLOCK);
    let sectors = disk.len() as u64 / 512;
    let records = [Record::data(0, sectors, 8)];
    let mut spec = Spec::new(disk.len() as u64, disk, &records);
    spec.junk_after_index = vec![0; 4096 - 16];
    let file = spec.build();
    let at = (4096 + BAD * BLOCK) as u64;
    vec![
        Defect {
            name: "a cut file",
            file: file.clone(),
            cause: Cause::Cut(at + 1024),
            rule: early(at + 1024),
        },
        Defect {
            name: "a file's storage",
            file,
            cause: Cause::Sectors(page(at)),
            rule: failed(at),
        },
    ]
}
