// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The jump table: where each block is stored.
//!
//! On disk a u32 length a block. In memory blocks are kept in groups of 32: the byte at which the
//! group begins, and 17 bits of length a block. That is 2.375 bytes a block, and unlike upstream's
//! table (16-bit sums over 64 KiB groups) it holds blocks that did not compress.
//!
//! A disk of 4 GiB has a million lengths, all of which are checked when it is attached. So they are
//! taken two at a time, as the two lanes of a 64-bit word: a stock kernel has no vectors for this.

use super::super::checksum::{Checksum, SEED_METADATA};
use super::super::error::{Error, Rule};
use super::super::source::ReadAt;
use super::header::ZFile;

/// Blocks in a group.
pub const GROUP_BLOCKS: u64 = 32;

const ENTRY_BYTES: usize = 4;

/// Bytes of a group's entries on disk.
const GROUP_BYTES: usize = GROUP_BLOCKS as usize * ENTRY_BYTES;

/// Blocks in a quad.
const QUAD_BLOCKS: usize = 4;

/// Bytes of a quad's entries on disk.
const QUAD_BYTES: usize = QUAD_BLOCKS * ENTRY_BYTES;

/// Bits 0 to 15 of the lengths of four blocks: 0 and 2 in the first word, 1 and 3 in the second one.
///
/// That is the order in which two pairs of entries fall when the second pair is laid over the first
/// one, 16 bits higher.
type Quad = [u32; 2];

/// The same value in both lanes.
const fn lanes(value: u32) -> u64 {
    value as u64 | (value as u64) << 32
}

/// Groups that [`load_jump_table`] hands over for `zfile` in all.
pub fn groups(zfile: &ZFile) -> usize {
    // At most limits::MAX_BLOCKS / GROUP_BLOCKS, which has 25 bits.
    zfile.blocks().div_ceil(GROUP_BLOCKS) as usize
}

/// Where [`GROUP_BLOCKS`] consecutive blocks are stored.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Group {
    /// Byte at which the first block begins; two halves, so that the group needs no padding.
    base: [u32; 2],
    /// Bit 16 of each length.
    wide: u32,
    /// Bits 0 to 15 of each length.
    low: [Quad; GROUP_BLOCKS as usize / QUAD_BLOCKS],
}

impl Group {
    fn new(base: u64) -> Self {
        Self {
            base: [base as u32, (base >> 32) as u32],
            ..Self::default()
        }
    }

    /// Becomes the group of these entries on disk, whose first block begins at `base`; returns where
    /// the last one ends, or [`None`] if that is past `limit` or any length is impossible.
    #[inline(never)]
    fn fill(
        &mut self,
        base: u64,
        limit: u64,
        entries: &[u8; GROUP_BYTES],
        lengths: Lengths,
    ) -> Option<u64> {
        self.base = [base as u32, (base >> 32) as u32];
        self.wide = 0;
        // Two lanes each: the sums of the lengths, all bits that any of them has, and in bit 31
        // whether none is too short. What one lane may spill into the other one is spilt by bits
        // that no length has, which is found out before the rest is looked at.
        let mut sums = 0u64;
        let mut any = 0u64;
        let mut enough = u64::MAX;
        let short_by = lanes(HIGH_BIT.wrapping_sub(lengths.least));
        for (quad, raw) in self.low.iter_mut().zip(entries.chunks_exact(QUAD_BYTES)) {
            let (first, second) = pairs(raw.try_into().ok()?);
            sums = sums.wrapping_add(first).wrapping_add(second);
            any |= first | second;
            enough &= first.wrapping_add(short_by) & second.wrapping_add(short_by);
            let both = first | second.wrapping_shl(16);
            *quad = [both as u32, (both >> 32) as u32];
        }
        // If these are lengths at all, 16 of 17 bits a lane: no overflow.
        let end = base
            .saturating_add(sums & u64::from(u32::MAX))
            .saturating_add(sums >> 32);
        // One question: with several, the compiler keeps all entries at hand for the next one.
        let wrong = any & !lanes(LENGTH_MASK) | !enough & lanes(HIGH_BIT);
        if (wrong != 0) | (end > limit) {
            return None;
        }
        let any = any as u32 | (any >> 32) as u32;
        // No length is longer than all bits together; the other way round, one has to look.
        if any > lengths.most && longest(entries) > lengths.most {
            return None;
        }
        if any > LOW_MASK {
            // Bits 16 have spilt into the neighbours above.
            *self = Self::new(base);
            for (slot, raw) in entries.chunks_exact(ENTRY_BYTES).enumerate() {
                self.set(slot, u32::from_le_bytes(raw.try_into().ok()?));
            }
        }
        Some(end)
    }

