// SPDX-License-Identifier: GPL-2.0

//! A job that several workers share: the machinery behind requests and bios.
//!
//! A job lies in memory that belongs to an owner, a `struct request` or a `struct bio`. It is listed
//! ([`super::crew`]) for a number of workers; each that takes it up runs [`Owner::serve`], and the last
//! one to return runs [`Owner::complete`], which ends the owner and thereby gives the memory back. Nobody
//! waits for workers that have not come by then.
//!
//! A worker may leave a job whose pages are being read, and the job is listed again when they are there.

use super::charge::Charge;
use super::crew::{Crew, Member};
use super::file::length;
use super::generated;
use super::pages::Cursor;
use core::cell::Cell;
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

/// How often a job is left for pages that are being read, before a worker waits for them.
const MOST_LEAVES: u32 = 3;

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

    /// Does part of the work; called by every worker, at the same time. A worker that has left is called
    /// again.
    ///
    /// # Safety
    ///
    /// The job was listed for `raw`, and this worker has not returned from it.
    unsafe fn serve(raw: NonNull<Self::Raw>, worker: &Worker<'_>);

    /// Ends the owner; called by the last worker, alone.
    ///
    /// # Safety
    ///
    /// All workers of the job have returned from `serve`.
    unsafe fn complete(raw: NonNull<Self::Raw>);
}

/// Where a job stands that a worker may leave.
const SERVED: u32 = 0;
/// The worker has left before the pages were there: whoever wakes the job lists it.
const LEFT: u32 = 1;
/// The pages were there before the worker has left: it goes on.
const WOKEN: u32 = 2;

/// The state of a job.
#[repr(C)]
pub(super) struct Job<O: Owner> {
    /// The next one on the crew's list; the crew's, as the next two are.
    pub(super) next: *mut Job<O>,
    /// Workers that are still wanted; the job is listed while there are any.
    pub(super) wanted: u32,
    /// Workers that have it, one that has left included.
    pub(super) holders: u32,
    /// Whether it was listed for one worker.
    alone: bool,
    /// How often it was left.
    leaves: u32,
    stands: Atomic<u32>,
    /// What is woken when pages are there that a worker has left the job for.
    wait: bindings::wait_page_queue,
    crew: *const Crew<O>,
    owner: *mut O::Raw,
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
        // SAFETY: By this function's requirements; all fields are written.
        unsafe {
            let job = O::job(raw);
            (&raw mut (*job).next).write(core::ptr::null_mut());
            (&raw mut (*job).wanted).write(0);
            (&raw mut (*job).holders).write(0);
            (&raw mut (*job).alone).write(false);
            (&raw mut (*job).leaves).write(0);
            (&raw mut (*job).stands).write(Atomic::new(SERVED));
            generated::vbd_init_page_wait(&raw mut (*job).wait, Some(Self::woken));
            (&raw mut (*job).crew).write(core::ptr::null());
            (&raw mut (*job).owner).write(raw.as_ptr());
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

    /// Lists the job for `workers` workers, at least one and at most [`MAX_WORKERS`], who take parts of
    /// bytes `range` of the disk, all of the owner's.
    ///
    /// # Safety
    ///
    /// The job is initialised and not under way, there is no part of the owner's bytes, `crew` outlives the
    /// job, and the caller does not touch the owner afterwards.
    pub(super) unsafe fn start(
        raw: NonNull<O::Raw>,
        range: Range<u64>,
        workers: u32,
        crew: &Crew<O>,
    ) {
        let workers = workers.clamp(1, MAX_WORKERS);
        // SAFETY: Nobody else has the job before it is listed.
        unsafe {
            let job = O::job(raw);
            (*job).cursor.reset(range);
            (*job).alone = workers == 1;
            (*job).leaves = 0;
            (*job).crew = crew;
            crew.list(job, workers);
        }
    }

    /// Serves the job as one of its workers, and ends it as the last of them.
    ///
    /// # Safety
    ///
    /// `job` was taken from the list of its crew by `member`, and is not touched afterwards.
    pub(super) unsafe fn serve(job: *mut Self, member: &Member<'_, O>) {
        // SAFETY: This worker is one of the job's holders, so the owner does not end.
        let (raw, alone, charge) = unsafe {
            let raw = NonNull::new_unchecked((*job).owner);
            let (bio, ioprio) = O::payer(raw);
            let charge = Charge::enter(bio, ioprio);
            (raw, (*job).alone, charge)
        };
        if charge.is_others() {
            // Submitting is what a group can be slowed down by.
            member.will_wait();
        }
        loop {
            // SAFETY: As above. A job of one worker is this worker's alone.
            let wait = unsafe {
                if alone && (*job).leaves < MOST_LEAVES {
                    (*job).leaves += 1;
                    (*job).stands.store(SERVED, Relaxed);
                    NonNull::new(&raw mut (*job).wait)
                } else {
                    None
                }
            };
            // INVARIANT: The job's, which nobody else uses, and nothing waits with.
            let worker = Worker {
                will_wait: &|| member.will_wait(),
                wait: Cell::new(wait),
                left: Cell::new(false),
            };
            // SAFETY: As above.
            unsafe { O::serve(raw, &worker) };
            if !worker.has_left() {
                break;
            }
            // SAFETY: The owner does not end before this says that the worker has left.
            if unsafe { (*job).stands.xchg(LEFT, Full) } == SERVED {
                return;
            }
        }
        // SAFETY: This worker is one of the job's holders, and has returned.
        if unsafe { member.crew().put(job) } {
            // SAFETY: It was the last one.
            unsafe { O::complete(raw) };
        }
    }

    /// # Safety
    ///
    /// Called with the `wait` of a job that a worker leaves, once.
    unsafe extern "C" fn woken(wait: *mut bindings::wait_page_queue) {
        let job = wait
            .wrapping_byte_sub(core::mem::offset_of!(Self, wait))
            .cast::<Self>();
        // SAFETY: The owner does not end before it was served; it is served again after `stands` has
        // changed, so it is touched after that only if it has to be listed for that first.
        unsafe {
            let crew = (*job).crew;
            if (*job).stands.xchg(WOKEN, Full) == LEFT {
                (*crew).list_again(job);
            }
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

/// A worker that serves a job.
///
/// # Invariants
///
/// `wait` is initialised and nothing waits with it; it is lent to this value, until that has left.
pub(crate) struct Worker<'a> {
    will_wait: &'a dyn Fn(),
    wait: Cell<Option<NonNull<bindings::wait_page_queue>>>,
    left: Cell<bool>,
}

impl Worker<'_> {
    /// Whether the worker can leave what it would have to wait for.
    pub(crate) fn may_leave(&self) -> bool {
        self.wait.get().is_some()
    }

    /// Whether it has left: it has to return, and will be called again.
    pub(crate) fn has_left(&self) -> bool {
        self.left.get()
    }

    /// Says that the worker may have to wait from now on, so that others take its place.
    pub(crate) fn will_wait(&self) {
        (self.will_wait)();
    }

    /// Has `read` start a read that wakes the job; `EAGAIN` if it has, or if the worker may not leave.
    pub(super) fn leave(
        &self,
        read: impl FnOnce(NonNull<bindings::wait_page_queue>) -> isize,
    ) -> Result<usize> {
        let wait = self.wait.get().ok_or(EAGAIN)?;
        match length(read(wait)) {
            Err(error) if error.to_errno() == -(bindings::EIOCBQUEUED as i32) => {
                // INVARIANT: It is waited with now.
                self.wait.set(None);
                self.left.set(true);
                Err(EAGAIN)
            }
            result => result,
        }
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
