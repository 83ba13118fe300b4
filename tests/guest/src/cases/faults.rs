// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Trouble that is not the image's: storage and memory that fail, wait, change or go away.

pub(super) mod memory;
pub(super) mod requests;
pub(super) mod shortage;
pub(super) mod storage;
pub(super) mod surroundings;

use super::support::scratch::Scratch;
use super::support::{content, layers};
use std::path::PathBuf;

/// A stack that uses every way of storing: both codecs, an archive, plain data. Returns the disk and
/// its layers.
fn mixed(scratch: &Scratch, seed: u64, bytes: usize) -> (Vec<u8>, Vec<PathBuf>) {
    let mut disks = vec![content::disk(seed, bytes)];
    for number in 1..3 {
        let mut disk = disks[disks.len() - 1].clone();
        content::change(&mut disk, seed + number, 20, 16);
        disks.push(disk);
    }
    let variants: &[&[&str]] = &[
        &["--format=lz4", "--tar"],
        &["--format=zstd", "--block-size=64K"],
        &["--format=plain"],
    ];
    let layers = layers::stack(scratch, &disks, variants);
    (disks.pop().expect("the top disk"), layers)
}
