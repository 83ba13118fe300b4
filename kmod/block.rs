// SPDX-License-Identifier: GPL-2.0

//! One compressed block after the other: fetch, check, decode, and once more if that fails.
//!
//! Adjacent blocks are fetched with one read. A block that lies in one piece of the request's
//! memory is decoded there; any other goes through the bounce buffer.

use crate::backing::Backing;
use crate::buffer::{Decoded, Fetched};
use crate::cache::{CachedLayer, Kept};
use crate::codec::{Codecs, Crc32c};
use crate::error::Fault;
use crate::format::zfile::{self, Algorithm, JumpTable, Run, ZFile};
use crate::format::{self, ReadAt, Rule, Window};
use crate::pool::Buffers;
use crate::registry::OpenLayer;
use crate::stats::Stats;
use crate::sys::job::Worker;
use crate::sys::pages::{Chunk, Pages};
use crate::sys::trace::{self, Point};
use core::ops::Range;
use kernel::prelude::*;

/// Stored bytes that one read fetches at most, unless a single block takes more.
const FETCH_BYTES: usize = 64 * 1024;

/// What decoding needs besides memory; the same for all reads of a device.
#[derive(Clone, Copy)]
pub(crate) struct Decoding<'a> {
    pub(crate) codecs: &'a Codecs,
    pub(crate) stats: &'a Stats,
    /// Whether block checksums are verified.
    pub(crate) verify: bool,
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
    pub(crate) open: OpenLayer,
    /// Where decoded blocks are kept for other reads, if anywhere.
    cache: Option<CachedLayer>,
}

/// A part of a compressed layer's blocks to be read: the way from the table to the bytes.
struct Reader<'a> {
    blocks: &'a Blocks,
    decoding: Decoding<'a>,
    /// Last block of the read: fetching ahead stops there.
    last: u64,
}

/// Where a block is decoded to.
enum Target<'t, 'm> {
    /// Memory for all of it.
    Chunk(&'t mut Chunk<'m>),
    /// The bounce buffer; its first bytes, this many.
    Bounce(usize),
}

impl Target<'_, '_> {
    fn len(&self) -> usize {
        match self {
            Self::Chunk(chunk) => chunk.len(),
            Self::Bounce(len) => *len,
        }
    }

    /// Bytes of the bounce buffer that it takes.
    fn bounce(&self) -> usize {
        match self {
            Self::Chunk(_) => 0,
            Self::Bounce(len) => *len,
        }
    }
}

impl Blocks {
    /// The blocks of layer `layer`, which is open.
    pub(crate) fn new(
        layer: u8,
        backing: Window<Backing>,
        zfile: ZFile,
        open: OpenLayer,
        cache: Option<CachedLayer>,
    ) -> Self {
        Self {
            layer,
            backing,
            zfile,
            open,
            cache,
        }
    }

