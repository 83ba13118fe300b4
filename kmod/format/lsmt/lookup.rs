// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Answering a read from the merged index.

use super::super::limits::SECTOR;
use super::directory::Directory;
use super::segment::Segment;

/// A merged index that is asked.
#[derive(Clone, Copy, Debug)]
pub struct Index<'a> {
    segments: &'a [Segment],
    directory: Option<Directory<'a>>,
}

impl<'a> From<&'a [Segment]> for Index<'a> {
    /// An index without a directory: each question searches all of it.
    fn from(segments: &'a [Segment]) -> Self {
        Self {
            segments,
            directory: None,
        }
    }
}

impl<'a> Index<'a> {
    /// An index with its directory.
    pub fn with(segments: &'a [Segment], directory: Directory<'a>) -> Self {
        Self {
            segments,
            directory: Some(directory),
        }
    }

    /// Number of the first segment that ends after virtual sector `sector`.
    #[inline]
    pub fn find(&self, sector: u64) -> usize {
        let range = match &self.directory {
            Some(directory) => directory.around(sector, self.segments.len()),
            None => 0..self.segments.len(),
        };
        let first = range.start;
        let found = self.segments.get(range).unwrap_or_default();
        first.saturating_add(found.partition_point(|segment| segment.end() <= sector))
    }
}

/// Where the bytes of a piece come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// No layer has a record: zeroes.
    Hole,
    /// A record says zeroes, or the range lies past the virtual size.
    Zeroed,
    /// Stored bytes of `layer` (0 = bottom), from byte `offset` of its LSMT bytes.
    Data {
        /// Layer number.
        layer: u8,
        /// Byte offset in the layer's LSMT bytes.
        offset: u64,
    },
}

/// Part of a read that has one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Byte on the virtual disk.
    pub start: u64,
    /// Length in bytes, never 0.
    pub len: u64,
    /// Origin.
    pub kind: PieceKind,
}

/// Iterator over the pieces of a byte range of the virtual disk, without gaps.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    rest: core::slice::Iter<'a, Segment>,
    at: u64,
    end: u64,
    virtual_size: u64,
}

impl<'a> Pieces<'a> {
    /// Pieces of bytes `start..end`; what lies at or past `virtual_size` reads as zeroes.
    pub fn new(index: Index<'a>, start: u64, end: u64, virtual_size: u64) -> Self {
        let first = index.find(start / SECTOR);
        Self {
            rest: index.segments.get(first..).unwrap_or_default().iter(),
            at: start,
            end,
            virtual_size,
        }
    }

    fn piece(&mut self, end: u64, kind: PieceKind) -> Piece {
        let start = self.at;
        self.at = end;
        Piece {
            start,
            len: end.saturating_sub(start),
            kind,
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.at >= self.end {
            return None;
        }
        let data_end = self.end.min(self.virtual_size);
        if self.at >= data_end {
            return Some(self.piece(self.end, PieceKind::Zeroed));
        }
        let Some(&segment) = self.rest.as_slice().first() else {
            return Some(self.piece(data_end, PieceKind::Hole));
        };
        // 51 bits of sectors: the products fit.
        let segment_start = segment.offset().saturating_mul(SECTOR);
        let segment_end = segment.end().saturating_mul(SECTOR);
        if segment_start > self.at {
            return Some(self.piece(data_end.min(segment_start), PieceKind::Hole));
        }
        let kind = if segment.zeroed() {
            PieceKind::Zeroed
        } else {
            PieceKind::Data {
                layer: segment.tag(),
                offset: segment
                    .moffset_bytes()
                    .saturating_add(self.at.saturating_sub(segment_start)),
            }
        };
        if segment_end <= data_end {
            self.rest.next();
        }
        Some(self.piece(data_end.min(segment_end), kind))
    }
}

/// Where to end a part of the read `at..end` so that parts can be decoded side by side.
///
/// The part is `target` bytes or a little longer: a cut inside a compressed block would decode that
/// block twice, so it moves to the block's end. `block_size` gives the block size of a layer in
/// bytes, or [`None`] for one that is not compressed. `at`, `end` and `target` are multiples of
/// [`SECTOR`], and so is the result.
pub fn part_end(
    index: Index<'_>,
    at: u64,
    end: u64,
    target: u64,
    block_size: impl Fn(u8) -> Option<u32>,
) -> u64 {
    // At least a sector, so that a caller's loop makes progress.
    let cut = at.saturating_add(target.max(SECTOR));
    if cut >= end {
        return end;
    }
    let Some(piece) = Pieces::new(index, cut, end, end).next() else {
        return end;
    };
    match piece.kind {
        PieceKind::Data { layer, offset } => {
            let block = u64::from(block_size(layer).unwrap_or(1));
            let rest = match offset.checked_rem(block) {
                Some(inside) if inside != 0 => block.saturating_sub(inside),
                _ => 0,
            };
            cut.saturating_add(rest.min(piece.len)).min(end)
        }
        _ => cut,
    }
}
