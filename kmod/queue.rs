// SPDX-License-Identifier: GPL-2.0

//! From the block layer's request to parts of it, and back to its end.
//!
//! A request is cut into parts that workers take in turn, so that a large one is decoded by several
//! CPUs. `Progress` is the place where the next part begins; taking a part moves it on atomically.

use crate::pool::Pool;
use crate::stack::Stack;
use crate::sys::mq::{Completion, Operations, Request};
use crate::transfer::{self, Part};
use core::ops::Range;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};
use kernel::sync::Arc;

/// Bytes of a part, unless a block makes it a little longer: the largest decoding unit.
const PART_BYTES: u64 = 64 * 1024;

/// How far workers have come with a request.
pub(crate) struct Progress {
    /// Byte of the disk at which the next part begins.
    next: Atomic<u64>,
    /// Not 0 once a part has failed.
    failed: Atomic<u32>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            next: Atomic::new(0),
            failed: Atomic::new(0),
        }
    }
}

/// The driver of a disk: a stack, and memory to read it with.
pub(crate) struct Queue {
    stack: Arc<Stack>,
    pool: Pin<KBox<Pool>>,
}

impl Queue {
    /// A queue that serves `stack`.
    pub(crate) fn new(stack: Arc<Stack>) -> Result<Self> {
        let pool = Pool::new(stack.buffer_sizes())?;
        Ok(Self { stack, pool })
    }

    /// Takes the next part of a request; [`None`] when all are taken.
    fn next_part(&self, rq: &Request<'_, Self>) -> Option<Range<u64>> {
        let progress = rq.data();
        let end = rq.range().end;
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

    fn transfer(&self, rq: &Request<'_, Self>, range: Range<u64>) -> Result {
        self.pool.with(|scratch| {
            transfer::serve(
                Part {
                    stack: &self.stack,
                    range,
                },
                rq,
                scratch,
            )
        })
    }
}

impl Operations for Queue {
    type RequestData = Progress;

    fn queue_rq(&self, rq: &Request<'_, Self>) -> Result<u32> {
        if !rq.is_read() {
            return Err(EROFS);
        }
        let range = rq.range();
        let len = range.end.saturating_sub(range.start);
        let stats = self.stack.stats();
        stats.requests.inc();
        stats.bytes.add(len);
        let progress = rq.data();
        progress.next.store(range.start, Relaxed);
        progress.failed.store(0, Relaxed);
        Ok(u32::try_from(len.div_ceil(PART_BYTES)).unwrap_or(u32::MAX))
    }

    fn serve(&self, rq: &Request<'_, Self>) {
        while let Some(range) = self.next_part(rq) {
            if self.transfer(rq, range).is_err() {
                rq.data().failed.xchg(1, Full);
            }
        }
    }

    fn complete(&self, rq: Completion<'_, Self>) {
        if rq.data().failed.load(Relaxed) == 0 {
            rq.end_ok();
        } else {
            self.stack.stats().errors.inc();
            // The request may join reads of several readers: only those with bad data fail.
            rq.end_failed(|rq, range| self.transfer(rq, range));
        }
    }
}
