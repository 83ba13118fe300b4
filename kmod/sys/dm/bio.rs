// SPDX-License-Identifier: GPL-2.0

//! A bio that device-mapper maps to a target: what is read of it, its memory, and its end.
//!
//! C header: `include/linux/device-mapper.h`, `dm_per_bio_data()`.

use super::{Private, Target};
use crate::sys::generated;
use crate::sys::job::{status, Job, Owner, Worker};
use crate::sys::pages::{span, Memory, Pages, Parts, SegmentList};
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;
use kernel::bindings;

/// A bio that the target owns and that has not ended.
///
/// # Invariants
///
/// `bio` is mapped to a target `T`, and its per-bio data is initialised; it is not ended during `'a`.
pub(crate) struct Bio<'a, T: Target> {
    bio: NonNull<bindings::bio>,
    _bio: PhantomData<&'a T>,
}

/// Memory that device-mapper allocates with each bio.
#[repr(C)]
pub(super) struct PerBio<T: Target> {
    pub(super) private: *const Private<T>,
    /// Byte of the target at which the bio begins.
    pub(super) start: u64,
    job: Job<BioJob<T>>,
}

impl<T: Target> Bio<'_, T> {
    /// # Safety
    ///
    /// By the type's invariant.
    pub(super) unsafe fn new(bio: NonNull<bindings::bio>) -> Self {
        // INVARIANT: By this function's requirements.
        Self {
            bio,
            _bio: PhantomData,
        }
    }

    /// Whether this is a read; nothing else is served by a read-only device.
    pub(crate) fn is_read(&self) -> bool {
        // SAFETY: Valid by the type invariant; the field does not change before the end.
        let flags = unsafe { (*self.bio.as_ptr()).bi_opf };
        flags & ((1 << bindings::REQ_OP_BITS) - 1) == bindings::req_op_REQ_OP_READ
    }

    /// Bytes of the target that the bio is about.
    pub(crate) fn range(&self) -> Range<u64> {
        // SAFETY: Initialised by the type invariant; the bio is not advanced before the end.
        let (start, len) = unsafe {
            (
                (*per_bio::<T>(self.bio)).start,
                (*self.bio.as_ptr()).bi_iter.bi_size,
            )
        };
        start..start.saturating_add(u64::from(len))
    }

    /// The target's data.
    pub(crate) fn data(&self) -> &T::BioData {
        // SAFETY: Initialised by the type invariant, and not ended meanwhile.
        unsafe { Job::<BioJob<T>>::data(self.bio) }
    }
}

// SAFETY: A bio that has not ended is the target's.
unsafe impl<T: Target> Memory for Bio<'_, T> {
    unsafe fn list<'a>(&'a self, range: &Range<u64>, list: &'a mut SegmentList) -> Pages<'a> {
        let (skip, len) = span(&self.range(), range);
        // SAFETY: The bio is not ended while `self` is borrowed, and nobody else gets at these bytes by
        // this function's requirements.
        unsafe {
            list.fill(|segments, room, covered| {
                generated::vbd_bio_segments(self.bio.as_ptr(), skip, len, segments, room, covered)
            })
        }
    }
}

/// The memory that device-mapper has allocated with `bio`.
///
/// # Safety
///
/// The bio is one that device-mapper maps to a target `T`: those have this much (`per_io_data_size`).
pub(super) unsafe fn per_bio<T: Target>(bio: NonNull<bindings::bio>) -> *mut PerBio<T> {
    // SAFETY: By this function's requirements.
    unsafe { generated::dm_per_bio_data(bio.as_ptr(), core::mem::size_of::<PerBio<T>>()) }.cast()
}

/// A bio as the owner of a job.
pub(super) struct BioJob<T>(PhantomData<T>);

// SAFETY: The memory is allocated with the bio, and goes with it.
unsafe impl<T: Target> Owner for BioJob<T> {
    type Raw = bindings::bio;
    type Data = T::BioData;

    unsafe fn job(bio: NonNull<bindings::bio>) -> *mut Job<Self> {
        // SAFETY: By this function's requirements.
        unsafe { per_bio::<T>(bio) }
            .wrapping_byte_add(core::mem::offset_of!(PerBio<T>, job))
            .cast()
    }

    unsafe fn payer(bio: NonNull<bindings::bio>) -> (*mut bindings::bio, i32) {
        // SAFETY: A live bio by this function's requirements.
        (bio.as_ptr(), unsafe {
            generated::vbd_bio_ioprio(bio.as_ptr())
        })
    }

    unsafe fn serve(bio: NonNull<bindings::bio>, worker: &Worker<'_>) {
        // SAFETY: Initialised by `map`; the target outlives its bios.
        let private = unsafe { &*(*per_bio::<T>(bio)).private };
        // SAFETY: Not ended while this worker is at it. The cursor was reset when the job was started;
        // until all workers are done, parts come from there only.
        unsafe {
            let cursor = Job::<Self>::cursor(bio);
            let bio = Bio::new(bio);
            private
                .target
                .serve(&bio, &Parts::new(&bio, cursor), worker);
        }
    }

    unsafe fn complete(bio: NonNull<bindings::bio>) {
        // SAFETY: Initialised by `map`; the target outlives its bios.
        let private = unsafe { &*(*per_bio::<T>(bio)).private };
        // SAFETY: All workers are done with the bio, and it is ended below.
        let result = private.target.complete(&unsafe { Bio::new(bio) });
        // SAFETY: Nobody else refers to the bio or its data any more.
        unsafe {
            Job::<Self>::exit(bio);
            (*bio.as_ptr()).bi_status = status(result);
            bindings::bio_endio(bio.as_ptr());
        }
    }
}
