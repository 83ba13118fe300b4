// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Makes a new ext4 what the directory is, and nothing that depends on when or where it was made.
//!
//! mkfs.ext4 leaves out who owns the top directory and who may enter it: an image of a private tree
//! would be open to all. And it copies times of access and of change, which reading a file alters:
//! here each becomes the time of the file's last modification, so that equal trees make equal images.
//! The time of the top directory itself is not taken, since unpacking a tree alters it. Superblocks
//! count what was written, which depends on what the file system below can do.

use super::codec::Crc;
use crate::error::{Error, Result};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
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

/// The inode of the top directory.
const ROOT: u32 = 2;

/// Bits of the mode that say who may do what.
const PERMISSIONS: u16 = 0o7777;

/// The inode's fields, by their first byte.
const MODE: usize = 0x00;
const OWNER: usize = 0x02;
const ACCESS: usize = 0x08;
const CHANGE: usize = 0x0c;
const MODIFICATION: usize = 0x10;
const GROUP: usize = 0x18;
const GENERATION: usize = 0x64;
const OWNER_HIGH: usize = 0x78;
const GROUP_HIGH: usize = 0x7a;
const CHECKSUM_LOW: usize = 0x7c;
const EXTRA_SIZE: usize = 0x80;
const CHECKSUM_HIGH: usize = 0x82;
const CHANGE_EXTRA: usize = 0x84;
const MODIFICATION_EXTRA: usize = 0x88;
const ACCESS_EXTRA: usize = 0x8c;

/// Bytes of a superblock, and its fields by their first byte.
const SUPERBLOCK: usize = 1024;
const WRITTEN: usize = 0x178;
const SUPERBLOCK_CHECKSUM: usize = 0x3fc;
const RO_COMPAT_SPARSE_SUPER: u32 = 1;

/// What the superblock says about where inodes are.
struct Layout {
    block_size: u64,
    blocks_per_group: u32,
    /// Whether few groups have a superblock.
    sparse: bool,
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

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

impl Layout {
    /// Reads a superblock; [`None`] if it is none, or one that this code does not know.
    fn of(superblock: &[u8; SUPERBLOCK]) -> Option<Self> {
        let incompat = u32_at(superblock, 96);
        let wide = incompat & INCOMPAT_64BIT != 0;
        let seed = if incompat & INCOMPAT_CSUM_SEED != 0 {
            u32_at(superblock, 624)
        } else {
            Crc.crc32c(!0, &superblock[104..120])
        };
        let layout = Self {
            block_size: 1024u64.checked_shl(u32_at(superblock, 24))?,
            blocks_per_group: u32_at(superblock, 32),
            sparse: u32_at(superblock, 100) & RO_COMPAT_SPARSE_SUPER != 0,
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

    /// Byte at which the superblock of `group` is, if that has one.
    fn superblock_at(&self, group: u32) -> Option<u64> {
        let power_of = |base: u32| {
            let mut rest = group;
            while rest != 0 && rest % base == 0 {
                rest /= base;
            }
            rest == 1
        };
        match group {
            0 => Some(SUPERBLOCK_AT),
            _ if self.sparse && ![3, 5, 7].into_iter().any(power_of) => None,
            // The first block of the device belongs to no group if it is too small for both.
            _ => {
                let first = u64::from(self.block_size == 1024);
                let block = u64::from(group) * u64::from(self.blocks_per_group) + first;
                Some(block * self.block_size)
            }
        }
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

    /// Settles the times of inode `number`, of `top` its owner, and the checksum.
    fn settle(&self, number: u32, inode: &mut [u8], top: &Metadata) {
        if number == ROOT {
            let mode = u16_at(inode, MODE) & !PERMISSIONS | top.mode() as u16 & PERMISSIONS;
            put(inode, MODE, mode);
            put(inode, OWNER, top.uid() as u16);
            put(inode, OWNER_HIGH, (top.uid() >> 16) as u16);
            put(inode, GROUP, top.gid() as u16);
            put(inode, GROUP_HIGH, (top.gid() >> 16) as u16);
        }
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

/// Settles superblocks and all inodes in use of the ext4 image `file`, which mkfs.ext4 has just made
/// of the directory `dir` for the file `result`.
pub(super) fn settle(file: &File, dir: &Path, result: &Path) -> Result<()> {
    let top = fs::metadata(dir).map_err(Error::io(dir, "cannot read"))?;
    let read = |at: u64, buf: &mut [u8]| {
        file.read_exact_at(buf, at)
            .map_err(Error::transfer(result, at, "cannot read the new ext4"))
    };
    let write = |at: u64, bytes: &[u8]| {
        file.write_all_at(bytes, at).map_err(Error::transfer(
            result,
            at,
            "cannot write the new ext4",
        ))
    };
    let mut superblock = [0; SUPERBLOCK];
    read(SUPERBLOCK_AT, &mut superblock)?;
    let layout = Layout::of(&superblock)
        .ok_or_else(|| Error::unfit(dir, "mkfs.ext4 made a form of ext4 that is not known here"))?;

    let groups = layout.inodes.div_ceil(layout.inodes_per_group);
    let mut descriptors = vec![0; groups as usize * layout.descriptor_size];
    // They follow the block that the superblock is in.
    let first = if layout.block_size > 1024 { 1 } else { 2 };
    read(first * layout.block_size, &mut descriptors)?;

    for at in (0..groups).filter_map(|group| layout.superblock_at(group)) {
        read(at, &mut superblock)?;
        superblock[WRITTEN..WRITTEN + 8].fill(0);
        if layout.seed.is_some() {
            let sum = Crc.crc32c(!0, &superblock[..SUPERBLOCK_CHECKSUM]);
            superblock[SUPERBLOCK_CHECKSUM..].copy_from_slice(&sum.to_le_bytes());
        }
        write(at, &superblock)?;
    }

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
            layout.settle(number, inode, &top);
            if *inode != before {
                let at = at + (slot * layout.inode_size) as u64;
                write(at, inode)?;
            }
        }
    }
    Ok(())
}
