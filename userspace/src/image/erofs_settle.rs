// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Takes the time of the top directory out of a new erofs, as unpacking a tree alters it: it becomes
//! the time that the file system states for itself, so that equal trees make equal images.

use super::codec::Crc;
use crate::error::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use vbd_format::Checksum as _;

const SUPERBLOCK_AT: usize = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;

/// The superblock's fields, by their first byte.
const CHECKSUM: usize = 4;
const COMPAT: usize = 8;
const BLOCK_BITS: usize = 12;
const ROOT: usize = 14;
const TIME: usize = 24;
const METADATA: usize = 40;
const INCOMPAT: usize = 80;

const COMPAT_CHECKSUM: u32 = 1;
/// The root has a longer number, elsewhere.
const INCOMPAT_48BIT: u32 = 0x80;

/// Inodes are numbered by units of so many bytes.
const INODE_UNIT: u64 = 32;

/// The fields of an inode of the long form; the short one has no time.
const FORMAT_LONG: u8 = 1;
const MODIFICATION: u64 = 32;

/// Settles the erofs image `file`, which mkfs.erofs has just made of the directory `dir` for the file
/// `result`.
pub(super) fn settle(file: &File, dir: &Path, result: &Path) -> Result<()> {
    let failed = |at: u64| Error::transfer(result, at, "cannot settle the new erofs");
    let mut start = [0; SUPERBLOCK_AT + 128];
    file.read_exact_at(&mut start, 0).map_err(failed(0))?;
    let superblock = &start[SUPERBLOCK_AT..];
    let u32_at = |at: usize| {
        u32::from_le_bytes([
            superblock[at],
            superblock[at + 1],
            superblock[at + 2],
            superblock[at + 3],
        ])
    };
    let bits = u32::from(superblock[BLOCK_BITS]);
    if u32_at(0) != MAGIC || u32_at(INCOMPAT) & INCOMPAT_48BIT != 0 || !(9..=16).contains(&bits) {
        let reason = "mkfs.erofs made a form of erofs that is not known here";
        return Err(Error::unfit(dir, reason));
    }
    let root = u64::from(u16::from_le_bytes([superblock[ROOT], superblock[ROOT + 1]]));
    let inode = (u64::from(u32_at(METADATA)) << bits) + root * INODE_UNIT;
    let mut format = [0];
    file.read_exact_at(&mut format, inode)
        .map_err(failed(inode))?;
    if format[0] & FORMAT_LONG == 0 {
        return Ok(());
    }
    // Seconds; the nanoseconds are zero.
    let mut time = [0; 12];
    time[..8].copy_from_slice(&superblock[TIME..TIME + 8]);
    let at = inode + MODIFICATION;
    file.write_all_at(&time, at).map_err(failed(at))?;

    if u32_at(COMPAT) & COMPAT_CHECKSUM != 0 {
        // Up to the end of the block that the superblock is in, where the inode may be, too.
        let block = 1 << bits;
        let begin = SUPERBLOCK_AT % block;
        let mut bytes = vec![0; block - begin];
        file.read_exact_at(&mut bytes, SUPERBLOCK_AT as u64)
            .map_err(failed(SUPERBLOCK_AT as u64))?;
        bytes[CHECKSUM..CHECKSUM + 4].fill(0);
        let sum = Crc.crc32c(!0, &bytes).to_le_bytes();
        let at = (SUPERBLOCK_AT + CHECKSUM) as u64;
        file.write_all_at(&sum, at).map_err(failed(at))?;
    }
    Ok(())
}
