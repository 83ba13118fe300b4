// SPDX-License-Identifier: GPL-2.0

//! One compressed block after the other: fetch, check, decode, and once more if that fails.
//!
//! Adjacent blocks are fetched with one read. A block that lies in one piece of the request's
//! memory is decoded there; any other goes through the bounce buffer.

use crate::backing::Backing;
use crate::buffer::Buffer;
use crate::cache::{BlockCache, CachedLayer, Kept};
use crate::codec::{Codecs, Crc32c};
use crate::error::Fault;
use crate::format::checksum::BLOCK_CRC_BYTES;
use crate::format::limits::MAX_BLOCK_SIZE;
use crate::format::zfile::{self, Algorithm, Group, JumpTable, Run, ZFile};
use crate::format::{self, ReadAt, Rule, Window};
use crate::stats::Stats;
use crate::sys::job::Worker;
use crate::sys::pages::{Chunk, Pages};
use crate::sys::trace::{self, Point};
use core::ops::Range;
use kernel::alloc::Flags;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Stored bytes that one read fetches at most, unless a single block takes more.
const FETCH_BYTES: usize = 64 * 1024;

/// Bytes that are decoded for one I/O at most where its submitter waits: some microseconds.
const INLINE_DECODED: usize = 16 * 1024;

/// What decoding needs besides memory; the same for all reads of a device.
#[derive(Clone, Copy)]
pub(crate) struct Decoding<'a> {
    pub(crate) codecs: &'a Codecs,
    pub(crate) stats: &'a Stats,
    /// Whether block checksums are verified.
    pub(crate) verify: bool,
    /// Whether plain layers that are opened are read past the page cache.
    pub(crate) direct: bool,
    /// Where layers that are opened keep decoded blocks.
    pub(crate) cache: Option<&'a Arc<BlockCache>>,
    /// How far the read may go.
    pub(crate) effort: Effort<'a>,
    /// Place of the layer in the stack, 0 = bottom.
    pub(crate) layer: u8,
}

impl Decoding<'_> {
    /// Has `read` read `len` bytes of the layer's file from byte `offset` on, and counts and traces that,
    /// unless they are not there yet.
    pub(crate) fn fetch(
        &self,
        offset: u64,
        len: usize,
        read: impl FnOnce() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let start = Point::Fetch.start();
        let result = read();
        if matches!(result, Err(Fault::WouldWait)) {
            return result;
        }
        self.stats.backing_reads.inc();
        if let Some(start) = start {
            let error = result.as_ref().copied().map_err(Fault::errno);
            let device = self.stats.names().device();
            trace::fetch(start, device, self.layer, offset, len, error);
        }
        result
    }
}

/// What a read may do to get at its bytes.
///
/// [`Fault::WouldWait`] says that this is not enough, and that the read is to be done again with more.
#[derive(Clone, Copy)]
pub(crate) enum Effort<'a> {
    /// Everything, on a worker.
    Full,
    /// All that takes no waiting, on a worker. Reading what the page cache has not is started, and the
    /// worker leaves, to be called again.
    Start(&'a Worker<'a>),
    /// No waiting and little work, in the context of whoever submits: what the page cache has, as
    /// long as decoding it is quick. Errors are found and counted on a worker.
    Inline,
}

impl Effort<'_> {
    /// Whether this is [`Effort::Inline`].
    fn is_inline(self) -> bool {
        matches!(self, Self::Inline)
    }
}

/// A compressed layer's blocks and where they are stored.
pub(crate) struct Blocks {
    /// Place of the layer in the stack, 0 = bottom.
    layer: u8,
    backing: Window<Backing>,
    pub(crate) zfile: ZFile,
    table: KVVec<Group>,
    /// Where decoded blocks are kept for other reads, if anywhere.
    cache: Option<CachedLayer>,
}

/// Memory for fetching and decoding, used by one reader at a time.
pub(crate) struct BlockBuffers {
    fetch: Buffer,
    /// What `fetch` holds: blocks of a layer.
    fetched: Option<(u8, Run)>,
    /// Bytes that may still be decoded with [`Effort::Inline`].
    inline_left: usize,
    bounce: Buffer,
    /// What `bounce` holds.
    decoded: Option<Decoded>,
}

/// A decoded block of a layer, or its first bytes.
#[derive(Clone, Copy)]
struct Decoded {
    layer: u8,
    block: u64,
    len: usize,
}

impl BlockBuffers {
    /// Memory for one block at a time, of layers whose stored and decoded blocks have at most these
    /// bytes; 0 for stacks without compressed layers, which need none.
    pub(crate) fn for_one_block(
        max_stored: usize,
        max_decoded: usize,
        flags: Flags,
    ) -> Result<Self> {
        Self::with_room(max_stored, max_decoded, flags)
    }

