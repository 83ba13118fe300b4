// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The jump table: where each block is stored.
//!
//! On disk a u32 length a block. In memory blocks are kept in groups of 32: the byte at which the
//! group begins, and 17 bits of length a block. That is 2.375 bytes a block, and unlike upstream's
//! table (16-bit sums over 64 KiB groups) it holds blocks that did not compress.

use super::super::checksum::{Checksum, SEED_METADATA};
use super::super::error::{Error, Rule};
use super::super::source::ReadAt;
use super::header::ZFile;

/// Blocks in a group.
pub const GROUP_BLOCKS: u64 = 32;

const ENTRY_BYTES: usize = 4;

/// Bytes of a group's entries on disk.
const GROUP_BYTES: usize = GROUP_BLOCKS as usize * ENTRY_BYTES;

/// Where [`GROUP_BLOCKS`] consecutive blocks are stored.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Group {
    /// Byte at which the first block begins; two halves, so that the group needs no padding.
    base: [u32; 2],
    /// Bit 16 of each length.
    wide: u32,
    /// Bits 0 to 15 of each length.
    low: [u16; GROUP_BLOCKS as usize],
}

impl Group {
    fn new(base: u64) -> Self {
        Self {
            base: [base as u32, (base >> 32) as u32],
            ..Self::default()
        }
    }

    /// A whole group from its entries on disk, and the bytes of its blocks; [`None`] if any length
    /// is impossible.
    fn from_entries(
        base: u64,
        entries: &[u8; GROUP_BYTES],
        lengths: Lengths,
    ) -> Option<(Self, u64)> {
        let mut group = Self::new(base);
        let mut bytes = 0u64;
        let (mut shortest, mut longest) = (u32::MAX, 0u32);
        let places = group.low.iter_mut().zip(entries.chunks_exact(ENTRY_BYTES));
        for (low, raw) in places {
            let len = u32::from_le_bytes(raw.try_into().ok()?);
            *low = len as u16;
            // The first block ends up in the lowest bit.
            group.wide = group.wide.wrapping_shr(1) | len.wrapping_shl(15) & (1 << 31);
            // 32 lengths of 32 bits: no overflow.
            bytes = bytes.wrapping_add(u64::from(len));
            shortest = shortest.min(len);
            longest = longest.max(len);
        }
        lengths.all(shortest, longest).then_some((group, bytes))
    }

    fn base(&self) -> u64 {
        let [low, high] = self.base;
        u64::from(low) | u64::from(high) << 32
    }

    /// Sets a length of at most 17 bits.
    fn set(&mut self, slot: usize, len: u32) {
        if let Some(low) = self.low.get_mut(slot) {
            *low = len as u16;
            self.wide |= (len >> 16 & 1).wrapping_shl(slot as u32);
        }
    }

    fn len(&self, slot: usize) -> u32 {
        let low = self.low.get(slot).copied().unwrap_or(0);
        u32::from(low) | (self.wide.wrapping_shr(slot as u32) & 1) << 16
    }

    /// Bytes from the group's begin to block `slot`.
    fn before(&self, slot: usize) -> u64 {
        let below = 1u32.wrapping_shl(slot as u32).wrapping_sub(1);
        let wide = u64::from((self.wide & below).count_ones());
        let low: u32 = self.low.iter().take(slot).map(|&len| u32::from(len)).sum();
        // 31 lengths of 17 bits: no overflow.
        u64::from(low).wrapping_add(wide << 16)
    }
}

/// Place of a stored block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Byte in the ZFile.
    pub offset: u64,
    /// Bytes, checksum included.
    pub len: usize,
}

/// The table of one ZFile, over memory of the caller.
#[derive(Clone, Copy, Debug)]
pub struct JumpTable<'a> {
    groups: &'a [Group],
    blocks: u64,
}

impl<'a> JumpTable<'a> {
    /// A view of the groups that [`load_jump_table`] has handed over for `zfile`.
    pub fn new(zfile: &ZFile, groups: &'a [Group]) -> Self {
        Self {
            groups,
            blocks: zfile.blocks(),
        }
    }

    /// Place of block `block`, or [`None`] past the end.
    pub fn stored(&self, block: u64) -> Option<Stored> {
        if block >= self.blocks {
            return None;
        }
        let slot = (block % GROUP_BLOCKS) as usize;
        let group = self
            .groups
            .get(usize::try_from(block / GROUP_BLOCKS).ok()?)?;
        Some(Stored {
            offset: group.base().saturating_add(group.before(slot)),
            len: group.len(slot) as usize,
        })
    }
}

