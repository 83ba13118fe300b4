// SPDX-License-Identifier: GPL-2.0

//! Memory that reads need, allocated before they need it.
//!
//! A device keeps one set for itself, so that a read can always go on: whoever holds a set waits
//! for backing files only, never for another set. More sets are allocated when reads run side by
//! side, and kept for the next ones.

use crate::block::BlockBuffers;
use crate::sys::job::MAX_WORKERS;
use crate::sys::pages::SegmentList;
use kernel::alloc::flags::__GFP_NOWARN;
use kernel::alloc::Flags;
use kernel::cpu::{nr_cpu_ids, CpuId};
use kernel::prelude::*;
use kernel::sync::{new_condvar, new_mutex, new_spinlock, CondVar, Mutex, SpinLock};

/// What one worker needs to serve a part of a request.
pub(crate) struct Scratch {
    pub(crate) segments: SegmentList,
    pub(crate) buffers: BlockBuffers,
}

/// Scratch for reads in the context of their submitters, one a CPU, shared by all devices.
///
/// A set is held with a spinlock, so its holder neither sleeps nor is preempted; and nobody waits
/// for one.
pub(crate) struct InlinePool {
    slots: KVec<Pin<KBox<SpinLock<Scratch>>>>,
}

impl InlinePool {
    /// Allocates all sets: about 40 KiB a CPU.
    pub(crate) fn new() -> Result<Self> {
        let count = nr_cpu_ids() as usize;
        let mut slots = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let scratch = Scratch {
                segments: SegmentList::new(GFP_KERNEL)?,
                buffers: BlockBuffers::for_inline()?,
            };
            let slot = KBox::pin_init(new_spinlock!(scratch, "vbd_inline"), GFP_KERNEL)?;
            slots.push(slot, GFP_KERNEL)?;
        }
        Ok(Self { slots })
    }

    /// Runs `f` with this CPU's set, unless that is in use.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Scratch) -> R) -> Option<R> {
        let here = CpuId::current().as_u32() as usize;
        let mut scratch = self.slots.get(here)?.try_lock()?;
        scratch.buffers.clear();
        Some(f(&mut scratch))
    }
}

/// Sizes that the buffers of a stack's device need, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) max_stored: usize,
    pub(crate) max_decoded: usize,
}

impl Sizes {
    fn allocate(self, flags: Flags) -> Result<KBox<Scratch>> {
        let scratch = Scratch {
            segments: SegmentList::new(flags)?,
            buffers: BlockBuffers::new(self.max_stored, self.max_decoded, flags)?,
        };
        Ok(KBox::new(scratch, flags)?)
    }
}

/// The sets of one device.
#[pin_data]
pub(crate) struct Pool {
    sizes: Sizes,
    #[pin]
    free: Mutex<KVec<KBox<Scratch>>>,
    #[pin]
    returned: CondVar,
}

impl Pool {
    /// Allocates the first set, and places for as many as one request has workers, or one a CPU.
    pub(crate) fn new(sizes: Sizes) -> Result<Pin<KBox<Self>>> {
        let places = nr_cpu_ids().max(MAX_WORKERS) as usize;
        let mut free = KVec::with_capacity(places, GFP_KERNEL)?;
        free.push(sizes.allocate(GFP_KERNEL)?, GFP_KERNEL)?;
        KBox::pin_init(
            pin_init!(Self {
                sizes,
                free <- new_mutex!(free, "vbd_pool"),
                returned <- new_condvar!("vbd_pool"),
            }),
            GFP_KERNEL,
        )
    }

    /// Runs `f` with a set: a free one, a new one, or the next that is given back.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Scratch) -> R) -> R {
        let mut scratch = self.take();
        scratch.buffers.clear();
        let result = f(&mut scratch);
        self.give(scratch);
        result
    }

    fn take(&self) -> KBox<Scratch> {
        if let Some(scratch) = self.free.lock().pop() {
            return scratch;
        }
        // Without waiting: the device's own set comes back by itself.
        if let Ok(scratch) = self.sizes.allocate(GFP_NOWAIT | __GFP_NOWARN) {
            return scratch;
        }
        let mut free = self.free.lock();
        loop {
            if let Some(scratch) = free.pop() {
                return scratch;
            }
            self.returned.wait(&mut free);
        }
    }

    fn give(&self, scratch: KBox<Scratch>) {
        // What does not fit the places is freed: it was allocated in a rush.
        let rejected = self.free.lock().push_within_capacity(scratch).err();
        if rejected.is_none() {
            self.returned.notify_one();
        }
    }
}
