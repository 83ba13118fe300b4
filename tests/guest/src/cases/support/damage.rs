// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Compressed layers whose blocks can be damaged one by one.

use super::device::{Module, DEVICE};
use super::read;
use super::scratch::Scratch;
use std::path::PathBuf;
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::zfile;

/// Bytes in a block.
pub(crate) const BLOCK: usize = 4096;

/// A disk in one layer of 4 KiB blocks: block `k` of the disk is block `k + 1` of the ZFile, since
/// the layer's header takes the first one.
pub(crate) struct Image {
    pub(crate) disk: Vec<u8>,
    pub(crate) zfile: zfile::Spec,
    scratch: Scratch,
}

impl Image {
    /// `algorithm` is the number on disk: 1 = LZ4, 2 = ZSTD.
    pub(crate) fn new(disk: Vec<u8>, algorithm: u8) -> Image {
        assert_eq!(disk.len() % BLOCK, 0);
        let sectors = disk.len() as u64 / 512;
        let mut records = Vec::new();
        // A record holds 14 bits of length.
        for first in (0..sectors).step_by(16_376) {
            let length = (sectors - first).min(16_376);
            records.push(Record::data(first, length, 8 + first));
        }
        let layer = Spec::new(disk.len() as u64, disk.clone(), &records).build();
        let block = u32::try_from(BLOCK).unwrap();
        Image {
            disk,
            zfile: zfile::Spec::of(&layer, algorithm, block),
            scratch: Scratch::new(),
        }
    }

    /// Number of blocks on the disk.
    pub(crate) fn blocks(&self) -> usize {
        self.disk.len() / BLOCK
    }

    /// The compressed bytes of a block of the disk.
    pub(crate) fn block_mut(&mut self, block: usize) -> &mut Vec<u8> {
        &mut self.zfile.blocks[block + 1]
    }

    /// Byte of the file at which a block of the disk is stored.
    pub(crate) fn stored_at(&self, block: usize) -> usize {
        let crc = if self.zfile.verify == 0 { 0 } else { 4 };
        let before = self.zfile.blocks[..=block].iter();
        512 + before.map(|stored| stored.len() + crc).sum::<usize>()
    }

    /// Byte of a block's entry in the jump table.
    pub(crate) fn entry_at(&self, block: usize) -> usize {
        usize::try_from(self.zfile.table_at()).unwrap() + (block + 1) * 4
    }

    /// The file's bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        self.zfile.build()
    }

    /// Writes a layer file of these bytes.
    pub(crate) fn file(&self, bytes: &[u8]) -> PathBuf {
        self.scratch.file("layer", bytes)
    }

    /// Path of that file.
    pub(crate) fn path(&self) -> PathBuf {
        self.scratch.join("layer")
    }

    /// Attaches a layer of these bytes.
    pub(crate) fn attach(&self, bytes: &[u8], more: &str) -> Module {
        Module::stack(&[self.file(bytes)], more)
    }

    /// Reads every block of the disk by itself, in all ways: the bad ones fail and no others.
    #[track_caller]
    pub(crate) fn check(&self, bad: &[usize]) {
        check_blocks(&self.disk, |block| bad.contains(&block));
    }
}

/// Reads every block of a disk by itself, which has to fail for the bad ones and for no other: past
/// the cache, and page by page through it.
#[track_caller]
pub(crate) fn check_blocks(disk: &[u8], bad: impl Fn(usize) -> bool) {
    read::read_ahead("vbd0", 0);
    read::drop_caches();
    for file in [read::direct(DEVICE), read::buffered(DEVICE)] {
        for block in 0..disk.len() / BLOCK {
            let at = (block * BLOCK) as u64;
            if bad(block) {
                read::check_eio(&file, at, BLOCK);
            } else {
                read::check(&file, disk, at, BLOCK);
            }
        }
    }
}
