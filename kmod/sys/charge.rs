// SPDX-License-Identifier: GPL-2.0

//! Whom a worker's reads are charged to: the control groups and the priority of the reader.
//!
//! C headers: `include/linux/kthread.h`, `include/linux/sched/mm.h`, `include/linux/ioprio.h`.

use super::generated;
use core::marker::PhantomData;
use kernel::bindings;

/// A scope in which this task reads at the expense of whoever submitted a bio, as loop does. For readers
/// of the root group at the usual priority it costs a few comparisons.
///
/// # Invariants
///
/// `charge` was begun by the task that owns this; raw pointers are neither `Send` nor `Sync`, so it stays
/// there.
pub(super) struct Charge {
    charge: generated::vbd_charge,
    _task: PhantomData<*mut ()>,
}

impl Charge {
    /// Enters the scope; dropping the value leaves it. Scopes do not nest.
    ///
    /// # Safety
    ///
    /// The current task is a kernel thread; `bio` is null or has not ended.
    pub(super) unsafe fn enter(bio: *mut bindings::bio, ioprio: i32) -> Self {
        let mut charge = generated::vbd_charge::default();
        // SAFETY: By this function's requirements.
        unsafe { generated::vbd_charge_begin(&mut charge, bio, ioprio) };
        // INVARIANT: Begun just now.
        Self {
            charge,
            _task: PhantomData,
        }
    }
}

impl Charge {
    /// Whether a group other than the root is charged.
    pub(super) fn is_others(&self) -> bool {
        self.charge.has_io
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // SAFETY: Begun by this task, by the type invariant.
        unsafe { generated::vbd_charge_end(&self.charge) };
    }
}
