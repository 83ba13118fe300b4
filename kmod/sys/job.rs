// SPDX-License-Identifier: GPL-2.0

//! A job that several workers share: the machinery behind requests and bios.
//!
//! A job lies in memory that belongs to an owner, a `struct request` or a `struct bio`. It is
//! started with a number of workers; each runs [`Owner::serve`], and the last one to return runs
//! [`Owner::complete`], which ends the owner and thereby gives the memory back.

use super::charge::Charge;
use super::generated;
use super::pages::Cursor;
use super::workqueue::{NoIo, WorkQueue};
use core::ops::Range;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};

/// What an I/O needs to go on.
pub(crate) enum Verdict {
    /// Nothing: it is served.
    Served,
    /// This many workers.
    Workers(u32),
}

/// Most workers for one job.
pub(crate) const MAX_WORKERS: u32 = 4;

/// What a job belongs to.
///
/// # Safety
///
/// `job` returns memory for a `Job<Self>` that stays valid until the owner is ended.
pub(super) unsafe trait Owner: Sized {
    /// The C structure.
    type Raw;

    /// The driver's own data in the job.
    type Data: Default + Send + Sync;

    /// Where the job lies.
    ///
    /// # Safety
    ///
    /// `raw` is an owner that has memory for a job.
    unsafe fn job(raw: NonNull<Self::Raw>) -> *mut Job<Self>;

    /// The bio by which the owner came, or one of those, and its priority: who has to pay for it.
    ///
    /// # Safety
    ///
    /// The owner is not ended meanwhile.
    unsafe fn payer(raw: NonNull<Self::Raw>) -> (*mut bindings::bio, i32);

    /// Does part of the work; called by every worker, at the same time.
    ///
    /// # Safety
    ///
    /// The job was started for `raw`, and this worker has not returned from it.
    unsafe fn serve(raw: NonNull<Self::Raw>);

    /// Ends the owner; called by the last worker, alone.
    ///
    /// # Safety
    ///
    /// All workers of the job have returned from `serve`.
    unsafe fn complete(raw: NonNull<Self::Raw>);
}

/// One worker's handle on a job.
#[repr(C)]
struct Slot {
    work: bindings::work_struct,
    owner: *mut (),
}

/// The state of a job.
#[repr(C)]
pub(super) struct Job<O: Owner> {
    slots: [Slot; MAX_WORKERS as usize],
    /// Workers that have not returned yet.
    pending: Atomic<u32>,
    /// How far workers have taken the owner's bytes.
    cursor: Cursor,
    data: O::Data,
}

impl<O: Owner> Job<O> {
    /// Initialises the job of an owner, in place.
    ///
    /// # Safety
    ///
    /// The memory behind `raw` is valid for writes and holds no job that is under way.
    pub(super) unsafe fn init(raw: NonNull<O::Raw>) {
        // SAFETY: By this function's requirements; every field is written.
        unsafe {
            let job = O::job(raw);
            for slot in 0..MAX_WORKERS as usize {
                let slot = (&raw mut (*job).slots).cast::<Slot>().add(slot);
                generated::vbd_init_work(&raw mut (*slot).work, Some(Self::run));
                (&raw mut (*slot).owner).write(raw.as_ptr().cast());
            }
            (&raw mut (*job).pending).write(Atomic::new(0));
            (&raw mut (*job).cursor).write(Cursor::new());
            (&raw mut (*job).data).write(O::Data::default());
        }
    }

    /// The driver's data.
    ///
    /// # Safety
    ///
    /// The job is initialised, and the owner is not ended during `'a`.
    pub(super) unsafe fn data<'a>(raw: NonNull<O::Raw>) -> &'a O::Data {
        // SAFETY: By this function's requirements; only shared references are ever made.
        unsafe { &(*O::job(raw)).data }
    }

    /// How far workers have taken the owner's bytes.
    ///
    /// # Safety
    ///
    /// The job is initialised, and the owner is not ended during `'a`.
    pub(super) unsafe fn cursor<'a>(raw: NonNull<O::Raw>) -> &'a Cursor {
        // SAFETY: By this function's requirements; only shared references are ever made.
        unsafe { &(*O::job(raw)).cursor }
    }

    /// Starts `workers` workers, at least one and at most [`MAX_WORKERS`], who take parts of bytes
    /// `range` of the disk, all of the owner's.
    ///
    /// # Safety
    ///
    /// The job is initialised and not under way, there is no part of the owner's bytes, and the caller
    /// does not touch the owner afterwards.
    pub(super) unsafe fn start(
        raw: NonNull<O::Raw>,
        range: Range<u64>,
        workers: u32,
        queue: &WorkQueue,
    ) {
        let workers = workers.clamp(1, MAX_WORKERS);
        // SAFETY: The job is initialised by this function's requirements. Its owner ends only after
        // every worker counted in `pending` has run, so slots not queued yet stay valid.
        unsafe {
            let job = O::job(raw);
            (*job).cursor.reset(range);
            (*job).pending.store(workers, Relaxed);
            for slot in 0..workers as usize {
                let slot = (&raw mut (*job).slots).cast::<Slot>().add(slot);
                queue.queue(&raw mut (*slot).work);
            }
        }
    }

    /// # Safety
    ///
    /// Called by the workqueue, with the work of a slot that `start` has queued.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: The work is the first field of its slot, and the owner was not null.
        let raw = unsafe { NonNull::new_unchecked((*work.cast::<Slot>()).owner.cast::<O::Raw>()) };
        let _no_io = NoIo::enter();
        // SAFETY: `pending` counts this worker, so the owner does not end yet; workers are kernel threads.
        let _charge = unsafe {
            let (bio, ioprio) = O::payer(raw);
            Charge::enter(bio, ioprio)
        };
        // SAFETY: `pending` counts this worker.
        unsafe { O::serve(raw) };
        // SAFETY: As above, until the count is taken back.
        let pending = unsafe { &(*O::job(raw)).pending };
        // Full: what all workers wrote happens before the end.
        if pending.fetch_sub(1, Full) == 1 {
            // SAFETY: Every other worker has gone through the line above.
            unsafe { O::complete(raw) };
        }
    }

    /// Drops the driver's data.
    ///
    /// # Safety
    ///
    /// The job is initialised, not under way, and not used afterwards.
    pub(super) unsafe fn exit(raw: NonNull<O::Raw>) {
        // SAFETY: By this function's requirements.
        unsafe { core::ptr::drop_in_place(&raw mut (*O::job(raw)).data) };
    }
}

/// What the block layer calls a result.
pub(super) fn status(result: Result) -> bindings::blk_status_t {
    match result {
        Ok(()) => 0,
        // SAFETY: Translates a number.
        Err(error) => unsafe { bindings::errno_to_blk_status(error.to_errno()) },
    }
}