    /// Memory for the blocks of any layer, and for fetching several of them together.
    pub(crate) fn for_any_layer(flags: Flags) -> Result<Self> {
        let bound = |algorithm: Algorithm| algorithm.bound(MAX_BLOCK_SIZE) as usize;
        let stored = bound(Algorithm::Lz4).max(bound(Algorithm::Zstd));
        let fetch = stored.saturating_add(BLOCK_CRC_BYTES).max(FETCH_BYTES);
        Self::with_room(fetch, MAX_BLOCK_SIZE as usize, flags)
    }

    /// Memory for reads with [`Effort::Inline`], whatever the layers.
    pub(crate) fn for_inline() -> Result<Self> {
        let fetch = Algorithm::Lz4.bound(INLINE_DECODED as u32) as usize + BLOCK_CRC_BYTES;
        Self::with_room(fetch, INLINE_DECODED, GFP_KERNEL)
    }

    fn with_room(fetch: usize, max_decoded: usize, flags: Flags) -> Result<Self> {
        Ok(Self {
            fetch: Buffer::new(fetch, flags)?,
            fetched: None,
            inline_left: INLINE_DECODED,
            bounce: Buffer::new(max_decoded, flags)?,
            decoded: None,
        })
    }

    /// Forgets what the buffers hold: another request may belong to another time.
    pub(crate) fn clear(&mut self) {
        self.fetched = None;
        self.decoded = None;
        self.inline_left = INLINE_DECODED;
    }
}

/// A part of a compressed layer's blocks to be read: the way from the table to the bytes.
struct Reader<'a> {
    blocks: &'a Blocks,
    decoding: Decoding<'a>,
    /// Last block of the read: fetching ahead stops there.
    last: u64,
}

impl Blocks {
    /// Reads the jump table of layer `layer`.
    pub(crate) fn load(
        layer: u8,
        backing: Window<Backing>,
        zfile: ZFile,
        cache: Option<CachedLayer>,
        buf: &mut [u8],
    ) -> Result<Self, Fault> {
        let mut table = KVVec::new();
        zfile::load_jump_table(&backing, &zfile, &Crc32c, buf, |count, fill| {
            let begin = table.len();
            table.resize(begin.saturating_add(count), Group::default(), GFP_KERNEL)?;
            fill(table.get_mut(begin..).unwrap_or_default())
        })?;
        Ok(Self {
            layer,
            backing,
            zfile,
            table,
            cache,
        })
    }

    fn table(&self) -> JumpTable<'_> {
        JumpTable::new(&self.zfile, &self.table)
    }

    /// Number of the block that holds decoded byte `offset`.
    fn block_of(&self, offset: u64) -> u64 {
        offset >> self.zfile.block_size.trailing_zeros()
    }

    fn reader<'a>(&'a self, decoding: Decoding<'a>, offset: u64, len: usize) -> Reader<'a> {
        Reader {
            blocks: self,
            decoding,
            last: self.block_of(offset.saturating_add(len as u64).saturating_sub(1)),
        }
    }

    /// Reads `len` decoded bytes from byte `offset` into pages, and moves those on.
    pub(crate) fn read_pages(
        &self,
        decoding: Decoding<'_>,
        buffers: &mut BlockBuffers,
        offset: u64,
        len: usize,
        pages: &mut Pages<'_>,
    ) -> Result<(), Fault> {
        let reader = self.reader(decoding, offset, len);
        let mut at = offset;
        let mut left = len;
        while left != 0 {
            let block = self.block_of(at);
            let skip = (at & u64::from(self.zfile.block_size - 1)) as usize;
            let decoded = self.zfile.decoded_len(block);
            let here = decoded.saturating_sub(skip).min(left);
            if here == 0 {
                return Err(format::Error::new(Rule::ZFileReadBounds, at, left as u64).into());
            }
            let part = skip..skip.saturating_add(here);
            let kept = self.cache.as_ref().map_or(Kept::Nothing, |cache| {
                cache.get(block, part.clone(), |bytes| pages.write(bytes))
            });
            match pages.chunk(here).filter(|_| here == decoded) {
                _ if kept == Kept::Part => decoding.stats.cache_hits.inc(),
                Some(mut chunk) => {
                    reader.load(block, buffers, &mut chunk)?;
                    pages.advance(here);
                }
                None => pages.write(reader.bounce(block, part, kept, buffers)?),
            }
            at = at.saturating_add(here as u64);
            left -= here;
        }
        Ok(())
    }

    /// Reads decoded bytes from byte `offset` into memory of the kernel.
    pub(crate) fn read(
        &self,
        decoding: Decoding<'_>,
        buffers: &mut BlockBuffers,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), Fault> {
        let reader = self.reader(decoding, offset, buf.len());
        // The bounce buffer is lent out while blocks are loaded through the same buffers.
        let mut bounce = core::mem::take(&mut buffers.bounce);
        buffers.decoded = None;
        let result = zfile::read_blocks(&self.zfile, offset, buf, &mut bounce, |block, dst| {
            reader.load(block, buffers, &mut Chunk::from(dst))
        });
        buffers.bounce = bounce;
        result
    }
}