    fn base(&self) -> u64 {
        let [low, high] = self.base;
        u64::from(low) | u64::from(high) << 32
    }

    /// Word in a quad and shift in the word of the low bits of block `slot`.
    fn place(slot: usize) -> (usize, u32) {
        (slot % 2, (slot as u32 & 2).wrapping_shl(3))
    }

    /// Sets a length of at most 17 bits, which was 0.
    fn set(&mut self, slot: usize, len: u32) {
        let (word, shift) = Self::place(slot);
        let quad = self.low.get_mut(slot / QUAD_BLOCKS);
        if let Some(word) = quad.and_then(|quad| quad.get_mut(word)) {
            *word |= (len & LOW_MASK).wrapping_shl(shift);
            self.wide |= (len >> 16 & 1).wrapping_shl(slot as u32);
        }
    }

    fn len(&self, slot: usize) -> u32 {
        let (word, shift) = Self::place(slot);
        let quad = self.low.get(slot / QUAD_BLOCKS);
        let word = quad.and_then(|quad| quad.get(word)).copied().unwrap_or(0);
        word.wrapping_shr(shift) & LOW_MASK | (self.wide.wrapping_shr(slot as u32) & 1) << 16
    }

    /// Bytes from the group's begin to block `slot`.
    fn before(&self, slot: usize) -> u64 {
        let below = 1u32.wrapping_shl(slot as u32).wrapping_sub(1);
        let wide = u64::from((self.wide & below).count_ones());
        // Four lanes of 16 bits become two of 32, which 31 lengths do not fill.
        let halves = |[even, odd]: Quad, wanted: u64| -> u64 {
            let all = (u64::from(even) | u64::from(odd) << 32) & wanted;
            (all & lanes(LOW_MASK)).wrapping_add(all >> 16 & lanes(LOW_MASK))
        };
        let mut quads = self.low.iter();
        let mut sums = 0u64;
        for &quad in quads.by_ref().take(slot / QUAD_BLOCKS) {
            sums = sums.wrapping_add(halves(quad, u64::MAX));
        }
        if let Some(&quad) = quads.next() {
            let wanted = FIRST_OF_QUAD.get(slot % QUAD_BLOCKS);
            sums = sums.wrapping_add(halves(quad, wanted.copied().unwrap_or(0)));
        }
        let low = (sums & u64::from(u32::MAX)).wrapping_add(sums >> 32);
        low.wrapping_add(wide << 16)
    }
}

/// Where a quad, its second word laid before the first one, has its first 0, 1, 2 and 3 blocks.
const FIRST_OF_QUAD: [u64; QUAD_BLOCKS] = [
    0,
    LOW_MASK as u64,
    lanes(LOW_MASK),
    lanes(LOW_MASK) | (LOW_MASK as u64) << 16,
];

/// The bits that a stored length can have.
const LENGTH_MASK: u32 = (1 << 17) - 1;

/// Those of them that a quad holds.
const LOW_MASK: u32 = (1 << 16) - 1;

const HIGH_BIT: u32 = 1 << 31;

/// The entries of a quad, two by two.
fn pairs(raw: [u8; QUAD_BYTES]) -> (u64, u64) {
    let all = u128::from_le_bytes(raw);
    (all as u64, (all >> 64) as u64)
}

/// The longest of a group's entries.
#[inline(never)]
fn longest(entries: &[u8; GROUP_BYTES]) -> u32 {
    let entries = entries.chunks_exact(ENTRY_BYTES);
    let entries = entries.map(|raw| u32::from_le_bytes(raw.try_into().unwrap_or_default()));
    entries.fold(0, u32::max)
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

    /// The group of block `block` and the block's number in it, or [`None`] past the end.
    fn slot(&self, block: u64) -> Option<(&'a Group, usize)> {
        if block >= self.blocks {
            return None;
        }
        let group = usize::try_from(block / GROUP_BLOCKS).ok()?;
        let slot = (block % GROUP_BLOCKS) as usize;
        Some((self.groups.get(group)?, slot))
    }

    /// Stored bytes of block `block`, checksum included, or [`None`] past the end.
    pub(super) fn stored_len(&self, block: u64) -> Option<usize> {
        let (group, slot) = self.slot(block)?;
        Some(group.len(slot) as usize)
    }

    /// Place of block `block`, or [`None`] past the end.
    pub fn stored(&self, block: u64) -> Option<Stored> {
        let (group, slot) = self.slot(block)?;
        Some(Stored {
            offset: group.base().saturating_add(group.before(slot)),
            len: group.len(slot) as usize,
        })
    }
}

