// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: what becomes of requests, for whoever listens.
//!
//! Where nobody does, a tracepoint costs a load and a branch. The kernel's own `declare_trace!` has no
//! load, but takes assembly that modules out of tree cannot have on every kernel. C header:
//! `include/linux/tracepoint-defs.h`; the tracepoints stand in `vbd_trace.h`.

use super::generated;
use core::ops::Range;
use kernel::bindings;
use kernel::prelude::*;
use kernel::str::CStr;

/// A tracepoint of the module.
#[derive(Clone, Copy)]
pub(crate) enum Point {
    /// A request has been served.
    Request,
    /// A layer's file has been read.
    Fetch,
    /// A block has been decoded.
    Decode,
    /// A read has failed.
    Error,
}

impl Point {
    /// Whether anybody listens.
    #[inline(always)]
    pub(crate) fn is_on(self) -> bool {
        #[cfg(CONFIG_TRACEPOINTS)]
        {
            let point = match self {
                Self::Request => &raw const generated::__tracepoint_vbd_request,
                Self::Fetch => &raw const generated::__tracepoint_vbd_fetch,
                Self::Decode => &raw const generated::__tracepoint_vbd_decode,
                Self::Error => &raw const generated::__tracepoint_vbd_error,
            };
            // SAFETY: The tracepoint is there as long as the module. Others change the count at any
            // time, with aligned stores of its size; so does the C side look at it.
            unsafe { (&raw const (*point).key.key.enabled.counter).read_volatile() != 0 }
        }
        #[cfg(not(CONFIG_TRACEPOINTS))]
        {
            let _ = self;
            false
        }
    }

    /// The moment at which something begins, if anybody listens.
    #[inline(always)]
    pub(crate) fn start(self) -> Option<Start> {
        self.is_on().then(Start::now)
    }
}

/// A moment: nanoseconds of the monotonic clock, never 0.
#[derive(Clone, Copy)]
pub(crate) struct Start(u64);

impl Start {
    #[cold]
    fn now() -> Self {
        // SAFETY: May be called from any context that the driver runs in.
        let now = unsafe { bindings::ktime_get() };
        Self((now as u64).max(1))
    }

    /// The moment as a number, 0 for none, to be kept with a request.
    pub(crate) fn to_raw(start: Option<Self>) -> u64 {
        start.map_or(0, |start| start.0)
    }

    /// What [`Self::to_raw`] has made a number of.
    pub(crate) fn from_raw(raw: u64) -> Option<Self> {
        (raw != 0).then_some(Self(raw))
    }

    /// Nanoseconds since.
    fn elapsed(self) -> u64 {
        Self::now().0.saturating_sub(self.0)
    }
}

fn errno(result: Result) -> i32 {
    result.map_or_else(|error| error.to_errno(), |()| 0)
}

/// Bytes `range` of a disk have been served, by workers if `queued` says so.
#[cold]
pub(crate) fn request(
    start: Start,
    device: &CStr,
    range: &Range<u64>,
    queued: bool,
    result: Result,
) {
    // SAFETY: The name is NUL-terminated, and copied.
    unsafe {
        generated::vbd_trace_request(
            device.as_char_ptr(),
            range.start,
            range.end.saturating_sub(range.start),
            queued,
            errno(result),
            start.elapsed(),
        );
    }
}

/// `len` bytes have been read of a layer's file, from byte `offset` on.
#[cold]
pub(crate) fn fetch(
    start: Start,
    device: &CStr,
    layer: u8,
    offset: u64,
    len: usize,
    result: Result,
) {
    // SAFETY: The name is NUL-terminated, and copied.
    unsafe {
        generated::vbd_trace_fetch(
            device.as_char_ptr(),
            u32::from(layer),
            offset,
            len as u64,
            errno(result),
            start.elapsed(),
        );
    }
}

/// `len` bytes have been decoded of the block that is stored at byte `offset` of a layer's file.
#[cold]
pub(crate) fn decode(
    start: Start,
    device: &CStr,
    layer: u8,
    offset: u64,
    len: usize,
    result: Result,
) {
    // SAFETY: The name is NUL-terminated, and copied.
    unsafe {
        generated::vbd_trace_decode(
            device.as_char_ptr(),
            u32::from(layer),
            offset,
            len as u64,
            errno(result),
            start.elapsed(),
        );
    }
}

/// A read of bytes `range` of a disk has failed: at byte `offset` of a layer, for a reason in words.
#[cold]
pub(crate) fn error(
    device: &CStr,
    range: &Range<u64>,
    layer: Option<usize>,
    offset: u64,
    error: Error,
    reason: &str,
) {
    if !Point::Error.is_on() {
        return;
    }
    let layer = layer.and_then(|layer| i32::try_from(layer).ok());
    // SAFETY: The name is NUL-terminated, the reason valid for reads of its length; both are copied.
    unsafe {
        generated::vbd_trace_error(
            device.as_char_ptr(),
            range.start,
            range.end.saturating_sub(range.start),
            layer.unwrap_or(-1),
            offset,
            error.to_errno(),
            reason.as_ptr().cast(),
            reason.len(),
        );
    }
}
