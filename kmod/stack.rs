// SPDX-License-Identifier: GPL-2.0

//! A stack of layers: opened together, merged into one index, read as one disk.

use crate::backing::Backing;
use crate::block::{BlockBuffers, Decoding};
use crate::codec::Codecs;
use crate::error::Fault;
use crate::format::lsmt::{self, Cursor, Merge, PieceKind, Pieces, Segment};
use crate::format::{self, limits, Rule};
use crate::layer::{Layer, Opened};
use crate::pool::Sizes;
use crate::stats::Stats;
use crate::sys::pages::Pages;
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
}

/// A failure to open a stack, and the layer it lies in if it lies in one.
pub(crate) struct OpenError {
    pub(crate) layer: Option<usize>,
    pub(crate) fault: Fault,
}

impl<F: Into<Fault>> From<F> for OpenError {
    fn from(fault: F) -> Self {
        Self {
            layer: None,
            fault: fault.into(),
        }
    }
}

/// Open layers under one index.
pub(crate) struct Stack {
    layers: KVec<Layer>,
    index: KVVec<Segment>,
    virtual_size: u64,
    verify: bool,
    codecs: Arc<Codecs>,
    stats: Arc<Stats>,
}

impl Stack {
    /// Opens the layers, bottom first, and merges their indexes.
    pub(crate) fn open(
        backings: KVec<Backing>,
        options: Options,
        codecs: Arc<Codecs>,
        stats: Arc<Stats>,
    ) -> Result<Self, OpenError> {
        let decoding = Decoding {
            codecs: &codecs,
            stats: &stats,
            verify: options.verify,
        };
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
            let layer = Layer::open(layer, backing, decoding).map_err(|fault| OpenError {
                layer: Some(number),
                fault,
            })?;
            opened.push(layer, GFP_KERNEL)?;
        }

        let virtual_size = match options.size {
            0 => lsmt::virtual_size(opened.iter().map(|layer| layer.lsmt.virtual_size))?,
            size => size,
        };
        let index = merge(&opened)?;
        let mut layers = KVec::with_capacity(count, GFP_KERNEL)?;
        for layer in opened {
            layers.push(layer.layer, GFP_KERNEL)?;
        }
        Ok(Self {
            layers,
            index,
            virtual_size,
            verify: options.verify,
            codecs,
            stats,
        })
    }

    /// Bytes of the disk.
    pub(crate) fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// Number of layers.
    pub(crate) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Number of segments in the merged index.
    pub(crate) fn segments(&self) -> usize {
        self.index.len()
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
        lsmt::part_end(&self.index, range.start, range.end, target, |layer| {
            self.layers.get(usize::from(layer))?.block_size()
        })
    }

    /// Reads `pages.len()` bytes of the disk from byte `start` into pages.
    pub(crate) fn read(
        &self,
        start: u64,
        pages: &mut Pages<'_>,
        buffers: &mut BlockBuffers,
    ) -> Result<(), Fault> {
        let decoding = Decoding {
            codecs: &self.codecs,
            stats: &self.stats,
            verify: self.verify,
        };
        let end = start.saturating_add(pages.len() as u64);
        for piece in Pieces::new(&self.index, start, end, self.virtual_size) {
            // A piece lies inside the pages.
            let len = piece.len as usize;
            match piece.kind {
                PieceKind::Hole | PieceKind::Zeroed => pages.zero(len),
                PieceKind::Data { layer, offset } => self
                    .layers
                    .get(usize::from(layer))
                    .ok_or(EIO)?
                    .read_pages(decoding, buffers, offset, len, pages)?,
            }
        }
        Ok(())
    }
}

/// Merges the layers' indexes into memory of just the right size.
fn merge(opened: &[Opened]) -> Result<KVVec<Segment>, Fault> {
    let mut indexes = KVec::with_capacity(opened.len(), GFP_KERNEL)?;
    for layer in opened {
        indexes.push(&layer.index[..], GFP_KERNEL)?;
    }
    let mut cursors = KVec::from_elem(Cursor::default(), indexes.len(), GFP_KERNEL)?;
    let count = Merge::new(&indexes, &mut cursors)?.count();
    if count > limits::MAX_MERGED_RECORDS {
        return Err(format::Error::new(Rule::StackIndexLimit, 0, count as u64).into());
    }
    let mut merged = KVVec::with_capacity(count, GFP_KERNEL)?;
    for segment in Merge::new(&indexes, &mut cursors)? {
        merged.push(segment, GFP_KERNEL)?;
    }
    Ok(merged)
}