/// Reads and checks the jump table of `zfile` in pieces of `buf`, and hands its groups to `sink`.
///
/// Each length must be possible for the codec and block size, and all blocks must end before the
/// table; a group is handed over only when its lengths were checked, so memory for groups grows no
/// faster than the file proves them. The checksum is known at the end only: on an error the groups
/// are to be forgotten. `buf` must hold at least one entry (4 bytes); a page or more is sensible.
pub fn load_jump_table<S: ReadAt>(
    src: &S,
    zfile: &ZFile,
    crc: &impl Checksum,
    buf: &mut [u8],
    mut sink: impl FnMut(Group) -> Result<(), S::Error>,
) -> Result<(), S::Error> {
    let room = (buf.len() / ENTRY_BYTES) as u64;
    if room == 0 {
        return Err(Error::new(Rule::ZFileTableMemory, zfile.index_offset, zfile.entries).into());
    }

    let blocks = zfile.blocks();
    let mut position = zfile.blocks_offset;
    let mut at = zfile.index_offset;
    let mut sum = SEED_METADATA;
    let mut next = 0u64;
    let mut group = Group::default();
    let lengths = Lengths::new(zfile);
    while next < zfile.entries {
        let count = zfile.entries.saturating_sub(next).min(room);
        // At most buf.len(), so it fits.
        let bytes = (count as usize).saturating_mul(ENTRY_BYTES);
        let chunk = buf.get_mut(..bytes).unwrap_or_default();
        src.read_exact_at(at, chunk)?;
        sum = crc.crc32c(sum, chunk);
        let mut chunk = &*chunk;
        loop {
            // Whole groups take a shorter way, as long as nothing is wrong with them.
            let whole = chunk.split_first_chunk().filter(|_| {
                next % GROUP_BLOCKS == 0 && blocks.saturating_sub(next) >= GROUP_BLOCKS
            });
            if let Some((entries, rest)) = whole {
                if let Some((whole, bytes)) = Group::from_entries(position, entries, lengths) {
                    let end = position.saturating_add(bytes);
                    if end <= zfile.index_offset {
                        sink(whole)?;
                        position = end;
                        at = at.saturating_add(GROUP_BYTES as u64);
                        next = next.saturating_add(GROUP_BLOCKS);
                        chunk = rest;
                        continue;
                    }
                }
            }
            let Some((raw, rest)) = chunk.split_first_chunk() else {
                break;
            };
            chunk = rest;
            let len = u32::from_le_bytes(*raw);
            lengths.check(len, at)?;
            let slot = next % GROUP_BLOCKS;
            if slot == 0 {
                group = Group::new(position);
            }
            group.set(slot as usize, len);
            // 10^9 lengths of 17 bits: no overflow.
            position = position.saturating_add(u64::from(len));
            if position > zfile.index_offset {
                return Err(Error::new(Rule::ZFileBlockBounds, at, position).into());
            }
            at = at.saturating_add(ENTRY_BYTES as u64);
            next = next.saturating_add(1);
            // Entries past the blocks that the size needs are checked and not kept.
            if next == blocks || (next < blocks && next % GROUP_BLOCKS == 0) {
                sink(group)?;
            }
        }
    }
    match zfile.index_crc {
        Some(expected) if expected != sum => {
            Err(Error::new(Rule::ZFileTableCrc, zfile.index_offset, u64::from(sum)).into())
        }
        _ => Ok(()),
    }
}

/// Checks that an entry of the table, at byte `at`, is a length that a stored block can have.
pub fn check_length(zfile: &ZFile, len: u32, at: u64) -> Result<(), Error> {
    Lengths::new(zfile).check(len, at)
}

/// The lengths that a stored block can have, worked out once for a whole table.
#[derive(Clone, Copy)]
struct Lengths {
    least: u32,
    most: u32,
}

impl Lengths {
    fn new(zfile: &ZFile) -> Self {
        Self {
            // A checksum and nothing before it is no block. Both fit 17 bits.
            least: (zfile.crc_bytes() as u32).saturating_add(1),
            most: zfile.max_stored() as u32,
        }
    }

    /// Whether all lengths from the shortest to the longest are possible.
    fn all(self, shortest: u32, longest: u32) -> bool {
        self.least <= shortest && longest <= self.most
    }

    #[inline]
    fn check(self, len: u32, at: u64) -> Result<(), Error> {
        if len < self.least || len > self.most {
            return Err(Error::new(Rule::ZFileStoredLength, at, u64::from(len)));
        }
        Ok(())
    }
}
