// SPDX-License-Identifier: GPL-2.0

//! A stack of layers: opened together, merged into one index, read as one disk.

use crate::backing::Backing;
use crate::block::{Decoding, Effort};
use crate::budget::{Charge, Claim};
use crate::codec::Codecs;
use crate::error::{Fault, LayerFault};
use crate::format::lsmt::{
    self, Cursor, Directory, Grid, Index, Merge, Piece, PieceKind, Pieces, Segment,
};
use crate::format::{self, limits, Rule};
use crate::layer::{Layer, Opened, Opening};
use crate::pool::{Buffers, Sizes};
use crate::registry::Registry;
use crate::stats::Stats;
use crate::sys::pages::Pages;
use crate::sys::table::Table;
use core::ops::Range;
use kernel::prelude::*;
use kernel::sync::Arc;

/// How a stack is read.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// Virtual size in bytes; 0 = what the layers say.
    pub(crate) size: u64,
    /// Whether block checksums are verified.
    pub(crate) verify: bool,
    /// Whether data of layers that are not compressed are read past the page cache.
    pub(crate) direct: bool,
}

/// Where the bytes of the disk come from.
enum Map {
    /// What the merged index says.
    Merged(Merged),
    /// Byte for byte from the only layer, whose contents are not looked into.
    #[allow(dead_code, reason = "only device-mapper shows a layer's own bytes")]
    Bytes,
}

/// A merged index and its directory.
struct Merged {
    segments: Table<Segment>,
    grid: Grid,
    starts: Table<u32>,
    _charges: [Charge; 2],
}

impl Merged {
    /// Merges the layers' indexes.
    // Not inlined: what it takes of the stack is not needed while layers are opened.
    #[inline(never)]
    fn new(opened: &[Opened], claim: &mut Claim) -> Result<Self, Fault> {
        let mut indexes = KVec::with_capacity(opened.len(), GFP_KERNEL)?;
        for layer in opened {
            indexes.push(&layer.index.segments[..], GFP_KERNEL)?;
        }
        let mut cursors = KVec::from_elem(Cursor::default(), indexes.len(), GFP_KERNEL)?;
        // Records that are hidden leave room, and cut ones take more: they are counted first.
        let count = match &indexes[..] {
            [only] => only.len(),
            _ => count(Merge::new(&indexes, &mut cursors)?)?,
        };
        let charge = claim.take(Table::<Segment>::bytes(count))?;
        let mut segments = Table::new(count)?;
        let merge = Merge::new(&indexes, &mut cursors)?;
        for (place, segment) in segments.iter_mut().zip(merge) {
            *place = segment;
        }
        let grid = Grid::new(&segments);
        let directory = claim.take(Table::<u32>::bytes(grid.places()))?;
        let mut starts = Table::new(grid.places())?;
        grid.fill(&segments, &mut starts);
        Ok(Self {
            segments,
            grid,
            starts,
            _charges: [charge, directory],
        })
    }

    fn index(&self) -> Index<'_> {
        Index::with(&self.segments, Directory::new(self.grid, &self.starts))
    }
}

/// Open layers, and which of them holds what.
pub(crate) struct Stack {
    layers: KVec<Layer>,
    map: Map,
    virtual_size: u64,
    verify: bool,
    codecs: Arc<Codecs>,
    stats: Arc<Stats>,
}

impl Stack {
    /// Opens the layers, bottom first, and merges their indexes.
    // Not inlined: what it takes of the stack is given back before there is a disk.
    #[inline(never)]
    pub(crate) fn open(
        backings: KVec<Backing>,
        options: Options,
        codecs: Arc<Codecs>,
        registry: &Arc<Registry>,
        stats: Arc<Stats>,
    ) -> Result<Self, LayerFault> {
        let decoding = Decoding {
            codecs: &codecs,
            stats: &stats,
            verify: options.verify,
            effort: Effort::Full,
            layer: 0,
        };
        let mut opening = Opening::new(decoding, options.direct, registry)?;
        let opened = open_layers(backings, &mut opening)?;
        let virtual_size = match options.size {
            0 => lsmt::virtual_size(opened.iter().map(|layer| layer.virtual_size))?,
            size => size,
        };
        let map = Map::Merged(Merged::new(&opened, &mut opening.claim)?);
        let mut layers = KVec::with_capacity(opened.len(), GFP_KERNEL)?;
        for layer in opened {
            layers.push(layer.layer, GFP_KERNEL)?;
        }
        Ok(Self {
            layers,
            map,
            virtual_size,
            verify: options.verify,
            codecs,
            stats,
        })
    }

    /// Opens a compressed file by itself: the disk is what was compressed.
    #[allow(dead_code, reason = "only device-mapper shows a layer's own bytes")]
    pub(crate) fn open_zfile(
        backings: KVec<Backing>,
        codecs: Arc<Codecs>,
        registry: &Arc<Registry>,
        stats: Arc<Stats>,
    ) -> Result<Self, LayerFault> {
        let decoding = Decoding {
            codecs: &codecs,
            stats: &stats,
            verify: true,
            effort: Effort::Full,
            layer: 0,
        };
        let mut opening = Opening::new(decoding, false, registry)?;
        let mut layers = KVec::with_capacity(1, GFP_KERNEL)?;
        for backing in backings {
            let layer =
                Layer::open_raw(0, backing, &mut opening).map_err(|fault| fault.in_layer(0))?;
            layers.push(layer, GFP_KERNEL)?;
        }
        let virtual_size = layers
            .first()
            .and_then(Layer::original_size)
            .ok_or(Fault::NotCompressed.in_layer(0))?;
        Ok(Self {
            layers,
            map: Map::Bytes,
            virtual_size,
            verify: true,
            codecs,
            stats,
        })
    }