/// Reads and checks the jump table of `zfile` in pieces of `buf`.
///
/// `more` is told how many groups come next, and has them filled in memory of its own by the function
/// that it is given, whatever was in there. It is asked when their entries were read, for [`groups`] of them in
/// all. Each length must be possible for the codec and block
/// size, and all blocks must end before the table. The checksum is known at the end only: on an error
/// the groups are to be forgotten. `buf` must hold the entries of at least one group (128 bytes); many
/// pages are sensible.
pub fn load_jump_table<S: ReadAt>(
    src: &S,
    zfile: &ZFile,
    crc: &impl Checksum,
    buf: &mut [u8],
    mut more: impl FnMut(usize, &mut Filler<'_, S::Error>) -> Result<(), S::Error>,
) -> Result<(), S::Error> {
    let room = (buf.len() / GROUP_BYTES) as u64;
    if room == 0 {
        return Err(Error::new(Rule::ZFileTableMemory, zfile.index_offset, zfile.entries).into());
    }
    let room = room.saturating_mul(GROUP_BLOCKS);

    let mut walk = Walk {
        lengths: Lengths::new(zfile),
        position: zfile.blocks_offset,
        limit: zfile.index_offset,
        at: zfile.index_offset,
    };
    let mut sum = SEED_METADATA;
    let mut left = zfile.entries;
    let mut blocks = zfile.blocks();
    while left != 0 {
        let count = left.min(room);
        // At most buf.len(), so it fits.
        let bytes = (count as usize).saturating_mul(ENTRY_BYTES);
        let chunk = buf.get_mut(..bytes).unwrap_or_default();
        src.read_exact_at(walk.at, chunk)?;
        sum = crc.crc32c(sum, chunk);

        // Entries past the blocks that the size needs are checked and not kept.
        let kept = count.min(blocks) as usize;
        let (kept_entries, rest) = chunk
            .split_at_checked(kept.saturating_mul(ENTRY_BYTES))
            .unwrap_or_default();
        if kept != 0 {
            let entries = kept_entries.chunks(GROUP_BYTES);
            more(entries.len(), &mut |groups| {
                for (group, entries) in groups.iter_mut().zip(entries.clone()) {
                    walk.group(group, entries)?;
                }
                Ok(())
            })?;
        }
        walk.entries(rest, |_, _| ())?;
        left = left.saturating_sub(count);
        blocks = blocks.saturating_sub(count);
    }
    match zfile.index_crc {
        Some(expected) if expected != sum => {
            Err(Error::new(Rule::ZFileTableCrc, zfile.index_offset, u64::from(sum)).into())
        }
        _ => Ok(()),
    }
}

/// Fills the next groups of a table.
pub type Filler<'a, E> = dyn FnMut(&mut [Group]) -> Result<(), E> + 'a;

/// The way through a table, entry by entry.
struct Walk {
    lengths: Lengths,
    /// Byte at which the next block begins.
    position: u64,
    /// Byte at which the last block must have ended.
    limit: u64,
    /// Byte at which the next entry stands.
    at: u64,
}

impl Walk {
    /// Takes the entries of one group, which may be fewer for the last one.
    fn group(&mut self, group: &mut Group, entries: &[u8]) -> Result<(), Error> {
        if let Ok(whole) = entries.try_into() {
            // The shorter way, as long as nothing is wrong.
            if let Some(end) = group.fill(self.position, self.limit, whole, self.lengths) {
                self.position = end;
                self.at = self.at.saturating_add(GROUP_BYTES as u64);
                return Ok(());
            }
        }
        *group = Group::new(self.position);
        self.entries(entries, |slot, len| group.set(slot, len))
    }

    /// Takes entries one by one, and hands the number and the length of each to `keep`.
    fn entries(&mut self, entries: &[u8], mut keep: impl FnMut(usize, u32)) -> Result<(), Error> {
        for (number, raw) in entries.chunks_exact(ENTRY_BYTES).enumerate() {
            let len = u32::from_le_bytes(raw.try_into().unwrap_or_default());
            self.lengths.check(len, self.at)?;
            keep(number, len);
            // 10^9 lengths of 17 bits: no overflow.
            self.position = self.position.saturating_add(u64::from(len));
            if self.position > self.limit {
                return Err(Error::new(Rule::ZFileBlockBounds, self.at, self.position));
            }
            self.at = self.at.saturating_add(ENTRY_BYTES as u64);
        }
        Ok(())
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

    #[inline]
    fn check(self, len: u32, at: u64) -> Result<(), Error> {
        if len < self.least || len > self.most {
            return Err(Error::new(Rule::ZFileStoredLength, at, u64::from(len)));
        }
        Ok(())
    }
}
