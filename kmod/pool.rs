// SPDX-License-Identifier: GPL-2.0

//! Memory that reads need, allocated before they need it.
//!
//! All devices share sets that are good for any layer, so that a device that is not read from costs
//! little. When those are all in use and there is no memory for more, a device has a small set of its
//! own, so that a read can always go on: whoever holds a set waits for backing files only, never for
//! another set.

use crate::block::BlockBuffers;
use crate::sys::job::MAX_WORKERS;
use crate::sys::pages::SegmentList;
use kernel::alloc::flags::__GFP_NOWARN;
use kernel::alloc::Flags;
use kernel::cpu::{nr_cpu_ids, CpuId};
use kernel::prelude::*;
use kernel::sync::{new_condvar, new_mutex, new_spinlock, Arc, CondVar, Mutex, SpinLock};

/// Sets that are allocated when the first device comes, and kept, however few CPUs there are: as many
/// as workers of one request, which may come to wait for its backing files at the same time.
const FIRST_SETS: usize = MAX_WORKERS as usize;

/// What one worker needs to serve a part of a request.
pub(crate) struct Scratch {
    pub(crate) segments: SegmentList,
    pub(crate) buffers: BlockBuffers,
}

/// Sets for reads in the context of their submitters, one a CPU, shared by all devices.
///
/// A set is held with a spinlock, so its holder neither sleeps nor is preempted; and nobody waits
/// for one.
struct InlinePool {
    slots: KVec<Pin<KBox<SpinLock<Scratch>>>>,
}

impl InlinePool {
    /// Allocates all sets: about 40 KiB a CPU.
    fn new() -> Result<Self> {
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
    fn with<R>(&self, f: impl FnOnce(&mut Scratch) -> R) -> Option<R> {
        let here = CpuId::current().as_u32() as usize;
        let mut scratch = self.slots.get(here)?.try_lock()?;
        scratch.buffers.clear();
        Some(f(&mut scratch))
    }
}

/// Sets for workers, good for any layer; those of one request are kept, and one a CPU if that is more.
struct WorkerPool {
    slots: KVec<WorkerSlot>,
}

/// A place for a set that nobody uses.
type WorkerSlot = Pin<KBox<SpinLock<Option<KBox<Scratch>>>>>;

impl WorkerPool {
    fn new() -> Result<Self> {
        let count = FIRST_SETS.max(nr_cpu_ids() as usize);
        let mut slots = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let slot = KBox::pin_init(new_spinlock!(None, "vbd_workers"), GFP_KERNEL)?;
            slots.push(slot, GFP_KERNEL)?;
        }
        Ok(Self { slots })
    }

    /// Allocates a set: about 140 KiB.
    fn allocate(flags: Flags) -> Result<KBox<Scratch>> {
        let scratch = Scratch {
            segments: SegmentList::new(flags)?,
            buffers: BlockBuffers::for_any_layer(flags)?,
        };
        Ok(KBox::new(scratch, flags)?)
    }

    /// Makes sure that the first sets are there, or in use.
    fn prepare(&self) -> Result {
        for slot in self.slots.iter().take(FIRST_SETS) {
            if slot.lock().is_none() {
                self.give(Self::allocate(GFP_KERNEL)?);
            }
        }
        Ok(())
    }

    /// The slots, this CPU's first.
    fn slots(&self) -> impl Iterator<Item = &WorkerSlot> {
        let here = CpuId::current().as_u32() as usize;
        let (before, after) = self.slots.split_at_checked(here).unwrap_or_default();
        Iterator::chain(after.iter(), before)
    }

    /// A set that nobody uses, or a new one; never waits.
    fn take(&self) -> Option<KBox<Scratch>> {
        self.slots()
            .find_map(|slot| slot.lock().take())
            .or_else(|| Self::allocate(GFP_NOWAIT | __GFP_NOWARN).ok())
    }

    /// Keeps a set for the next one who needs it, if there is a place for it.
    fn give(&self, scratch: KBox<Scratch>) {
        let mut given = Some(scratch);
        for slot in self.slots() {
            let mut slot = slot.lock();
            if slot.is_none() {
                *slot = given.take();
                return;
            }
        }
    }
}

/// What all devices of a module share.
pub(crate) struct Pools {
    /// [`None`] when submitters shall never serve reads themselves.
    inline: Option<InlinePool>,
    workers: WorkerPool,
}

impl Pools {
    /// Sets for submitters, if they may serve reads themselves, and places for those of workers.
    pub(crate) fn new(inline: bool) -> Result<Arc<Self>> {
        let inline = match inline {
            true => Some(InlinePool::new()?),
            false => None,
        };
        let workers = WorkerPool::new()?;
        Ok(Arc::new(Self { inline, workers }, GFP_KERNEL)?)
    }
}

/// Sizes that the buffers of a stack's device need, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) max_stored: usize,
    pub(crate) max_decoded: usize,
}

/// The sets that one device uses.
#[pin_data]
pub(crate) struct Pool {
    pools: Arc<Pools>,
    /// The device's own set, when nobody uses it.
    #[pin]
    own: Mutex<Option<KBox<Scratch>>>,
    #[pin]
    returned: CondVar,
}

impl Pool {
    /// Allocates the device's own set: a stored and a decoded block, and some 4 KiB.
    pub(crate) fn new(sizes: Sizes, pools: Arc<Pools>) -> Result<Pin<KBox<Self>>> {
        pools.workers.prepare()?;
        let Sizes {
            max_stored,
            max_decoded,
        } = sizes;
        let own = Scratch {
            segments: SegmentList::new(GFP_KERNEL)?,
            buffers: BlockBuffers::for_one_block(max_stored, max_decoded, GFP_KERNEL)?,
        };
        let own = KBox::new(own, GFP_KERNEL)?;
        KBox::pin_init(
            pin_init!(Self {
                pools,
                own <- new_mutex!(Some(own), "vbd_pool"),
                returned <- new_condvar!("vbd_pool"),
            }),
            GFP_KERNEL,
        )
    }

    /// Runs `f` with the submitter's set, if submitters may serve reads and it is not in use.
    pub(crate) fn with_inline<R>(&self, f: impl FnOnce(&mut Scratch) -> R) -> Option<R> {
        self.pools.inline.as_ref()?.with(f)
    }

    /// Runs `f` with a worker's set; waits for the device's own one when there is no other.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Scratch) -> R) -> R {
        let run = |scratch: &mut Scratch| {
            scratch.buffers.clear();
            f(scratch)
        };
        if let Some(mut scratch) = self.pools.workers.take() {
            let result = run(&mut scratch);
            self.pools.workers.give(scratch);
            return result;
        }
        let mut own = self.take_own();
        let result = run(&mut own);
        *self.own.lock() = Some(own);
        self.returned.notify_one();
        result
    }

    fn take_own(&self) -> KBox<Scratch> {
        let mut own = self.own.lock();
        loop {
            if let Some(scratch) = own.take() {
                return scratch;
            }
            self.returned.wait(&mut own);
        }
    }
}
