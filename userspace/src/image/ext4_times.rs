// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Takes out of a new ext4 what depends on when, not on what: times of access and of change.
//!
//! mkfs.ext4 copies them from the directory, where reading a file alters them. Here each becomes the
//! time of the file's last modification, so that equal trees make equal images.

use super::codec::Crc;
use crate::error::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use vbd_format::Checksum as _;

const SUPERBLOCK_AT: u64 = 1024;
const MAGIC: u16 = 0xef53;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

/// Bytes of an inode without its extra part.
const SMALL_INODE: usize = 128;

/// The inode's fields, by their first byte.
const ACCESS: usize = 0x08;
const CHANGE: usize = 0x0c;
const MODIFICATION: usize = 0x10;
const GENERATION: usize = 0x64;
const CHECKSUM_LOW: usize = 0x7c;
const EXTRA_SIZE: usize = 0x80;
const CHECKSUM_HIGH: usize = 0x82;
const CHANGE_EXTRA: usize = 0x84;
const MODIFICATION_EXTRA: usize = 0x88;
const ACCESS_EXTRA: usize = 0x8c;

/// What the superblock says about where inodes are.
struct Layout {
    block_size: u64,
    inodes: u32,
    inodes_per_group: u32,
    inode_size: usize,
    descriptor_size: usize,
    /// Start of every inode's checksum, if there are checksums.
    seed: Option<u32>,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

impl Layout {
    /// Reads a superblock; [`None`] if it is none, or one that this code does not know.
    fn of(superblock: &[u8; 1024]) -> Option<Self> {
        let incompat = u32_at(superblock, 96);
        let wide = incompat & INCOMPAT_64BIT != 0;
        let seed = if incompat & INCOMPAT_CSUM_SEED != 0 {
            u32_at(superblock, 624)
        } else {
            Crc.crc32c(!0, &superblock[104..120])
        };
        let layout = Self {
            block_size: 1024u64.checked_shl(u32_at(superblock, 24))?,
            inodes: u32_at(superblock, 0),
            inodes_per_group: u32_at(superblock, 40),
            inode_size: usize::from(u16_at(superblock, 88)),
            descriptor_size: if wide {
                usize::from(u16_at(superblock, 254))
            } else {
                32
            },
            seed: (u32_at(superblock, 100) & RO_COMPAT_METADATA_CSUM != 0).then_some(seed),
        };
        let known = u16_at(superblock, 56) == MAGIC
            && incompat & INCOMPAT_META_BG == 0
            && layout.inodes_per_group != 0
            && layout.inode_size >= SMALL_INODE
            && layout.descriptor_size >= if wide { 64 } else { 32 };
        known.then_some(layout)
    }

    /// Byte at which the inode table begins whose group has this descriptor.
    fn table_at(&self, descriptor: &[u8]) -> u64 {
        let high = if descriptor.len() >= 64 {
            u64::from(u32_at(descriptor, 0x28))
        } else {
            0
        };
        (u64::from(u32_at(descriptor, 8)) | high << 32) * self.block_size
    }

    /// Settles the times of inode `number` and its checksum.
    fn settle(&self, number: u32, inode: &mut [u8]) {
        let extra = if inode.len() > SMALL_INODE {
            usize::from(u16_at(inode, EXTRA_SIZE))
        } else {
            0
        };
        let has = |field: usize| EXTRA_SIZE + extra >= field + 4;
        inode.copy_within(MODIFICATION..MODIFICATION + 4, ACCESS);
        inode.copy_within(MODIFICATION..MODIFICATION + 4, CHANGE);
        if has(MODIFICATION_EXTRA) {
            inode.copy_within(MODIFICATION_EXTRA..MODIFICATION_EXTRA + 4, CHANGE_EXTRA);
            if has(ACCESS_EXTRA) {
                inode.copy_within(MODIFICATION_EXTRA..MODIFICATION_EXTRA + 4, ACCESS_EXTRA);
            }
        }

        let Some(seed) = self.seed else {
            return;
        };
        let high = has(CHECKSUM_HIGH - 2);
        inode[CHECKSUM_LOW..CHECKSUM_LOW + 2].fill(0);
        if high {
            inode[CHECKSUM_HIGH..CHECKSUM_HIGH + 2].fill(0);
        }
        let sum = Crc.crc32c(seed, &number.to_le_bytes());
        let sum = Crc.crc32c(sum, &inode[GENERATION..GENERATION + 4]);
        let [a, b, c, d] = Crc.crc32c(sum, inode).to_le_bytes();
        inode[CHECKSUM_LOW..CHECKSUM_LOW + 2].copy_from_slice(&[a, b]);
        if high {
            inode[CHECKSUM_HIGH..CHECKSUM_HIGH + 2].copy_from_slice(&[c, d]);
        }
    }
}

/// Settles all inodes in use of the ext4 image `file`, which mkfs.ext4 has just made; `path` is for
/// messages.
pub(super) fn settle(file: &File, path: &Path) -> Result<()> {
    let read = |at: u64, buf: &mut [u8]| {
        file.read_exact_at(buf, at)
            .map_err(Error::transfer(path, at, "cannot read the new ext4"))
    };
    let mut superblock = [0; 1024];
    read(SUPERBLOCK_AT, &mut superblock)?;
    let layout = Layout::of(&superblock).ok_or_else(|| {
        Error::unfit(path, "mkfs.ext4 made a form of ext4 that is not known here")
    })?;

    let groups = layout.inodes.div_ceil(layout.inodes_per_group);
    let mut descriptors = vec![0; groups as usize * layout.descriptor_size];
    // They follow the block that the superblock is in.
    let first = if layout.block_size > 1024 { 1 } else { 2 };
    read(first * layout.block_size, &mut descriptors)?;

    let mut table = vec![0; layout.inodes_per_group as usize * layout.inode_size];
    for (group, descriptor) in descriptors.chunks_exact(layout.descriptor_size).enumerate() {
        let at = layout.table_at(descriptor);
        read(at, &mut table)?;
        for (slot, inode) in table.chunks_exact_mut(layout.inode_size).enumerate() {
            // A mode of 0 marks an inode that is not in use.
            if u16_at(inode, 0) == 0 {
                continue;
            }
            let before = inode.to_vec();
            let number = group as u32 * layout.inodes_per_group + slot as u32 + 1;
            layout.settle(number, inode);
            if *inode != before {
                let at = at + (slot * layout.inode_size) as u64;
                file.write_all_at(inode, at).map_err(Error::transfer(
                    path,
                    at,
                    "cannot write the new ext4",
                ))?;
            }
        }
    }
    Ok(())
}
