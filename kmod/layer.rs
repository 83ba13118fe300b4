// SPDX-License-Identifier: GPL-2.0

//! One layer: a backing file, perhaps a tar wrapper, perhaps compressed blocks.

use crate::backing::Backing;
use crate::block::{BlockBuffers, Blocks, Decoding, Effort};
use crate::buffer::Buffer;
use crate::cache::CachedLayer;
use crate::codec::Crc32c;
use crate::error::Fault;
use crate::format::lsmt::{self, Segment};
use crate::format::{tar, zfile, ReadAt, Window};
use crate::sys::pages::Pages;
use core::cell::RefCell;
use kernel::prelude::*;

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
    pub(crate) index: KVVec<Segment>,
}

impl Layer {
    /// Opens layer `number` and reads its metadata, checking every rule of the format.
    ///
    /// `records_below` is the number of records that the layers opened so far have; `buf`, of
    /// [`METADATA_CHUNK`] bytes, is for metadata on their way.
    // Not inlined: what it takes of the stack is not needed once all layers are open.
    #[inline(never)]
    pub(crate) fn open(
        number: u8,
        backing: Backing,
        decoding: Decoding<'_>,
        records_below: usize,
        buf: &mut [u8],
    ) -> Result<Opened, Fault> {
        let layer = Self::unwrap(number, backing, decoding, buf)?;
        let (stored, decoded) = layer.block_bytes();
        let metadata = Metadata {
            layer: &layer,
            decoding,
            buffers: RefCell::new(BlockBuffers::for_one_block(stored, decoded, GFP_KERNEL)?),
        };
        let lsmt = lsmt::probe(&metadata)?;
        let mut index = KVVec::new();
        lsmt::load_index(&metadata, &lsmt, buf, |segment| {
            lsmt::check_records(records_below.saturating_add(index.len()))?;
            Ok(index.push(segment, GFP_KERNEL)?)
        })?;
        Ok(Opened {
            layer,
            virtual_size: lsmt.virtual_size,
            index,
        })
    }

    /// Opens layer `number` without asking what its bytes are.
    pub(crate) fn open_raw(
        number: u8,
        backing: Backing,
        decoding: Decoding<'_>,
    ) -> Result<Self, Fault> {
        let mut buf = Buffer::new(METADATA_CHUNK, GFP_KERNEL)?;
        Self::unwrap(number, backing, decoding, &mut buf)
    }

    /// Finds out about the wrappers of a layer.
    // Not inlined: what it takes of the stack is given back before the index is read.
    #[inline(never)]
    fn unwrap(
        number: u8,
        backing: Backing,
        decoding: Decoding<'_>,
        buf: &mut [u8],
    ) -> Result<Self, Fault> {
        let backing = match decoding.direct {
            true => backing.direct(),
            false => backing,
        };
        let (_, backing) = tar::unwrap(backing)?;
        let Some(header) = zfile::probe(&backing, &Crc32c)? else {
            if decoding.direct && !backing.inner().is_direct() {
                return Err(Fault::NoDirect);
            }
            return Ok(Self::Plain(backing));
        };
        decoding.codecs.prepare(header.algorithm)?;
        let cache = match decoding.cache {
            Some(cache) => {
                // Blocks that nobody has verified are not for readers who want that.
                let verified = decoding.verify || !header.block_crc;
                let identity = backing.inner().identity()?;
                Some(CachedLayer::new(
                    cache,
                    identity,
                    backing.offset(),
                    verified,
                )?)
            }
            None => None,
        };
        let blocks = Blocks::load(number, backing, header, cache, buf)?;
        Ok(Self::Compressed(blocks))
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
        buffers: &mut BlockBuffers,
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
    buffers: RefCell<BlockBuffers>,
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
                blocks.read(self.decoding, &mut buffers, offset, buf)
            }
        }
    }
}
