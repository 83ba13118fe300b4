// SPDX-License-Identifier: GPL-2.0

//! The read route of an I/O: parts of it in turn, each one's memory filled from the stack.
//!
//! What needs neither waiting nor much work is served at once, where the I/O is submitted; everything
//! else goes to workers. There an I/O is cut into parts that they take one after the other, so that
//! a large one is decoded by several CPUs.

use crate::block::Effort;
use crate::error::{Fault, LayerFault};
use crate::pool::{Buffers, InlineScratch, Pool, Pools};
use crate::stack::Stack;
use crate::sys::job::{Verdict, Worker};
use crate::sys::log;
use crate::sys::pages::{Memory, Part, Parts, SegmentList};
use crate::sys::trace::{self, Point, Start};
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

/// What workers have come to with an I/O.
pub(crate) struct Progress {
    failed: Atomic<bool>,
    /// When the I/O came, if anybody wants to know.
    start: Atomic<u64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            failed: Atomic::new(false),
            start: Atomic::new(0),
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

    /// Takes a new I/O, `all` of it: serves it at once if that takes neither waiting nor much work, else
    /// prepares `progress` for workers. Never sleeps.
    pub(crate) fn begin(&self, progress: &Progress, all: Part<'_, impl Memory>) -> Verdict {
        let range = all.range();
        let len = range.end.saturating_sub(range.start);
        let start = Point::Request.start();
        let stats = self.stack.stats();
        stats.requests.inc();
        stats.bytes.add(len);
        if len <= INLINE_BYTES && self.read_inline(all) {
            stats.inline.inc();
            if let Some(start) = start {
                trace::request(start, stats.names().device(), &range, false, Ok(()));
            }
            return Verdict::Served;
        }
        stats.queued.inc();
        progress.failed.store(false, Relaxed);
        progress.start.store(Start::to_raw(start), Relaxed);
        Verdict::Workers(u32::try_from(len.div_ceil(PART_BYTES)).unwrap_or(u32::MAX))
    }

    /// Serves parts of an I/O until none is left to take, unless the worker leaves before that.
    pub(crate) fn serve(
        &self,
        progress: &Progress,
        parts: &Parts<'_, impl Memory>,
        worker: &Worker<'_>,
    ) {
        if worker.may_leave() {
            // All that is left: an I/O of one worker is short.
            let Some(mut part) = parts.take(|rest| rest.end) else {
                return;
            };
            match self.start(&mut part, worker) {
                Ok(()) => return,
                Err(fault) if matches!(fault.fault, Fault::WouldWait) => {}
                Err(fault) => {
                    self.tell(&part.range(), &fault);
                    progress.failed.xchg(true, Full);
                    return;
                }
            }
            if !parts.put_back(part) {
                progress.failed.xchg(true, Full);
            }
            if worker.has_left() {
                return;
            }
        }
        worker.will_wait();
        while let Some(part) = parts.take(|rest| self.stack.part_end(&rest, PART_BYTES)) {
            if self.read(part).is_err() {
                progress.failed.xchg(true, Full);
            }
        }
    }

    /// Workers are done with an I/O on bytes `range` of the disk.
    pub(crate) fn end(&self, progress: &Progress, range: &Range<u64>) {
        if let Some(start) = Start::from_raw(progress.start.load(Relaxed)) {
            let result = if progress.failed() { Err(EIO) } else { Ok(()) };
            let device = self.stack.stats().names().device();
            trace::request(start, device, range, true, result);
        }
    }

    /// Fills a part with what needs no waiting; false if that is not all.
    fn read_inline(&self, mut part: Part<'_, impl Memory>) -> bool {
        let served = self.pool.with_inline(|scratch| {
            let InlineScratch { segments, buffers } = scratch;
            self.fill(&mut part, segments, buffers, Effort::Inline)
                .is_ok()
        });
        served.unwrap_or(false)
    }

    /// Fills a part with what needs no waiting, and starts reading the rest.
    // Not inlined: the list of its memory lies on the stack.
    #[inline(never)]
    fn start(
        &self,
        part: &mut Part<'_, impl Memory>,
        worker: &Worker<'_>,
    ) -> Result<(), LayerFault> {
        let mut segments = SegmentList::new();
        let mut buffers = self.pool.buffers();
        let effort = Effort::Start(worker);
        self.fill(part, &mut segments, &mut buffers, effort)
    }

    /// Fills a part with an effort that may not be enough; what is filled then is not in it any more.
    fn fill(
        &self,
        part: &mut Part<'_, impl Memory>,
        segments: &mut SegmentList,
        buffers: &mut Buffers<'_>,
        effort: Effort<'_>,
    ) -> Result<(), LayerFault> {
        while !part.is_done() {
            self.step(part, segments, buffers, effort)?;
        }
        Ok(())
    }

    /// Fills a part.
    ///
    /// Any fault becomes `EIO`, told in the log as far as the log's rate limit allows.
    // Not inlined: as above.
    #[inline(never)]
    pub(crate) fn read(&self, mut part: Part<'_, impl Memory>) -> Result {
        let mut segments = SegmentList::new();
        let mut buffers = self.pool.buffers();
        self.fill(&mut part, &mut segments, &mut buffers, Effort::Full)
            .map_err(|fault| {
                self.tell(&part.range(), &fault);
                EIO
            })
    }

    /// Tells what is wrong with bytes `range` of the disk.
    // Not inlined: the way of good reads shall not have to make room for it.
    #[cold]
    #[inline(never)]
    fn tell(&self, range: &Range<u64>, fault: &LayerFault) {
        let names = self.stack.stats().names();
        let (offset, reason) = fault.fault.place();
        let errno = fault.fault.errno();
        trace::error(names.device(), range, fault.layer, offset, errno, reason);
        if log::allowed() {
            pr_err!(
                "{}: read of bytes {}..{}: {}\n",
                names.device(),
                range.start,
                range.end,
                names.tell(fault)
            );
        }
    }

    /// Fills as much of a part as the segment list holds at a time.
    // Not inlined: the list lies on the stack of whoever calls this.
    #[inline(never)]
    fn step(
        &self,
        part: &mut Part<'_, impl Memory>,
        segments: &mut SegmentList,
        buffers: &mut Buffers<'_>,
        effort: Effort<'_>,
    ) -> Result<(), LayerFault> {
        let start = part.range().start;
        let mut pages = part.pages(segments);
        let len = pages.len() as u64;
        if len == 0 {
            // An I/O has memory for each of its bytes; without progress there must be an end.
            return Err(EIO.into());
        }
        self.stack.read(start, &mut pages, buffers, effort)?;
        part.advance(len);
        Ok(())
    }
}