    fn table(&self) -> JumpTable<'_> {
        JumpTable::new(&self.zfile, self.open.groups())
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
        buffers: &mut Buffers<'_>,
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
                    reader.load(block, buffers, Target::Chunk(&mut chunk))?;
                    pages.advance(here);
                }
                None => pages.write(reader.bounce(block, part, kept, buffers)?),
            }
            at = at.saturating_add(here as u64);
            left -= here;
        }
        Ok(())
    }

    /// Reads decoded bytes from byte `offset` into memory of the kernel; `bounce` has room for a block.
    pub(crate) fn read(
        &self,
        decoding: Decoding<'_>,
        buffers: &mut Buffers<'_>,
        bounce: &mut [u8],
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), Fault> {
        let reader = self.reader(decoding, offset, buf.len());
        zfile::read_blocks(&self.zfile, offset, buf, bounce, |block, dst| {
            reader.load(block, buffers, Target::Chunk(&mut Chunk::from(dst)))
        })
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
        buffers: &'b mut Buffers<'_>,
    ) -> Result<&'b [u8], Fault> {
        let zfile = &self.blocks.zfile;
        let same = |held: &Decoded| held.layer == self.blocks.layer && held.block == block;
        let held = buffers.held().and_then(|set| set.decoded).filter(same);
        let held = held.map_or(0, |held| held.len);
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
        let set = buffers.held().ok_or(outside)?;
        Ok(set.bounce.get(part).ok_or(outside)?)
    }

    /// Decodes the first `len` bytes of block `block` into the bounce buffer, and keeps a copy of them.
    fn fill_bounce(&self, block: u64, len: usize, buffers: &mut Buffers<'_>) -> Result<(), Fault> {
        let layer = self.blocks.layer;
        if let Some(set) = buffers.held() {
            set.decoded = None;
        }
        self.load(block, buffers, Target::Bounce(len))?;
        let Some(set) = buffers.held() else {
            return Ok(());
        };
        set.decoded = Some(Decoded { layer, block, len });
        // Somebody may want another part. Where the submitter waits there is no time to find memory for
        // it.
        let cache = self.blocks.cache.as_ref();
        if let Some(cache) = cache.filter(|_| !self.decoding.effort.is_inline()) {
            cache.insert(block, set.bounce.get(..len).unwrap_or_default());
        }
        Ok(())
    }

    /// Decodes block `block` into `target`, as far as that goes, reading it a second time if anything
    /// about it is wrong.
    fn load(
        &self,
        block: u64,
        buffers: &mut Buffers<'_>,
        mut target: Target<'_, '_>,
    ) -> Result<(), Fault> {
        if self.decoding.effort.is_inline() {
            return self.load_inline(block, buffers, target);
        }
        if let Err(fault) = self.attempt(block, self.last, buffers, &mut target) {
            if matches!(fault, Fault::WouldWait) {
                return Err(fault);
            }
            // Once more from the storage, this block alone, in case the page cache holds the error
            // or a neighbour is what cannot be read.
            self.decoding.stats.rereads.inc();
            if let Some(set) = buffers.held() {
                set.fetched = None;
            }
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
            again.attempt(block, block, buffers, &mut target)?;
        }
        Ok(())
    }

    /// Decodes block `block` into `target` if it is cached and quick to decode.
    fn load_inline(
        &self,
        block: u64,
        buffers: &mut Buffers<'_>,
        mut target: Target<'_, '_>,
    ) -> Result<(), Fault> {
        // ZSTD takes several times as long, and a context that might have to be waited for.
        if self.blocks.zfile.algorithm != Algorithm::Lz4 {
            return Err(Fault::WouldWait);
        }
        // Not a part of what is too much as a whole: a worker would do it again.
        let ahead = self.last.saturating_sub(block).saturating_add(1);
        if ahead.saturating_mul(u64::from(self.blocks.zfile.block_size))
            > buffers.may_decode() as u64
        {
            return Err(Fault::WouldWait);
        }
        buffers.decode(target.len());
        self.decode(block, self.last, buffers, &mut target)?
            .map_err(|_| Fault::WouldWait)?;
        self.decoding.stats.blocks_decoded.inc();
        Ok(())
    }

    /// Fetches block `block`, and those after it up to `last`, and decodes it into `target`; the rule that
    /// the block breaks, if it does.
    fn decode(
        &self,
        block: u64,
        last: u64,
        buffers: &mut Buffers<'_>,
        target: &mut Target<'_, '_>,
    ) -> Result<Result<(), Rule>, Fault> {
        let outside = self.outside(block, last);
        let stored = self.fetch(block, last, target.bounce(), buffers)?;
        let set = buffers.held().ok_or(outside)?;
        let stored = set.fetch.get(stored).ok_or(outside)?;
        Ok(match target {
            Target::Chunk(chunk) => self.unpack(block, stored, chunk),
            Target::Bounce(len) => match set.bounce.get_mut(..*len) {
                Some(dst) => self.unpack(block, stored, &mut Chunk::from(dst)),
                // The memory for this effort is smaller than some blocks.
                None if self.decoding.effort.is_inline() => return Err(Fault::WouldWait),
                None => return Err(outside.into()),
            },
        })
    }

    fn outside(&self, block: u64, last: u64) -> format::Error {
        format::Error::new(Rule::ZFileReadBounds, block, last)
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
        buffers: &mut Buffers<'_>,
        target: &mut Target<'_, '_>,
    ) -> Result<(), Fault> {
        let stats = self.decoding.stats;
        self.decode(block, last, buffers, target)?.map_err(|rule| {
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

    /// Fetches block `block` together with those after it up to `last`, into a set that has room to decode
    /// `bounce` bytes; where in its memory the block's stored bytes are.
    fn fetch(
        &self,
        block: u64,
        last: u64,
        bounce: usize,
        buffers: &mut Buffers<'_>,
    ) -> Result<Range<usize>, Fault> {
        let outside = self.outside(block, last);
        let table = self.blocks.table();
        let layer = self.blocks.layer;

        let same = |held: &Fetched| held.layer == layer && held.run.contains(block);
        let held = buffers.with_room(0, bounce).and_then(|set| set.fetched);
        let run = match held.filter(same) {
            Some(held) => held.run,
            None => self.fetch_run(&table, block, last, bounce, buffers)?,
        };
        let stored = table.stored(block).ok_or(outside)?;
        let start = stored
            .offset
            .checked_sub(run.offset)
            .and_then(|start| usize::try_from(start).ok())
            .ok_or(outside)?;
        let end = start.checked_add(stored.len).ok_or(outside)?;
        Ok(start..end)
    }

    /// Fetches the longest run from block `block` to at most `last` that there is room for.
    fn fetch_run(
        &self,
        table: &JumpTable<'_>,
        block: u64,
        last: u64,
        bounce: usize,
        buffers: &mut Buffers<'_>,
    ) -> Result<Run, Fault> {
        let outside = self.outside(block, last);
        let inline = self.decoding.effort.is_inline();
        let run = |room: usize| match Run::new(table, block, last, room) {
            Some(run) => Ok(run),
            // The memory for this effort is smaller than some blocks.
            None if inline => Err(Fault::WouldWait),
            None => Err(outside.into()),
        };
        let wanted = FETCH_BYTES.max(self.blocks.zfile.max_stored());
        let mut run_here = run(buffers.fixed_room().unwrap_or(wanted))?;
        let set = buffers.with_room(run_here.len, bounce).ok_or(outside)?;
        set.fetched = None;
        if set.fetch.len() < run_here.len {
            run_here = run(set.fetch.len())?;
        }
        let dst = set.fetch.get_mut(..run_here.len).ok_or(outside)?;
        let backing = &self.blocks.backing;
        let at = backing.offset().saturating_add(run_here.offset);
        match self.decoding.effort {
            Effort::Full => self.decoding.fetch(at, run_here.len, || {
                backing.read_exact_at(run_here.offset, dst)
            })?,
            Effort::Start(worker) => self
                .decoding
                .fetch(at, run_here.len, || backing.inner().start(at, dst, worker))?,
            Effort::Inline => backing.inner().read_cached(at, dst)?,
        }
        set.fetched = Some(Fetched {
            layer: self.blocks.layer,
            run: run_here,
        });
        Ok(run_here)
    }
}
