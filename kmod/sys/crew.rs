// SPDX-License-Identifier: GPL-2.0

//! The workers of a queue, and the list of jobs that they take up.
//!
//! There are as many workers at work as there are CPUs, and one more for each that may have to wait: so
//! jobs that wait for nothing share few workers, which go from one job to the next without being woken for
//! each, and those that wait keep nobody else from being served.

use super::generated;
use super::job::{Job, Owner};
use super::workqueue::{NoIo, WorkQueue};
use core::cell::{Cell, UnsafeCell};
use core::ops::{Deref, DerefMut};
use core::ptr::{null_mut, NonNull};
use kernel::bindings;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::types::Opaque;

/// Workers of a queue, at most: as many as bits that say which of them are idle.
const WORKERS: usize = u32::BITS as usize;

/// A worker's place.
#[repr(C)]
struct Place<O: Owner> {
    work: bindings::work_struct,
    crew: *const Crew<O>,
    number: u32,
}

/// What the crew's lock guards.
struct List<O: Owner> {
    first: *mut Job<O>,
    last: *mut Job<O>,
    /// A bit for each place whose work is neither queued nor running.
    idle: u32,
    /// Workers that are queued or running, without those that may have to wait.
    at_work: u32,
}

/// The workers of a queue.
///
/// # Invariants
///
/// `list` is used with `lock` held only. Its jobs, in the order in which they came, are those for which
/// more workers are wanted; they are not ended while they are on it, and only the first one has workers
/// already. A place's work is queued only when its bit in `idle` is taken away, and puts it back last.
pub(super) struct Crew<O: Owner> {
    // Dropped first: workers have returned before their places go.
    queue: WorkQueue,
    lock: Opaque<bindings::spinlock_t>,
    list: UnsafeCell<List<O>>,
    places: KVec<Opaque<Place<O>>>,
}

// SAFETY: Shared state is used under the lock.
unsafe impl<O: Owner> Send for Crew<O> {}
// SAFETY: As above.
unsafe impl<O: Owner> Sync for Crew<O> {}

/// The list, locked.
struct Locked<'a, O: Owner> {
    crew: &'a Crew<O>,
    flags: kernel::ffi::c_ulong,
}

impl<O: Owner> Deref for Locked<'_, O> {
    type Target = List<O>;

    fn deref(&self) -> &List<O> {
        // SAFETY: The lock is held.
        unsafe { &*self.crew.list.get() }
    }
}

impl<O: Owner> DerefMut for Locked<'_, O> {
    fn deref_mut(&mut self) -> &mut List<O> {
        // SAFETY: The lock is held.
        unsafe { &mut *self.crew.list.get() }
    }
}

impl<O: Owner> Drop for Locked<'_, O> {
    fn drop(&mut self) {
        // SAFETY: Taken by `Crew::lock`.
        unsafe { generated::vbd_unlock(self.crew.lock.get(), self.flags) };
    }
}

impl<O: Owner> Crew<O> {
    /// A crew called `name`, all of it idle.
    pub(super) fn new(name: &CStr) -> Result<KBox<Self>> {
        let mut places = KVec::with_capacity(WORKERS, GFP_KERNEL)?;
        for _ in 0..WORKERS {
            places.push(Opaque::uninit(), GFP_KERNEL)?;
        }
        let crew = KBox::new(
            Self {
                queue: WorkQueue::new(name)?,
                lock: Opaque::uninit(),
                list: UnsafeCell::new(List {
                    first: null_mut(),
                    last: null_mut(),
                    idle: u32::MAX,
                    at_work: 0,
                }),
                places,
            },
            GFP_KERNEL,
        )?;
        // SAFETY: The crew and its places stay where they are, and nobody uses them yet.
        unsafe {
            generated::vbd_init_lock(crew.lock.get());
            for (number, place) in crew.places.iter().enumerate() {
                let place = place.get();
                generated::vbd_init_work(&raw mut (*place).work, Some(Self::run));
                (&raw mut (*place).crew).write(&raw const *crew);
                (&raw mut (*place).number).write(number as u32);
            }
        }
        Ok(crew)
    }

