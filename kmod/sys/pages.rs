// SPDX-License-Identifier: GPL-2.0

//! The memory of a request, as a cursor that only moves forward.
//!
//! Request pages may be mapped by user space (direct I/O), which can write to them at any time. So
//! no Rust reference to them is ever made: they are written through raw pointers, and never read
//! for anything that matters.
//!
//! C headers: `include/linux/bvec.h`, `include/linux/uio.h`.

use super::file::{File, Way};
use super::generated;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};

/// A run of memory that may be written, and that others may write at the same time.
///
/// # Invariants
///
/// `ptr` is valid for writes of `len` bytes for `'a`, and no Rust reference to them is used
/// meanwhile.
pub(crate) struct Chunk<'a> {
    ptr: NonNull<u8>,
    len: usize,
    _memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Chunk<'a> {
    /// The address.
    pub(super) fn as_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Sets all bytes to zero.
    pub(crate) fn clear(&mut self) {
        // SAFETY: Valid for writes of `len` bytes by the type invariant.
        unsafe { self.ptr.as_ptr().write_bytes(0, self.len) };
    }

    fn write(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(self.len);
        // SAFETY: `len` bytes are valid on both sides, by the slice and by the type invariant; the
        // regions do not overlap since nobody else refers to this one.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.ptr.as_ptr(), len) };
    }
}

impl<'a> From<&'a mut [u8]> for Chunk<'a> {
    fn from(slice: &'a mut [u8]) -> Self {
        // INVARIANT: The slice is borrowed exclusively for 'a.
        Self {
            len: slice.len(),
            ptr: NonNull::from(slice).cast(),
            _memory: PhantomData,
        }
    }
}

/// Physically contiguous memory of a request.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Segment(bindings::bio_vec);

// SAFETY: A page pointer and two numbers, to be used by whoever holds the request.
unsafe impl Send for Segment {}
// SAFETY: As above.
unsafe impl Sync for Segment {}

impl Segment {
    fn len(&self) -> usize {
        self.0.bv_len as usize
    }
}

/// Segments that a [`SegmentList`] holds: twice the largest block in pages. The rest of a part comes after
/// these are filled.
const LISTED: usize = 32;

/// An I/O whose memory is to be filled: a request or a bio.
///
/// # Safety
///
/// The memory is the driver's as long as the value is there.
pub(crate) unsafe trait Memory {
    /// Lists the memory for bytes `range` of the disk, as far as they lie inside the I/O; or for the
    /// first of them, where the list is too short for all.
    ///
    /// # Safety
    ///
    /// Nobody else gets at the memory for these bytes during `'a`.
    unsafe fn list<'a>(&'a self, range: &Range<u64>, list: &'a mut SegmentList) -> Pages<'a>;
}

/// Bytes of an I/O that are its holder's to fill, and nobody else's.
///
/// # Invariants
///
/// No two parts of an I/O that are there at the same time overlap.
pub(crate) struct Part<'a, M> {
    io: &'a M,
    range: Range<u64>,
}

impl<'a, M: Memory> Part<'a, M> {
    /// Bytes `range` of the disk, of an I/O.
    ///
    /// # Safety
    ///
    /// No other part of the I/O that is there during `'a` overlaps.
    pub(super) unsafe fn new(io: &'a M, range: Range<u64>) -> Self {
        // INVARIANT: By this function's requirements.
        Self { io, range }
    }

    /// Bytes of the disk that are left to fill.
    pub(crate) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Whether nothing is left to fill.
    pub(crate) fn is_done(&self) -> bool {
        self.range.is_empty()
    }

    /// Counts the first `len` bytes as filled.
    pub(crate) fn advance(&mut self, len: u64) {
        let start = self.range.start.saturating_add(len);
        self.range.start = start.min(self.range.end);
    }

    /// The memory for what is left, or for as much of it as the list has room for.
    pub(crate) fn pages<'s>(&'s mut self, list: &'s mut SegmentList) -> Pages<'s> {
        // SAFETY: By the type invariant, and since this is borrowed as long as the pages are.
        unsafe { self.io.list(&self.range, list) }
    }
}

/// How far the parts of an I/O are taken.
pub(super) struct Cursor {
    /// Byte of the disk at which the next part begins.
    next: Atomic<u64>,
    /// Byte of the disk at which the I/O ends.
    end: Atomic<u64>,
}

impl Cursor {
    /// Nothing to take.
    pub(super) const fn new() -> Self {
        Self {
            next: Atomic::new(0),
            end: Atomic::new(0),
        }
    }