    /// Bytes of the disk.
    pub(crate) fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// Bytes of the disk in whole sectors: a size that is no multiple of 512 is rounded up, and what
    /// lies past it reads as zeroes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.virtual_size
            .div_ceil(limits::SECTOR)
            .saturating_mul(limits::SECTOR)
    }

    /// Number of layers.
    pub(crate) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Number of segments in the merged index.
    pub(crate) fn segments(&self) -> usize {
        match &self.map {
            Map::Merged(merged) => merged.segments.len(),
            Map::Bytes => 0,
        }
    }

    /// The counters of the device that the stack belongs to.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Sizes of the buffers that reading takes.
    pub(crate) fn buffer_sizes(&self) -> Sizes {
        let max = |a: usize, b: usize| a.max(b);
        let bytes = || self.layers.iter().map(Layer::block_bytes);
        Sizes {
            max_stored: bytes().map(|(stored, _)| stored).fold(0, max),
            max_decoded: bytes().map(|(_, decoded)| decoded).fold(0, max),
        }
    }

    /// Where to end a part of `range` of about `target` bytes without cutting a block.
    pub(crate) fn part_end(&self, range: &Range<u64>, target: u64) -> u64 {
        let block_size = |layer: u8| self.layers.get(usize::from(layer))?.block_size();
        match &self.map {
            Map::Merged(merged) => {
                lsmt::part_end(merged.index(), range.start, range.end, target, block_size)
            }
            Map::Bytes => range
                .start
                .saturating_add(target)
                .checked_next_multiple_of(u64::from(block_size(0).unwrap_or(1)))
                .unwrap_or(range.end)
                .min(range.end),
        }
    }

    /// Reads `pages.len()` bytes of the disk from byte `start` into pages, with `effort`.
    pub(crate) fn read(
        &self,
        start: u64,
        pages: &mut Pages<'_>,
        buffers: &mut Buffers<'_>,
        effort: Effort<'_>,
    ) -> Result<(), LayerFault> {
        let decoding = Decoding {
            codecs: &self.codecs,
            stats: &self.stats,
            verify: self.verify,
            effort,
            layer: 0,
        };
        let end = start.saturating_add(pages.len() as u64);
        match &self.map {
            Map::Merged(merged) => {
                for piece in Pieces::new(merged.index(), start, end, self.virtual_size) {
                    self.read_piece(decoding, piece, pages, buffers)?;
                }
            }
            Map::Bytes => {
                let len = self.virtual_size.clamp(start, end) - start;
                let piece = Piece {
                    start,
                    len,
                    kind: PieceKind::Data {
                        layer: 0,
                        offset: start,
                    },
                };
                if len != 0 {
                    self.read_piece(decoding, piece, pages, buffers)?;
                }
                pages.zero(pages.len());
            }
        }
        Ok(())
    }

    fn read_piece(
        &self,
        decoding: Decoding<'_>,
        piece: Piece,
        pages: &mut Pages<'_>,
        buffers: &mut Buffers<'_>,
    ) -> Result<(), LayerFault> {
        // A piece lies inside the pages.
        let len = piece.len as usize;
        match piece.kind {
            PieceKind::Hole | PieceKind::Zeroed => {
                pages.zero(len);
                Ok(())
            }
            PieceKind::Data { layer, offset } => self
                .layers
                .get(usize::from(layer))
                .ok_or(EIO)?
                .read_pages(Decoding { layer, ..decoding }, buffers, offset, len, pages)
                .map_err(|fault| fault.in_layer(usize::from(layer))),
        }
    }
}

/// Opens the layers, bottom first.
// Not inlined: what it takes of the stack is given back before the indexes are merged.
#[inline(never)]
fn open_layers(
    backings: KVec<Backing>,
    opening: &mut Opening<'_>,
) -> Result<KVec<Opened>, LayerFault> {
    let count = backings.len();
    if count == 0 {
        return Err(format::Error::new(Rule::StackEmpty, 0, 0).into());
    }
    let mut opened = KVec::with_capacity(count, GFP_KERNEL)?;
    for (number, backing) in backings.into_iter().enumerate() {
        let layer = u8::try_from(number)
            .ok()
            .filter(|_| count <= limits::MAX_LAYERS)
            .ok_or(format::Error::new(Rule::StackLayers, 0, count as u64))?;
        opening.decoding.layer = layer;
        let layer = Layer::open(layer, backing, opening, &opened)
            .map_err(|fault| fault.in_layer(number))?;
        opened.push(layer, GFP_KERNEL)?;
    }
    Ok(opened)
}

/// How many records a merge gives, of which there may not be too many.
fn count(merge: impl Iterator<Item = Segment>) -> Result<usize, format::Error> {
    let mut count = 0usize;
    for _ in merge {
        count = count.saturating_add(1);
        lsmt::check_records(count)?;
    }
    Ok(count)
}
