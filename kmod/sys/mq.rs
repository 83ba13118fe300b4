// SPDX-License-Identifier: GPL-2.0

//! blk-mq: requests that workers serve, several at a time, and that end exactly once.
//!
//! Mainline's `kernel::block::mq` cannot walk the pages of a request, end it later with an error,
//! or give it data of the driver's. C header: `include/linux/blk-mq.h`.
//!
//! A request's way: the block layer calls [`Operations::queue_rq`], which must not sleep and serves
//! it or says how many workers shall; each worker calls [`Operations::serve`]; the last one to return
//! calls [`Operations::complete`] with the one [`Completion`] there is, and whatever becomes of that,
//! the request ends.

use super::crew::Crew;
use super::generated;
use super::job::{status, Job, Owner, Verdict, Worker};
use super::pages::{span, Memory, Pages, Part, Parts, SegmentList};
use core::marker::PhantomData;
use core::ops::{Deref, Range};
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::types::Opaque;

/// Bytes in a sector.
const SECTOR: u64 = 512;

/// A block driver.
pub(crate) trait Operations: Sized + Send + Sync + 'static {
    /// The driver's own data in each request, made once and used again.
    type RequestData: Default + Send + Sync;

    /// Takes a new request: serves all of it, or says how many workers shall.
    ///
    /// Must not sleep. An error ends the request.
    fn queue_rq(&self, rq: &Request<'_, Self>, all: Part<'_, Request<'_, Self>>)
        -> Result<Verdict>;

    /// Serves parts of the request, on a worker, or leaves to be called again. May sleep; allocations do
    /// not start I/O.
    fn serve(
        &self,
        rq: &Request<'_, Self>,
        parts: &Parts<'_, Request<'_, Self>>,
        worker: &Worker<'_>,
    );

    /// Ends the request, on the last worker to be done with it.
    fn complete(&self, rq: Completion<'_, Self>);
}

/// What a queue needs: the driver and its workers. The queue's `queuedata`.
pub(super) struct QueueData<T: Operations> {
    // Dropped in this order: workers have returned before the driver goes.
    pub(super) crew: KBox<Crew<RequestJob<T>>>,
    pub(super) driver: T,
    /// Whether the disk refuses to be opened.
    pub(super) retired: Atomic<bool>,
}

/// A request that the driver owns and that has not ended.
///
/// # Invariants
///
/// `rq` is a started request of a queue with operations `T`, not ended during `'a`.
pub(crate) struct Request<'a, T: Operations> {
    rq: NonNull<bindings::request>,
    _request: PhantomData<&'a T>,
}

impl<T: Operations> Request<'_, T> {
    /// # Safety
    ///
    /// By the type's invariant.
    unsafe fn new(rq: NonNull<bindings::request>) -> Self {
        // INVARIANT: By this function's requirements.
        Self {
            rq,
            _request: PhantomData,
        }
    }

    /// Whether this is a read; nothing else is served by a read-only device.
    pub(crate) fn is_read(&self) -> bool {
        // SAFETY: Valid by the type invariant; the field does not change before the end.
        let flags = unsafe { (*self.rq.as_ptr()).cmd_flags };
        flags & ((1 << bindings::REQ_OP_BITS) - 1) == bindings::req_op_REQ_OP_READ
    }

    /// Bytes of the disk that the request is about.
    pub(crate) fn range(&self) -> Range<u64> {
        // SAFETY: Valid by the type invariant; the fields change only while the request is ended
        // bio by bio, which `Completion` does alone.
        let (sector, len) = unsafe {
            let rq = self.rq.as_ptr();
            ((*rq).__sector, (*rq).__data_len)
        };
        let start = sector.saturating_mul(SECTOR);
        start..start.saturating_add(u64::from(len))
    }

    /// The driver's data.
    pub(crate) fn data(&self) -> &T::RequestData {
        // SAFETY: The job is initialised by `init_request`; by the type invariant the request does
        // not end meanwhile.
        unsafe { Job::<RequestJob<T>>::data(self.rq) }
    }
}

// SAFETY: A request that has not ended is the driver's.
unsafe impl<T: Operations> Memory for Request<'_, T> {
    unsafe fn list<'a>(&'a self, range: &Range<u64>, list: &'a mut SegmentList) -> Pages<'a> {
        let (skip, len) = span(&self.range(), range);
        // SAFETY: The request is not ended while `self` is borrowed, and nobody else gets at these
        // bytes by this function's requirements.
        unsafe {
            list.fill(|segments, room, covered| {
                generated::vbd_request_segments(
                    self.rq.as_ptr(),
                    skip,
                    len,
                    segments,
                    room,
                    covered,
                )
            })
        }
    }
}

/// The right to end a request, held once all workers are done with it.
///
/// # Invariants
///
/// Nobody else refers to the request.
pub(crate) struct Completion<'a, T: Operations> {
    request: Request<'a, T>,
}

impl<'a, T: Operations> Deref for Completion<'a, T> {
    type Target = Request<'a, T>;

