// SPDX-License-Identifier: GPL-2.0

//! The read route of an I/O: parts of it in turn, each one's memory filled from the stack.
//!
//! What needs neither waiting nor much work is served at once, where the I/O is submitted; everything
//! else goes to workers. There an I/O is cut into parts that they take one after the other, so that
//! a large one is decoded by several CPUs. [`Progress`] is the place where the next part begins; taking a part moves it on
//! atomically.

use crate::block::Effort;
use crate::error::LayerFault;
use crate::pool::{Pool, Pools, Scratch};
use crate::stack::Stack;
use crate::sys::log;
use crate::sys::pages::Memory;
use core::ops::Range;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};
use kernel::sync::Arc;

/// Bytes of a part, unless a block makes it a little longer: the largest decoding unit.
const PART_BYTES: u64 = 64 * 1024;

/// Bytes of an I/O that keeps workers busy best: several share it, each with the largest block.
pub(crate) const OPTIMAL_BYTES: u64 = 2 * PART_BYTES;

/// Bytes of an I/O that is served in the context of its submitter, at most: what read-ahead asks for,
/// which the block layer makes twice the optimum.
const INLINE_BYTES: u64 = 2 * OPTIMAL_BYTES;

/// What an I/O needs to go on.
pub(crate) enum Verdict {
    /// Nothing: it is served.
    Served,
    /// This many workers.
    Workers(u32),
}

/// How far workers have come with an I/O.
pub(crate) struct Progress {
    /// Byte of the disk at which the next part begins.
    next: Atomic<u64>,
    /// Byte of the disk at which the I/O ends.
    end: Atomic<u64>,
    failed: Atomic<bool>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            next: Atomic::new(0),
            end: Atomic::new(0),
            failed: Atomic::new(false),
        }
    }
}

impl Progress {
    /// Whether a part has failed.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Relaxed)
    }
}

/// A stack, and memory to read it with.
pub(crate) struct Transfer {
    stack: Arc<Stack>,
    pool: Pin<KBox<Pool>>,
}

impl Transfer {
    /// Reads of `stack`.
    pub(crate) fn new(stack: Arc<Stack>, pools: Arc<Pools>) -> Result<Self> {
        let pool = Pool::new(stack.buffer_sizes(), pools)?;
        Ok(Self { stack, pool })
    }

    /// The stack.
    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Takes a new I/O on bytes `range` of the disk: serves it at once if that takes neither waiting
    /// nor much work, else prepares `progress` for workers. Never sleeps.
    pub(crate) fn begin(
        &self,
        io: &impl Memory,
        progress: &Progress,
        range: Range<u64>,
    ) -> Verdict {
        let len = range.end.saturating_sub(range.start);
        let stats = self.stack.stats();
        stats.requests.inc();
        stats.bytes.add(len);
        if len <= INLINE_BYTES && self.read_inline(io, range.clone()) {
            stats.inline.inc();
            return Verdict::Served;
        }
        stats.queued.inc();
        progress.next.store(range.start, Relaxed);
        progress.end.store(range.end, Relaxed);
        progress.failed.store(false, Relaxed);
        Verdict::Workers(u32::try_from(len.div_ceil(PART_BYTES)).unwrap_or(u32::MAX))
    }

    /// Serves parts of an I/O until none is left to take.
    pub(crate) fn serve(&self, io: &impl Memory, progress: &Progress) {
        while let Some(range) = self.next_part(progress) {
            if self.read(io, range).is_err() {
                progress.failed.xchg(true, Full);
            }
        }
    }

    /// Takes the next part of an I/O; [`None`] when all are taken.
    fn next_part(&self, progress: &Progress) -> Option<Range<u64>> {
        let end = progress.end.load(Relaxed);
        let mut start = progress.next.load(Relaxed);
        while start < end {
            let cut = self.stack.part_end(&(start..end), PART_BYTES);
            match progress.next.cmpxchg(start, cut, Relaxed) {
                Ok(_) => return Some(start..cut),
                Err(now) => start = now,
            }
        }
        None
    }

    /// Fills the memory for bytes `range` of the disk with what needs no waiting; false if that is
    /// not all.
    fn read_inline(&self, io: &impl Memory, mut range: Range<u64>) -> bool {
        let served = self.pool.with_inline(|scratch| {
            while !range.is_empty() {
                match self.step(io, &range, scratch, Effort::Inline) {
                    Ok(done) => range.start = range.start.saturating_add(done),
                    Err(_) => return false,
                }
            }
            true
        });
        served.unwrap_or(false)
    }

    /// Fills the memory for bytes `range` of the disk.
    ///
    /// Any fault becomes `EIO`, told in the log as far as the log's rate limit allows.
    pub(crate) fn read(&self, io: &impl Memory, mut range: Range<u64>) -> Result {
        self.pool.with(|scratch| {
            while !range.is_empty() {
                let done = self
                    .step(io, &range, scratch, Effort::Full)
                    .map_err(|fault| {
                        if log::allowed() {
                            let names = self.stack.stats().names();
                            pr_err!(
                                "{}: read of bytes {}..{}: {}\n",
                                names.device(),
                                range.start,
                                range.end,
                                names.tell(&fault)
                            );
                        }
                        EIO
                    })?;
                range.start = range.start.saturating_add(done);
            }
            Ok(())
        })
    }

    /// Serves as much of `range` as the segment list holds at a time; returns the bytes done.
    fn step(
        &self,
        io: &impl Memory,
        range: &Range<u64>,
        scratch: &mut Scratch,
        effort: Effort,
    ) -> Result<u64, LayerFault> {
        let Scratch { segments, buffers } = scratch;
        let mut pages = io.pages(range, segments);
        let len = pages.len() as u64;
        if len == 0 {
            // An I/O has memory for each of its bytes; without progress there must be an end.
            return Err(EIO.into());
        }
        self.stack.read(range.start, &mut pages, buffers, effort)?;
        Ok(len)
    }
}