impl Reader<'_> {
    /// Bytes `part` of block `block`, decoded in the bounce buffer.
    ///
    /// `kept` is what the cache had of it. Who wants another part of a block is taken for one who will
    /// want all of it, so the second time all of it is decoded.
    fn bounce<'b>(
        &self,
        block: u64,
        part: Range<usize>,
        kept: Kept,
        buffers: &'b mut BlockBuffers,
    ) -> Result<&'b [u8], Fault> {
        let zfile = &self.blocks.zfile;
        let same = |held: &Decoded| held.layer == self.blocks.layer && held.block == block;
        let held = buffers.decoded.filter(same).map_or(0, |held| held.len);
        if held < part.end {
            let again = held != 0 || kept == Kept::Head;
            let len = if again {
                zfile.decoded_len(block)
            } else {
                zfile.bytes_to_decode(block, &part)
            };
            self.fill_bounce(block, len, buffers)?;
        }
        let outside = format::Error::new(Rule::ZFileReadBounds, block, part.start as u64);
        Ok(buffers.bounce.get(part).ok_or(outside)?)
    }

    /// Decodes the first `len` bytes of block `block` into the bounce buffer, and keeps a copy of them.
    fn fill_bounce(&self, block: u64, len: usize, buffers: &mut BlockBuffers) -> Result<(), Fault> {
        // Lent out while a block is loaded through the same buffers.
        let mut bounce = core::mem::take(&mut buffers.bounce);
        buffers.decoded = None;
        let result = match bounce.get_mut(..len) {
            Some(dst) => self.load(block, buffers, &mut Chunk::from(dst)),
            // The memory for this effort is smaller than some blocks.
            None if self.decoding.effort.is_inline() => Err(Fault::WouldWait),
            None => Err(format::Error::new(Rule::ZFileReadBounds, block, len as u64).into()),
        };
        buffers.bounce = bounce;
        result?;
        let layer = self.blocks.layer;
        buffers.decoded = Some(Decoded { layer, block, len });
        // Somebody may want another part. Where the submitter waits there is no time to find memory for
        // it.
        let cache = self.blocks.cache.as_ref();
        if let Some(cache) = cache.filter(|_| !self.decoding.effort.is_inline()) {
            cache.insert(block, buffers.bounce.get(..len).unwrap_or_default());
        }
        Ok(())
    }

    /// Decodes block `block` into `dst`, as far as that goes, reading it a second time if anything about
    /// it is wrong.
    fn load(
        &self,
        block: u64,
        buffers: &mut BlockBuffers,
        dst: &mut Chunk<'_>,
    ) -> Result<(), Fault> {
        if self.decoding.effort.is_inline() {
            return self.load_inline(block, buffers, dst);
        }
        if let Err(fault) = self.attempt(block, self.last, buffers, dst) {
            if matches!(fault, Fault::WouldWait) {
                return Err(fault);
            }
            // Once more from the storage, this block alone, in case the page cache holds the error
            // or a neighbour is what cannot be read.
            self.decoding.stats.rereads.inc();
            buffers.fetched = None;
            let stored = self.blocks.table().stored(block).ok_or(fault)?;
            self.blocks.backing.inner().forget(
                self.blocks.backing.offset().saturating_add(stored.offset),
                stored.len,
            );
            if let Effort::Start(worker) = self.decoding.effort {
                worker.will_wait();
            }
            let again = Reader {
                blocks: self.blocks,
                decoding: Decoding {
                    effort: Effort::Full,
                    ..self.decoding
                },
                last: block,
            };
            again.attempt(block, block, buffers, dst)?;
        }
        Ok(())
    }

    /// Decodes block `block` into `dst` if it is cached and quick to decode.
    fn load_inline(
        &self,
        block: u64,
        buffers: &mut BlockBuffers,
        dst: &mut Chunk<'_>,
    ) -> Result<(), Fault> {
        // ZSTD takes several times as long, and a context that might have to be waited for.
        if self.blocks.zfile.algorithm != Algorithm::Lz4 {
            return Err(Fault::WouldWait);
        }
        // Not a part of what is too much as a whole: a worker would do it again.
        let ahead = self.last.saturating_sub(block).saturating_add(1);
        if ahead.saturating_mul(u64::from(self.blocks.zfile.block_size))
            > buffers.inline_left as u64
        {
            return Err(Fault::WouldWait);
        }
        buffers.inline_left = buffers.inline_left.saturating_sub(dst.len());
        let stored = self.fetch(block, self.last, buffers)?;
        self.unpack(block, stored, dst)
            .map_err(|_| Fault::WouldWait)?;
        self.decoding.stats.blocks_decoded.inc();
        Ok(())
    }

    /// Checks and decodes what is stored of block `block`, all of it or as much as `dst` takes.
    fn unpack(&self, block: u64, stored: &[u8], dst: &mut Chunk<'_>) -> Result<(), Rule> {
        let mut codecs = self.decoding.codecs;
        let verify = self.decoding.verify;
        let zfile = &self.blocks.zfile;
        let start = Point::Decode.start();
        let result = if dst.len() < zfile.decoded_len(block) {
            zfile::unpack_head(zfile, &Crc32c, &mut codecs, verify, stored, dst)
        } else {
            zfile::unpack(zfile, &Crc32c, &mut codecs, verify, stored, dst)
        };
        if let Some(start) = start {
            self.decoded(start, block, dst.len(), result);
        }
        result
    }

    /// Traces that `len` bytes of block `block` have been decoded.
    #[cold]
    fn decoded(&self, start: trace::Start, block: u64, len: usize, result: Result<(), Rule>) {
        let stored = self.blocks.table().stored(block);
        let at = stored.map_or(0, |stored| stored.offset);
        let at = self.blocks.backing.offset().saturating_add(at);
        let error = result.map_err(|rule| Fault::from(format::Error::new(rule, at, block)).errno());
        let device = self.decoding.stats.names().device();
        trace::decode(start, device, self.decoding.layer, at, len, error);
    }

    fn attempt(
        &self,
        block: u64,
        last: u64,
        buffers: &mut BlockBuffers,
        dst: &mut Chunk<'_>,
    ) -> Result<(), Fault> {
        let stored = self.fetch(block, last, buffers)?;
        let stats = self.decoding.stats;
        self.unpack(block, stored, dst).map_err(|rule| {
            match rule {
                Rule::ZFileBlockCrc => stats.crc_errors.inc(),
                _ => stats.decode_errors.inc(),
            }
            let at = self.blocks.table().stored(block).map_or(0, |s| s.offset);
            format::Error::new(rule, at, block)
        })?;
        stats.blocks_decoded.inc();
        Ok(())
    }

    /// The stored bytes of block `block`, fetched together with those after it up to `last`.
    fn fetch<'b>(
        &self,
        block: u64,
        last: u64,
        buffers: &'b mut BlockBuffers,
    ) -> Result<&'b [u8], Fault> {
        let outside = format::Error::new(Rule::ZFileReadBounds, block, last);
        let table = self.blocks.table();

        let run = match buffers.fetched {
            Some((layer, run)) if layer == self.blocks.layer && run.contains(block) => run,
            _ => {
                buffers.fetched = None;
                let room = buffers.fetch.len();
                let run = match Run::new(&table, block, last, room) {
                    Some(run) => run,
                    // The memory for this effort is smaller than some blocks.
                    None if self.decoding.effort.is_inline() => return Err(Fault::WouldWait),
                    None => return Err(outside.into()),
                };
                let dst = buffers.fetch.get_mut(..run.len).ok_or(outside)?;
                match self.decoding.effort {
                    Effort::Full => {
                        let backing = &self.blocks.backing;
                        let at = backing.offset().saturating_add(run.offset);
                        self.decoding
                            .fetch(at, run.len, || backing.read_exact_at(run.offset, dst))?;
                    }
                    Effort::Start(worker) => {
                        let backing = &self.blocks.backing;
                        let at = backing.offset().saturating_add(run.offset);
                        self.decoding
                            .fetch(at, run.len, || backing.inner().start(at, dst, worker))?;
                    }
                    Effort::Inline => self.blocks.backing.inner().read_cached(
                        self.blocks.backing.offset().saturating_add(run.offset),
                        dst,
                    )?,
                }
                buffers.fetched = Some((self.blocks.layer, run));
                run
            }
        };
        let stored = table.stored(block).ok_or(outside)?;
        let start = stored
            .offset
            .checked_sub(run.offset)
            .and_then(|start| usize::try_from(start).ok())
            .ok_or(outside)?;
        Ok(start
            .checked_add(stored.len)
            .and_then(|end| buffers.fetch.get(start..end))
            .ok_or(outside)?)
    }
}