    fn deref(&self) -> &Self::Target {
        &self.request
    }
}

impl<T: Operations> Completion<'_, T> {
    fn into_raw(self) -> *mut bindings::request {
        let rq = self.request.rq.as_ptr();
        core::mem::forget(self);
        rq
    }

    /// Ends the request as a success.
    pub(crate) fn end_ok(self) {
        // SAFETY: Owned by the type invariant, and given up here.
        unsafe { bindings::blk_mq_end_request(self.into_raw(), 0) };
    }

    /// Ends a request that has failed: as an I/O error if it is one read, else read by read.
    ///
    /// The block layer joins neighbouring reads into one request; each of them is served again and
    /// ends with its own result, which keeps an error to the read that it belongs to. The request ends
    /// as a failure if one of them has failed: a driver that has stacked a request of its own on it
    /// (request-based device-mapper) is told of failed bios, but goes by how the request ends.
    pub(crate) fn end_failed(self, mut serve: impl FnMut(Part<'_, Request<'_, T>>) -> Result) {
        // SAFETY: Owned by the type invariant.
        let joined = unsafe {
            let rq = self.request.rq.as_ptr();
            (*rq).bio != (*rq).biotail
        };
        if !joined {
            // Dropping the right to end it ends it so.
            return;
        }
        let mut end = status(Ok(()));
        loop {
            // SAFETY: Owned by the type invariant; a request that has not ended has a bio, whose
            // remaining length stands in its iterator.
            let len = unsafe {
                let bio = (*self.request.rq.as_ptr()).bio;
                if bio.is_null() {
                    break;
                }
                (*bio).bi_iter.bi_size
            };
            let start = self.request.range().start;
            let range = start..start.saturating_add(u64::from(len));
            // SAFETY: By the type invariant workers and their parts are gone; this is the only one.
            let part = unsafe { Part::new(&self.request, range) };
            let one = status(serve(part));
            if one != 0 {
                end = one;
            }
            // SAFETY: Owned by the type invariant; `len` is what the first bio has left.
            let more = unsafe { bindings::blk_update_request(self.request.rq.as_ptr(), one, len) };
            if !more {
                break;
            }
        }
        // SAFETY: Owned by the type invariant, with no bio left, and given up here.
        unsafe { bindings::__blk_mq_end_request(self.into_raw(), end) };
    }
}

impl<T: Operations> Drop for Completion<'_, T> {
    /// A request that the driver forgot about ends with an error rather than never.
    fn drop(&mut self) {
        // SAFETY: Owned by the type invariant, and not used afterwards.
        unsafe { bindings::blk_mq_end_request(self.request.rq.as_ptr(), status(Err(EIO))) };
    }
}

/// A request as the owner of a job.
pub(super) struct RequestJob<T>(PhantomData<T>);

// SAFETY: blk-mq allocates the memory behind each request (`cmd_size`), for as long as the tag set.
unsafe impl<T: Operations> Owner for RequestJob<T> {
    type Raw = bindings::request;
    type Data = T::RequestData;

    unsafe fn job(rq: NonNull<bindings::request>) -> *mut Job<Self> {
        // The driver's part begins where `struct request` ends (blk_mq_rq_to_pdu()).
        rq.as_ptr().wrapping_add(1).cast()
    }

    unsafe fn payer(rq: NonNull<bindings::request>) -> (*mut bindings::bio, i32) {
        // SAFETY: A live request by this function's requirements.
        unsafe {
            (
                (*rq.as_ptr()).bio,
                generated::vbd_request_ioprio(rq.as_ptr()),
            )
        }
    }

    unsafe fn serve(rq: NonNull<bindings::request>, worker: &Worker<'_>) {
        // SAFETY: A live request of a queue with operations `T`.
        let queue = unsafe { queue_data::<T>(rq) };
        // SAFETY: Not ended while this worker is at it. The cursor was reset when the job was started;
        // until all workers are done, parts come from there only.
        unsafe {
            let request = Request::new(rq);
            let cursor = Job::<Self>::cursor(rq);
            queue
                .driver
                .serve(&request, &Parts::new(&request, cursor), worker);
        }
    }

    unsafe fn complete(rq: NonNull<bindings::request>) {
        // SAFETY: A live request of a queue with operations `T`.
        let queue = unsafe { queue_data::<T>(rq) };
        // SAFETY: Not ended yet.
        let request = unsafe { Request::new(rq) };
        // INVARIANT: All workers are done with the request.
        queue.driver.complete(Completion { request });
    }
}

/// The driver of the queue that `rq` belongs to.
///
/// # Safety
///
/// `rq` is a live request of a queue whose `queuedata` is a `QueueData<T>`.
unsafe fn queue_data<'a, T: Operations>(rq: NonNull<bindings::request>) -> &'a QueueData<T> {
    // SAFETY: By this function's requirements. The data outlives all requests of the queue.
    unsafe { &*(*(*rq.as_ptr()).q).queuedata.cast::<QueueData<T>>() }
}

