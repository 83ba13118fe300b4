// SPDX-License-Identifier: GPL-2.0

//! The module itself, as those see it that call it back.
//!
//! Everything that the kernel keeps of a module has an owner, and who is at it pins the module; but
//! a module whose init fails is freed whoever pins it. So before its init has succeeded nobody is let
//! in, and what others could have come through is closed before it fails.
//!
//! C header: `include/linux/module.h`.

use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};

/// Milliseconds between two looks at what has no other way to tell.
const PAUSE: u32 = 1;

/// A door that the module has and others come through, who pin the module meanwhile.
pub(super) struct Door {
    closed: Atomic<bool>,
}

impl Door {
    pub(super) const fn new() -> Self {
        Self {
            closed: Atomic::new(false),
        }
    }

    /// Lets the caller in once the module's init has succeeded; may sleep until then. `ENODEV` if it
    /// has not, `EINTR` if a signal comes first.
    pub(super) fn enter(&self) -> Result {
        while !is_live() {
            if self.closed.load(Relaxed) {
                return Err(ENODEV);
            }
            // SAFETY: Sleeps, which callers may.
            if unsafe { bindings::msleep_interruptible(PAUSE) } != 0 {
                return Err(EINTR);
            }
        }
        // A live module is closed only when nobody can be at the door.
        if self.closed.load(Relaxed) {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// Lets nobody in any more, and waits until all have left and hold nothing of what is behind it.
    pub(super) fn close(&self) {
        // Full: who pins the module after this sees it closed, who has before is waited for.
        self.closed.xchg(true, Full);
        // SAFETY: The module is there as long as its code runs.
        while unsafe { bindings::module_refcount(this_module()) } > OURS {
            // SAFETY: Sleeps, which owners of a door may.
            unsafe { bindings::msleep(PAUSE) };
        }
    }
}

/// References to a module that is being loaded: the loader's. One that is being unloaded has none.
const OURS: kernel::ffi::c_int = 1;

fn this_module() -> *mut bindings::module {
    (&raw const bindings::__this_module).cast_mut()
}

/// Whether the module's init has succeeded, and it is not being unloaded.
fn is_live() -> bool {
    // SAFETY: The module is there as long as its code runs. Others write the field, whole.
    let state = unsafe { (&raw const (*this_module()).state).read_volatile() };
    state == bindings::module_state_MODULE_STATE_LIVE
}