    fn lock(&self) -> Locked<'_, O> {
        Locked {
            crew: self,
            // SAFETY: Initialised by `new`.
            flags: unsafe { generated::vbd_lock(self.lock.get()) },
        }
    }

    /// Lists a new job for `workers` workers.
    ///
    /// # Safety
    ///
    /// The job is nobody else's, does not end before a worker ends it, and belongs to this crew.
    pub(super) unsafe fn list(&self, job: *mut Job<O>, workers: u32) {
        let mut list = self.lock();
        // SAFETY: By this function's requirements.
        unsafe {
            (*job).holders = 0;
            list.append(job, workers);
        }
        self.call(&mut list, workers);
    }

    /// Lists a job again that its one worker has left.
    ///
    /// # Safety
    ///
    /// As for [`Self::list`].
    pub(super) unsafe fn list_again(&self, job: *mut Job<O>) {
        // SAFETY: By this function's requirements.
        unsafe { self.list(job, 1) };
    }

    /// Calls so many idle workers, as far as there is a CPU for them.
    fn call(&self, list: &mut List<O>, workers: u32) {
        // SAFETY: Reads a number.
        let most = unsafe { generated::vbd_online_cpus() };
        for _ in 0..workers {
            if list.at_work >= most || list.idle == 0 {
                return;
            }
            let number = list.idle.trailing_zeros();
            let Some(place) = self.places.get(number as usize) else {
                return;
            };
            list.idle &= !(1 << number);
            list.at_work += 1;
            // SAFETY: Initialised by `new`; idle until now, by the type invariant.
            unsafe { self.queue.queue(&raw mut (*place.get()).work) };
        }
    }

    /// Gives back a job as one of its holders, who has found nothing left to do; true for the last one,
    /// who has to end it.
    ///
    /// # Safety
    ///
    /// The caller is a holder, and does not touch the job afterwards unless told to end it.
    pub(super) unsafe fn put(&self, job: *mut Job<O>) -> bool {
        let mut list = self.lock();
        // SAFETY: The caller's hold keeps it until the count is taken back.
        unsafe {
            if (*job).wanted != 0 {
                // Whoever would come now would find nothing to do. It has a worker, so it is the first.
                (*job).wanted = 0;
                list.drop_first();
            }
            (*job).holders -= 1;
            (*job).holders == 0
        }
    }

    /// # Safety
    ///
    /// Called by the workqueue, with the work of a place.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: The work is the first field of its place, which the crew outlives.
        let (crew, number) = unsafe {
            let place = work.cast::<Place<O>>();
            (&*(*place).crew, (*place).number)
        };
        let _no_io = NoIo::enter();
        let member = Member {
            crew,
            counted: Cell::new(true),
        };
        while let Some(job) = member.next(number) {
            // SAFETY: Taken from the list just now.
            unsafe { Job::serve(job.as_ptr(), &member) };
        }
    }
}

impl<O: Owner> List<O> {
    /// # Safety
    ///
    /// As for [`Crew::list`].
    unsafe fn append(&mut self, job: *mut Job<O>, workers: u32) {
        // SAFETY: By this function's requirements, and the crew's invariant.
        unsafe {
            (*job).wanted = workers;
            (*job).next = null_mut();
            if self.first.is_null() {
                self.first = job;
            } else {
                (*self.last).next = job;
            }
        }
        self.last = job;
    }

    /// Takes the first job off the list; there is one.
    fn drop_first(&mut self) {
        // SAFETY: Listed, so it has not ended, by the crew's invariant.
        self.first = unsafe { (*self.first).next };
    }

    /// The first job, held for one more worker.
    fn take(&mut self) -> Option<NonNull<Job<O>>> {
        let job = NonNull::new(self.first)?;
        // SAFETY: Listed, so it has not ended, by the crew's invariant.
        unsafe {
            (*job.as_ptr()).holders += 1;
            (*job.as_ptr()).wanted -= 1;
            if (*job.as_ptr()).wanted == 0 {
                self.drop_first();
            }
        }
        Some(job)
    }
}

/// A worker of the crew, at work.
pub(super) struct Member<'a, O: Owner> {
    crew: &'a Crew<O>,
    /// Whether `at_work` counts it.
    counted: Cell<bool>,
}

impl<O: Owner> Member<'_, O> {
    pub(super) fn crew(&self) -> &Crew<O> {
        self.crew
    }

    /// A job to serve, held; if there is none, or there are others enough to do it, the place is idle.
    fn next(&self, number: u32) -> Option<NonNull<Job<O>>> {
        let mut list = self.crew.lock();
        if !self.counted.get() {
            // SAFETY: Reads a number.
            if list.at_work < unsafe { generated::vbd_online_cpus() } {
                self.counted.set(true);
                list.at_work += 1;
            }
        }
        let job = match self.counted.get() {
            true => list.take(),
            false => None,
        };
        if job.is_none() {
            if self.counted.get() {
                list.at_work -= 1;
            }
            list.idle |= 1 << number;
        }
        job
    }

    /// Says that this worker may have to wait, so another one takes its place.
    pub(super) fn will_wait(&self) {
        if self.counted.replace(false) {
            let mut list = self.crew.lock();
            list.at_work -= 1;
            if !list.first.is_null() {
                self.crew.call(&mut list, 1);
            }
        }
    }
}
