// SPDX-License-Identifier: GPL-2.0

//! The read route of one part of a request: its memory on one side, the stack on the other.

use crate::error::Fault;
use crate::pool::Scratch;
use crate::stack::Stack;
use crate::sys::log;
use crate::sys::mq::{Operations, Request};
use core::ops::Range;
use kernel::prelude::*;

/// A part of a read.
pub(crate) struct Part<'a> {
    pub(crate) stack: &'a Stack,
    /// Bytes of the disk.
    pub(crate) range: Range<u64>,
}

/// Fills the memory of a part with what the stack holds there.
///
/// Any fault becomes `EIO`, told in the log as far as the log's rate limit allows.
pub(crate) fn serve<T: Operations>(
    part: Part<'_>,
    rq: &Request<'_, T>,
    scratch: &mut Scratch,
) -> Result {
    let mut range = part.range;
    while !range.is_empty() {
        let done = step(part.stack, &range, rq, scratch).map_err(|fault| {
            if log::allowed() {
                pr_err!("read of bytes {}..{}: {}\n", range.start, range.end, fault);
            }
            EIO
        })?;
        range.start = range.start.saturating_add(done);
    }
    Ok(())
}

/// Serves as much of `range` as the segment list holds at a time; returns the bytes done.
fn step<T: Operations>(
    stack: &Stack,
    range: &Range<u64>,
    rq: &Request<'_, T>,
    scratch: &mut Scratch,
) -> Result<u64, Fault> {
    let Scratch { segments, buffers } = scratch;
    let mut pages = rq.pages(range, segments);
    let len = pages.len() as u64;
    if len == 0 {
        // A request has memory for each of its bytes; without progress there must be an end.
        return Err(EIO.into());
    }
    stack.read(range.start, &mut pages, buffers)?;
    Ok(len)
}