    /// All of an I/O on bytes `range` of the disk.
    pub(super) fn reset(&self, range: Range<u64>) {
        self.next.store(range.start, Relaxed);
        self.end.store(range.end, Relaxed);
    }
}

/// The parts of an I/O, for several workers to take one after the other.
///
/// # Invariants
///
/// `cursor` is the I/O's, and there are no parts of it but those taken from there.
pub(crate) struct Parts<'a, M> {
    io: &'a M,
    cursor: &'a Cursor,
}

impl<'a, M: Memory> Parts<'a, M> {
    /// # Safety
    ///
    /// `cursor` was reset for `io` when no part of it was there, and nobody makes parts of it in another
    /// way during `'a`.
    pub(super) unsafe fn new(io: &'a M, cursor: &'a Cursor) -> Self {
        // INVARIANT: By this function's requirements.
        Self { io, cursor }
    }

    /// Takes the next part, which ends where `cut` says for the bytes that are left; [`None`] when all
    /// are taken.
    pub(crate) fn take(&self, cut: impl Fn(Range<u64>) -> u64) -> Option<Part<'a, M>> {
        let end = self.cursor.end.load(Relaxed);
        let mut start = self.cursor.next.load(Relaxed);
        while start < end {
            let cut = cut(start..end).clamp(start.saturating_add(1), end);
            match self.cursor.next.cmpxchg(start, cut, Relaxed) {
                Ok(_) => {
                    let (io, range) = (self.io, start..cut);
                    // INVARIANT: The cursor moves forward only, so no one else takes these bytes.
                    return Some(Part { io, range });
                }
                Err(now) => start = now,
            }
        }
        None
    }

    /// Gives back what is left of the part that was taken last from here; false if another one was taken
    /// since.
    pub(crate) fn put_back(&self, part: Part<'a, M>) -> bool {
        let Range { start, end } = part.range;
        // Only a part of these has these bytes, and the cursor says that nobody has those that follow.
        core::ptr::eq(part.io, self.io) && self.cursor.next.cmpxchg(end, start, Relaxed).is_ok()
    }
}

/// Where `part` of an I/O on `whole` begins, counted from the I/O's begin, and how long it is; what
/// lies outside of the I/O is left out.
pub(super) fn span(whole: &Range<u64>, part: &Range<u64>) -> (u32, u32) {
    let start = part.start.clamp(whole.start, whole.end);
    let end = part.end.clamp(start, whole.end);
    // An I/O has at most u32::MAX bytes.
    ((start - whole.start) as u32, (end - start) as u32)
}

/// Memory for listing the segments of a part of a request: half a KiB, for the stack.
pub(crate) struct SegmentList([MaybeUninit<Segment>; LISTED]);

impl SegmentList {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        Self([MaybeUninit::uninit(); LISTED])
    }

    /// Has `list(segments, room, covered)` fill in segments of an I/O.
    ///
    /// # Safety
    ///
    /// `list` writes at most `room` segments and returns how many; they are memory of an I/O that
    /// the driver owns and does not end during `'a`, and hold `covered` bytes.
    pub(super) unsafe fn fill<'a>(
        &'a mut self,
        list: impl FnOnce(*mut bindings::bio_vec, u32, &mut u32) -> u32,
    ) -> Pages<'a> {
        let mut covered = 0u32;
        let segments = self.0.as_mut_ptr().cast::<Segment>();
        // `Segment` is transparent over `bio_vec`.
        let count = list(segments.cast(), LISTED as u32, &mut covered) as usize;
        // SAFETY: As many were written, by this function's requirements; they are borrowed for 'a.
        let segments = unsafe { core::slice::from_raw_parts(segments, count.min(LISTED)) };
        // INVARIANT: By this function's requirements.
        Pages {
            segments,
            skip: 0,
            len: covered as usize,
        }
    }
}

/// A cursor over memory of a request.
///
/// # Invariants
///
/// `segments` is memory of a request that the driver owns, valid for writes; `skip` is less than
/// the first segment's length unless there is none; the segments hold `skip + len` bytes; nobody else
/// gets at them.
pub(crate) struct Pages<'a> {
    segments: &'a [Segment],
    skip: usize,
    len: usize,
}

