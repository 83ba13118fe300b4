// SPDX-License-Identifier: GPL-2.0

//! One layer: a backing file, perhaps a tar wrapper, perhaps compressed blocks.

use crate::backing::Backing;
use crate::block::{Blocks, Decoding, Effort};
use crate::budget::{Charge, Claim};
use crate::buffer::{BlockBuffers, Buffer};
use crate::cache::CachedLayer;
use crate::codec::Crc32c;
use crate::error::Fault;
use crate::format::lsmt::{self, Segment};
use crate::format::{tar, zfile, ReadAt, Window};
use crate::pool::Buffers;
use crate::registry::{BlockTable, Key, Registry};
use crate::sys::pages::Pages;
use crate::sys::table::Table;
use core::cell::RefCell;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Bytes of metadata that are read at a time while a layer is opened.
pub(crate) const METADATA_CHUNK: usize = 64 * 1024;

/// An open layer.
pub(crate) enum Layer {
    /// The payload of the file as it is.
    Plain(Window<Backing>),
    /// A compressed payload.
    Compressed(Blocks),
}

/// A layer and what its own metadata say; the index is merged and then dropped.
pub(crate) struct Opened {
    pub(crate) layer: Layer,
    /// Bytes of the disk, as far as this layer says.
    pub(crate) virtual_size: u64,
    pub(crate) index: LayerIndex,
}

/// A layer's index, and the memory that it is charged for.
pub(crate) struct LayerIndex {
    pub(crate) segments: Table<Segment>,
    charge: Charge,
}

impl LayerIndex {
    /// Room for `records` records.
    fn new(records: usize, claim: &mut Claim) -> Result<Self, Fault> {
        let charge = claim.take(Table::<Segment>::bytes(records))?;
        Ok(Self {
            segments: Table::new(records)?,
            charge,
        })
    }

    /// The same with just the first `count` records. Room to spare is given back.
    // Not inlined: its caller has little of the stack to spare.
    #[inline(never)]
    fn shortened(mut self, count: usize, claim: &mut Claim) -> Result<Self, Fault> {
        if count >= self.segments.len() / 8 * 7 {
            self.segments.truncate(count);
            return Ok(self);
        }
        let mut fitting = Self::new(count, claim)?;
        let kept = self.segments.iter();
        for (to, from) in fitting.segments.iter_mut().zip(kept) {
            *to = *from;
        }
        claim.give(self.charge);
        Ok(fitting)
    }
}

/// What it takes to open the layers of a stack.
pub(crate) struct Opening<'a> {
    pub(crate) decoding: Decoding<'a>,
    /// Whether data of layers that are not compressed are read past the page cache.
    pub(crate) direct: bool,
    pub(crate) registry: &'a Arc<Registry>,
    /// Memory that the stack has so far.
    pub(crate) claim: Claim,
    /// For metadata on their way: [`METADATA_CHUNK`] bytes.
    pub(crate) buf: Buffer,
}

impl<'a> Opening<'a> {
    /// Nothing is open yet.
    pub(crate) fn new(
        decoding: Decoding<'a>,
        direct: bool,
        registry: &'a Arc<Registry>,
    ) -> Result<Self> {
        Ok(Self {
            decoding,
            direct,
            registry,
            claim: Claim::new(registry.budget().clone()),
            buf: Buffer::new(METADATA_CHUNK, GFP_KERNEL)?,
        })
    }
}

impl Layer {
    /// Opens the layer on top of those `below` and reads its metadata, checking every rule of the format.
    // Not inlined: what it takes of the stack is not needed once all layers are open.
    #[inline(never)]
    pub(crate) fn open(
        number: u8,
        backing: Backing,
        opening: &mut Opening<'_>,
        below: &[Opened],
    ) -> Result<Opened, Fault> {
        let layers = || below.iter().map(|opened| &opened.layer);
        let layer = Self::unwrap(number, backing, opening, layers)?;
        let records_below = below.iter().map(|opened| opened.index.segments.len());
        let (virtual_size, index) = layer.describe(opening, records_below.sum())?;
        Ok(Opened {
            layer,
            virtual_size,
            index,
        })
    }

    /// Reads what the layer says of itself: bytes of the disk, and its index, on top of so many records of
    /// other layers.
    // Not inlined: what it takes of the stack is not needed while the wrappers are read.
    #[inline(never)]
    fn describe(
        &self,
        opening: &mut Opening<'_>,
        records_below: usize,
    ) -> Result<(u64, LayerIndex), Fault> {
        let (stored, decoded) = self.block_bytes();
        let metadata = Metadata {
            layer: self,
            decoding: opening.decoding,
            buffers: RefCell::new(MetadataBuffers {
                blocks: Buffers::Given(BlockBuffers::new(stored, 0, GFP_KERNEL)?),
                bounce: Buffer::new(decoded, GFP_KERNEL)?,
            }),
        };
        let lsmt = lsmt::probe(&metadata)?;
        // At most limits::MAX_INDEX_RECORDS.
        let mut index = LayerIndex::new(lsmt.index_size as usize, &mut opening.claim)?;
        let mut count = 0usize;
        lsmt::load_index(&metadata, &lsmt, &mut opening.buf, |segment| {
            lsmt::check_records(records_below.saturating_add(count))?;
            if let Some(place) = index.segments.get_mut(count) {
                *place = segment;
            }
            count = count.saturating_add(1);
            Ok(())
        })?;
        drop(metadata);
        Ok((
            lsmt.virtual_size,
            index.shortened(count, &mut opening.claim)?,
        ))
    }

    /// Opens layer `number` without asking what its bytes are.
    pub(crate) fn open_raw(
        number: u8,
        backing: Backing,
        opening: &mut Opening<'_>,
    ) -> Result<Self, Fault> {
        Self::unwrap(number, backing, opening, core::iter::empty)
    }

