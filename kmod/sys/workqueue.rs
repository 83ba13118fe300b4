// SPDX-License-Identifier: GPL-2.0

//! A workqueue of our own, and the NOIO scope that its work runs in.
//!
//! Mainline's `kernel::workqueue` has neither. C headers: `include/linux/workqueue.h`,
//! `include/linux/sched/mm.h`.

use super::generated;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;
use kernel::str::CStr;

/// An unbound workqueue with a rescuer: work runs on any CPU, and runs even when no memory is left
/// for another worker. It stands still while the machine is suspended, as that of loop devices does:
/// by then all readers are frozen, and the disks below are about to sleep.
///
/// # Invariants
///
/// The pointer is to a workqueue that is live until this is dropped.
pub(crate) struct WorkQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: A workqueue may be used and destroyed from any thread.
unsafe impl Send for WorkQueue {}
// SAFETY: Queueing work is synchronised by the workqueue itself.
unsafe impl Sync for WorkQueue {}

impl WorkQueue {
    /// Allocates a workqueue called `name`, with the default limit of work items at a time.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        let flags = bindings::wq_flags_WQ_UNBOUND
            | bindings::wq_flags_WQ_MEM_RECLAIM
            | bindings::wq_flags_WQ_FREEZABLE;
        // SAFETY: The format takes one string, which is NUL-terminated and copied.
        let wq = unsafe {
            bindings::alloc_workqueue_noprof(c"%s".as_char_ptr(), flags, 0, name.as_char_ptr())
        };
        // INVARIANT: Just allocated, and destroyed only by `drop`.
        NonNull::new(wq).map(Self).ok_or(ENOMEM)
    }

    /// Queues `work` on any CPU; returns false if it was queued already.
    ///
    /// # Safety
    ///
    /// `work` is initialised, stays valid until its function has begun, and its function may run on
    /// this queue.
    pub(crate) unsafe fn queue(&self, work: *mut bindings::work_struct) -> bool {
        // SAFETY: The queue is live by the type invariant; `work` by this function's requirements.
        unsafe {
            bindings::queue_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as i32,
                self.0.as_ptr(),
                work,
            )
        }
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        // SAFETY: Live by the type invariant and not used afterwards; waits for work under way.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// A scope in which no allocation of this task starts I/O: serving a block device must not wait for
/// memory that only block I/O can free.
///
/// # Invariants
///
/// `flags` came from `memalloc_noio_save()` of the task that owns this; raw pointers are neither
/// `Send` nor `Sync`, so it stays there.
pub(crate) struct NoIo {
    flags: u32,
    _task: PhantomData<*mut ()>,
}

impl NoIo {
    /// Enters the scope; dropping the value leaves it. Scopes nest.
    pub(crate) fn enter() -> Self {
        Self {
            // SAFETY: Changes a flag of the current task only.
            flags: unsafe { generated::vbd_noio_save() },
            _task: PhantomData,
        }
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the value belongs to this task's current scope.
        unsafe { generated::vbd_noio_restore(self.flags) };
    }
}