impl Pages<'_> {
    /// Bytes between the cursor and the end.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The same bytes, for an attempt that may fail: this cursor stays.
    pub(crate) fn again(&mut self) -> Pages<'_> {
        // INVARIANT: The same memory, which this does not get at as long as it is borrowed.
        Pages {
            segments: self.segments,
            skip: self.skip,
            len: self.len,
        }
    }

    /// Bytes that lie in one piece at the cursor.
    fn contiguous(&self) -> usize {
        self.segments
            .first()
            .map_or(0, |segment| segment.len().saturating_sub(self.skip))
            .min(self.len)
    }

    /// The next `len` bytes, if they lie in one piece; the cursor stays.
    pub(crate) fn chunk(&mut self, len: usize) -> Option<Chunk<'_>> {
        let segment = self.segments.first().filter(|_| len <= self.contiguous())?;
        // SAFETY: The segment is memory of a live request by the type invariant; there is no high
        // memory (shim.c refuses to build with it), so the address is always mapped.
        let start = unsafe { generated::vbd_segment_address(&segment.0) };
        // INVARIANT: `skip + len` bytes from `start` are the request's, as was just checked.
        Some(Chunk {
            ptr: NonNull::new(start.cast::<u8>().wrapping_add(self.skip))?,
            len,
            _memory: PhantomData,
        })
    }

    /// Moves the cursor on by `len` bytes, or to the end.
    pub(crate) fn advance(&mut self, len: usize) {
        let mut left = len.min(self.len);
        self.len -= left;
        while let Some((segment, rest)) = self.segments.split_first() {
            let here = segment.len().saturating_sub(self.skip);
            if left < here {
                self.skip += left;
                return;
            }
            // SAFETY: The segment is memory of a live request by the type invariant.
            unsafe { generated::vbd_segment_flush(&segment.0) };
            left -= here;
            self.skip = 0;
            self.segments = rest;
        }
    }

    /// Writes zeroes to the next `len` bytes and moves on.
    pub(crate) fn zero(&mut self, len: usize) {
        self.each_chunk(len, |_, chunk| chunk.clear());
    }

    /// Writes `bytes` and moves on.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.each_chunk(bytes.len(), |done, chunk| {
            chunk.write(bytes.get(done..).unwrap_or_default());
        });
    }

    /// Copies `len` bytes of `file` from byte `offset` into the pages and moves on, if the page cache
    /// has all of them; never sleeps. If it has not, some may have been copied.
    pub(crate) fn copy_cached(&mut self, file: &File, offset: u64, len: usize) -> bool {
        let mut good = len <= self.len;
        self.each_chunk(len, |done, chunk| {
            let at = offset.saturating_add(done as u64);
            // SAFETY: The chunk is valid for writes of its length.
            good = good && unsafe { file.copy_cached(at, chunk.as_ptr(), chunk.len) };
        });
        good
    }

    fn each_chunk(&mut self, len: usize, mut f: impl FnMut(usize, &mut Chunk<'_>)) {
        let len = len.min(self.len);
        let mut done = 0;
        while done < len {
            let here = self.contiguous().min(len - done);
            let Some(mut chunk) = self.chunk(here).filter(|_| here != 0) else {
                return;
            };
            f(done, &mut chunk);
            self.advance(here);
            done += here;
        }
    }

    /// Reads `len` bytes of `file` from byte `offset` straight into the pages and moves on.
    ///
    /// Returns the bytes read: fewer only at the end of the file.
    pub(crate) fn read_from(
        &mut self,
        file: &File,
        offset: u64,
        len: usize,
        way: Way<'_>,
    ) -> Result<usize> {
        let len = len.min(self.len);
        let mut done = 0;
        while done < len {
            let here = self.read_once(file, offset + done as u64, len - done, way)?;
            if here == 0 {
                break;
            }
            self.advance(here);
            done += here;
        }
        Ok(done)
    }

    fn read_once(&mut self, file: &File, offset: u64, len: usize, way: Way<'_>) -> Result<usize> {
        let mut iter = bindings::iov_iter::default();
        // SAFETY: The segments are live by the type invariant and hold `skip + len` bytes; they
        // outlive the iterator. `Segment` is transparent over `bio_vec`.
        unsafe {
            bindings::iov_iter_bvec(
                &mut iter,
                bindings::ITER_DEST,
                self.segments.as_ptr().cast(),
                self.segments.len(),
                self.skip + len,
            );
            bindings::iov_iter_advance(&mut iter, self.skip);
        }
        // SAFETY: The iterator was set up above over memory that may be written.
        unsafe { file.read_iter(&mut iter, offset, way) }
    }
}
