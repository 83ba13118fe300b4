// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The 16-byte index record.

use super::super::limits::SECTOR;

/// Bytes of a record on disk and in memory.
pub const RECORD_BYTES: usize = 16;

/// Virtual sector that marks a padding record.
pub const PADDING_OFFSET: u64 = (1 << 50) - 1;

/// Longest segment, in sectors: 14 bits.
pub const MAX_SEGMENT_SECTORS: u64 = (1 << 14) - 1;

const OFFSET_BITS: u32 = 50;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
const MOFFSET_MASK: u64 = (1 << 55) - 1;
const ZEROED: u64 = 1 << 55;
const TAG_SHIFT: u32 = 56;

/// One segment: a run of virtual sectors and where they are stored.
///
/// The bits are those on disk: `offset` 50, `length` 14 | `moffset` 55, `zeroed` 1, `tag` 8. On
/// disk the tag means nothing here; in a merged index it is the layer, 0 = bottom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    place: u64,
    source: u64,
}

impl Segment {
    /// A segment of `sectors` at virtual sector `offset`, stored at sector `moffset`.
    ///
    /// Returns [`None`] when a value does not fit its bits.
    pub const fn new(offset: u64, sectors: u64, moffset: u64, zeroed: bool) -> Option<Self> {
        if offset >= PADDING_OFFSET || sectors > MAX_SEGMENT_SECTORS || moffset > MOFFSET_MASK {
            return None;
        }
        Some(Self {
            place: offset | sectors << OFFSET_BITS,
            source: moffset | if zeroed { ZEROED } else { 0 },
        })
    }

    /// The padding record that fills an index up.
    pub const PADDING: Self = Self {
        place: PADDING_OFFSET,
        source: 0,
    };

    /// Reads a record as it stands on disk.
    pub const fn from_bytes(bytes: [u8; RECORD_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self {
            place: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            source: u64::from_le_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    /// The record as it stands on disk.
    pub const fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let [a, b, c, d, e, f, g, h] = self.place.to_le_bytes();
        let [i, j, k, l, m, n, o, p] = self.source.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// First virtual sector.
    pub const fn offset(self) -> u64 {
        self.place & OFFSET_MASK
    }

    /// Length in sectors, at most [`MAX_SEGMENT_SECTORS`].
    pub const fn sectors(self) -> u64 {
        self.place >> OFFSET_BITS
    }

    /// First virtual sector after the segment; 50 bits and 14 bits cannot overflow.
    pub const fn end(self) -> u64 {
        self.offset().wrapping_add(self.sectors())
    }

    /// First stored sector, in the layer's LSMT bytes.
    pub const fn moffset(self) -> u64 {
        self.source & MOFFSET_MASK
    }

    /// Stored place in bytes; 55 bits of sectors fit 64 bits of bytes.
    pub const fn moffset_bytes(self) -> u64 {
        self.moffset().wrapping_mul(SECTOR)
    }

    /// Whether the range reads as zeroes and hides lower layers.
    pub const fn zeroed(self) -> bool {
        self.source & ZEROED != 0
    }

    /// The tag byte: in a merged index, the layer.
    pub const fn tag(self) -> u8 {
        (self.source >> TAG_SHIFT) as u8
    }

    /// The same segment with another tag.
    #[must_use]
    pub const fn with_tag(self, tag: u8) -> Self {
        Self {
            place: self.place,
            source: self.source & !(0xff << TAG_SHIFT) | (tag as u64) << TAG_SHIFT,
        }
    }

    /// Whether this is padding; its other fields then mean nothing.
    pub const fn is_padding(self) -> bool {
        self.offset() == PADDING_OFFSET
    }

    /// The part of the segment in virtual sectors `from..to`, which must lie inside it.
    ///
    /// Cutting the front moves the stored place along, unless the segment is zeroed.
    #[must_use]
    pub(super) const fn slice(self, from: u64, to: u64) -> Self {
        let cut = from.saturating_sub(self.offset());
        let moved = if self.zeroed() { 0 } else { cut };
        Self {
            place: from & OFFSET_MASK | to.saturating_sub(from) << OFFSET_BITS,
            // The sum stays inside the segment, so it does not leave moffset's bits.
            source: self.source.wrapping_add(moved),
        }
    }
}