/// A set of tags, and with them the requests of one disk.
///
/// # Invariants
///
/// The set is allocated, and stays where it is.
pub(crate) struct TagSet<T: Operations> {
    set: KBox<Opaque<bindings::blk_mq_tag_set>>,
    _driver: PhantomData<T>,
}

// SAFETY: The set may be used and freed from any thread.
unsafe impl<T: Operations> Send for TagSet<T> {}
// SAFETY: Shared references give away nothing but the pointer.
unsafe impl<T: Operations> Sync for TagSet<T> {}

impl<T: Operations> TagSet<T> {
    /// One hardware queue of `depth` requests, without an I/O scheduler.
    pub(crate) fn new(depth: u32) -> Result<Self> {
        let mut set: bindings::blk_mq_tag_set = pin_init::zeroed();
        set.ops = &Self::OPS;
        set.nr_hw_queues = 1;
        set.nr_maps = 1;
        set.queue_depth = depth;
        set.numa_node = bindings::NUMA_NO_NODE;
        set.cmd_size = u32::try_from(core::mem::size_of::<Job<RequestJob<T>>>())?;
        set.flags = generated::VBD_MQ_F_NO_SCHED_BY_DEFAULT;
        let set = KBox::new(Opaque::new(set), GFP_KERNEL)?;
        // SAFETY: The set is filled in as a driver does, and zero otherwise; its address is final.
        to_result(unsafe { bindings::blk_mq_alloc_tag_set(set.get()) })
            // SAFETY: The set is still there, and allocating it has failed.
            .inspect_err(|_| unsafe { generated::vbd_end_failed_tag_set(set.get()) })?;
        // INVARIANT: Just allocated; a box does not move what it holds.
        Ok(Self {
            set,
            _driver: PhantomData,
        })
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::blk_mq_tag_set {
        self.set.get()
    }

    const OPS: bindings::blk_mq_ops = bindings::blk_mq_ops {
        queue_rq: Some(Self::queue_rq),
        init_request: Some(Self::init_request),
        exit_request: Some(Self::exit_request),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by blk-mq, with a new request of this queue.
    unsafe extern "C" fn queue_rq(
        _hctx: *mut bindings::blk_mq_hw_ctx,
        bd: *const bindings::blk_mq_queue_data,
    ) -> bindings::blk_status_t {
        // SAFETY: By this function's requirements; blk-mq passes no null request.
        let rq = unsafe { NonNull::new_unchecked((*bd).rq) };
        // SAFETY: A request of this queue, whose data is `QueueData<T>` (`GenDisk::new`).
        let queue = unsafe { queue_data::<T>(rq) };
        // SAFETY: A new request has to be started before it can end.
        unsafe { bindings::blk_mq_start_request(rq.as_ptr()) };
        // SAFETY: Started just now, and given to nobody before this reference is gone; the part is the
        // only one, and goes with the call.
        let (range, verdict) = unsafe {
            let request = Request::new(rq);
            let range = request.range();
            let all = Part::new(&request, range.clone());
            (range, queue.driver.queue_rq(&request, all))
        };
        match verdict {
            // SAFETY: Started above and given to nobody.
            Ok(Verdict::Served) => unsafe { bindings::blk_mq_end_request(rq.as_ptr(), 0) },
            // SAFETY: Initialised by `init_request`; a request that blk-mq hands out is not under way, and
            // the part above is gone.
            Ok(Verdict::Workers(workers)) => unsafe {
                Job::<RequestJob<T>>::start(rq, range, workers, &queue.crew);
            },
            // Returning an error would say that the request was not started; it is ended instead.
            // SAFETY: Started above and given to nobody.
            Err(error) => unsafe {
                bindings::blk_mq_end_request(rq.as_ptr(), status(Err(error)));
            },
        }
        0
    }

    /// # Safety
    ///
    /// Called by blk-mq, once for each request of the set, with memory for its job behind it.
    unsafe extern "C" fn init_request(
        _set: *mut bindings::blk_mq_tag_set,
        rq: *mut bindings::request,
        _hctx: kernel::ffi::c_uint,
        _node: kernel::ffi::c_int,
    ) -> kernel::ffi::c_int {
        // SAFETY: By this function's requirements.
        unsafe { Job::<RequestJob<T>>::init(NonNull::new_unchecked(rq)) };
        0
    }

    /// # Safety
    ///
    /// Called by blk-mq, once for each request that `init_request` has initialised.
    unsafe extern "C" fn exit_request(
        _set: *mut bindings::blk_mq_tag_set,
        rq: *mut bindings::request,
        _hctx: kernel::ffi::c_uint,
    ) {
        // SAFETY: Initialised by `init_request` and not used afterwards.
        unsafe { Job::<RequestJob<T>>::exit(NonNull::new_unchecked(rq)) };
    }
}

impl<T: Operations> Drop for TagSet<T> {
    fn drop(&mut self) {
        // SAFETY: Allocated by the type invariant; whoever used the set is gone (`GenDisk`).
        unsafe { bindings::blk_mq_free_tag_set(self.set.get()) };
    }
}