    /// Finds out about the wrappers of a layer on top of others.
    // Not inlined: what it takes of the stack is given back before the index is read.
    #[inline(never)]
    fn unwrap<'l, I: Iterator<Item = &'l Layer>>(
        number: u8,
        backing: Backing,
        opening: &mut Opening<'_>,
        below: impl Fn() -> I,
    ) -> Result<Self, Fault> {
        let backing = match opening.direct {
            true => backing.direct(),
            false => backing,
        };
        let (_, backing) = tar::unwrap(backing)?;
        let Some(header) = zfile::probe(&backing, &Crc32c)? else {
            if opening.direct && !backing.inner().is_direct() {
                return Err(Fault::NoDirect);
            }
            return Ok(Self::Plain(backing));
        };
        opening.decoding.codecs.prepare(header.algorithm)?;
        let key = backing.inner().identity()?.map(|file| Key {
            file,
            offset: backing.offset(),
            zfile: header,
        });
        let Opening {
            registry,
            claim,
            buf,
            ..
        } = opening;
        let bytes = Table::<zfile::Group>::bytes(zfile::groups(&header));
        let mut loaded = false;
        let open = registry.open(key, || {
            loaded = true;
            let charge = claim.take(bytes)?;
            BlockTable::load(&backing, &header, charge, buf)
        })?;
        let same = |layer: &Layer| {
            let blocks = layer.blocks();
            blocks.is_some_and(|blocks| blocks.open.number() == open.number())
        };
        // What others have loaded is this stack's as well, once.
        if !loaded && !below().any(same) {
            claim.count(bytes)?;
        }
        // Blocks that nobody has verified are not for readers who want that.
        let verified = opening.decoding.verify || !header.block_crc;
        let cache = opening.registry.cache().cloned();
        let cache = cache.map(|cache| CachedLayer::new(cache, open.number(), verified));
        Ok(Self::Compressed(Blocks::new(
            number, backing, header, open, cache,
        )))
    }

    fn blocks(&self) -> Option<&Blocks> {
        match self {
            Self::Plain(_) => None,
            Self::Compressed(blocks) => Some(blocks),
        }
    }

    /// Bytes of a compressed layer before compression, or [`None`] for one that is not.
    pub(crate) fn original_size(&self) -> Option<u64> {
        self.blocks().map(|blocks| blocks.zfile.original_size)
    }

    /// Most bytes of a stored and of a decoded block; 0 for a layer that is not compressed.
    pub(crate) fn block_bytes(&self) -> (usize, usize) {
        self.blocks().map_or((0, 0), |blocks| {
            (blocks.zfile.max_stored(), blocks.zfile.block_size as usize)
        })
    }

    /// Bytes that are decoded together, or [`None`] for a layer that is not compressed.
    pub(crate) fn block_size(&self) -> Option<u32> {
        self.blocks().map(|blocks| blocks.zfile.block_size)
    }

    /// Reads `len` LSMT bytes from byte `offset` into pages, and moves those on.
    pub(crate) fn read_pages(
        &self,
        decoding: Decoding<'_>,
        buffers: &mut Buffers<'_>,
        offset: u64,
        len: usize,
        pages: &mut Pages<'_>,
    ) -> Result<(), Fault> {
        match self {
            Self::Compressed(blocks) => blocks.read_pages(decoding, buffers, offset, len, pages),
            Self::Plain(backing) => read_plain(backing, decoding, offset, len, pages),
        }
    }
}

/// Reads stored bytes as they are, a second time from the storage if the first one fails.
fn read_plain(
    backing: &Window<Backing>,
    decoding: Decoding<'_>,
    offset: u64,
    len: usize,
    pages: &mut Pages<'_>,
) -> Result<(), Fault> {
    // The index was checked against the file's size, so this is inside of it.
    let at = backing.offset().saturating_add(offset);
    let file = backing.inner();

    match decoding.effort {
        Effort::Inline => return file.read_pages_cached(at, pages, len),
        Effort::Start(worker) => {
            return decoding.fetch(at, len, || file.start_pages(at, pages, len, worker));
        }
        Effort::Full => {}
    }
    if decoding
        .fetch(at, len, || file.read_pages(at, &mut pages.again(), len))
        .is_err()
    {
        decoding.stats.rereads.inc();
        file.forget(at, len);
        decoding.fetch(at, len, || file.read_pages(at, &mut pages.again(), len))?;
    }
    pages.advance(len);
    Ok(())
}

/// A layer's LSMT bytes, for reading its metadata.
struct Metadata<'a> {
    layer: &'a Layer,
    decoding: Decoding<'a>,
    buffers: RefCell<MetadataBuffers>,
}

struct MetadataBuffers {
    blocks: Buffers<'static>,
    /// For parts of blocks.
    bounce: Buffer,
}

impl ReadAt for Metadata<'_> {
    type Error = Fault;

    fn size(&self) -> u64 {
        match self.layer {
            Layer::Plain(backing) => backing.size(),
            Layer::Compressed(blocks) => blocks.zfile.original_size,
        }
    }

    fn is_exact(&self) -> bool {
        match self.layer {
            Layer::Plain(backing) => backing.is_exact(),
            Layer::Compressed(_) => true,
        }
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Fault> {
        match self.layer {
            Layer::Plain(backing) => backing.read_exact_at(offset, buf),
            Layer::Compressed(blocks) => {
                let mut buffers = self.buffers.try_borrow_mut().map_err(|_| EBUSY)?;
                let MetadataBuffers {
                    blocks: set,
                    bounce,
                } = &mut *buffers;
                blocks.read(self.decoding, set, bounce, offset, buf)
            }
        }
    }
}
