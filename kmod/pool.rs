// SPDX-License-Identifier: GPL-2.0

//! Memory that reads need, allocated before they need it.
//!
//! All devices share sets of buffers, which grow to what reads have needed of them, so that a device that
//! is not read from costs little, and one whose blocks are small costs less than others. A read takes a
//! set when it comes to the first block that it has to fetch: plain layers and what is cached need none.
//! When there is no memory for one, a device has a set of its own, enough for one block, so that a read
//! can always go on: whoever holds a set waits for backing files only, never for another set.

use crate::buffer::BlockBuffers;
use crate::sys::machine;
use crate::sys::pages::SegmentList;
use crate::sys::shrinker::Shrinkable;
use kernel::alloc::flags::__GFP_NOWARN;
use kernel::alloc::Flags;
use kernel::cpu::CpuId;
use kernel::prelude::*;
use kernel::sync::{new_condvar, new_mutex, new_spinlock, Arc, CondVar, Mutex, SpinLock};

/// Sets that are kept while nobody uses them, besides one for each CPU: as many as there are readers of
/// slow storage on a busy machine.
const KEPT_SETS: usize = 64;

/// Bytes that are decoded for one I/O at most where its submitter waits: some microseconds.
const INLINE_DECODED: usize = 16 * 1024;

/// A page, the unit in which memory is given back.
const PAGE_BYTES: usize = 4096;

/// What a read in the context of its submitter has.
pub(crate) struct InlineScratch {
    pub(crate) segments: SegmentList,
    pub(crate) buffers: Buffers<'static>,
}

/// Sets for reads in the context of their submitters, one for each CPU that is there, shared by all
/// devices. CPUs that come later share those.
///
/// A set is held with a spinlock, so its holder neither sleeps nor is preempted; and nobody waits
/// for one.
struct InlinePool {
    slots: KVec<Place<InlineScratch>>,
}

impl InlinePool {
    /// Allocates all sets: about 33 KiB a CPU.
    fn new() -> Result<Self> {
        let count = machine::processors();
        let mut slots = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let scratch = InlineScratch {
                segments: SegmentList::new(),
                buffers: Buffers::Inline {
                    set: BlockBuffers::new(INLINE_DECODED, INLINE_DECODED, GFP_KERNEL)?,
                    left: INLINE_DECODED,
                },
            };
            let slot = KBox::pin_init(new_spinlock!(scratch, "vbd_inline"), GFP_KERNEL)?;
            slots.push(slot, GFP_KERNEL)?;
        }
        Ok(Self { slots })
    }

    /// Runs `f` with this CPU's set, unless that is in use.
    fn with<R>(&self, f: impl FnOnce(&mut InlineScratch) -> R) -> Option<R> {
        let mut scratch = here(&self.slots)?.try_lock()?;
        scratch.buffers.begin();
        Some(f(&mut scratch))
    }
}

/// This CPU's element.
fn here<T>(slots: &[T]) -> Option<&T> {
    let cpu = CpuId::current().as_u32() as usize;
    // Without a division, unless the CPU has come later or numbers have gaps.
    slots
        .get(cpu)
        .or_else(|| slots.get(cpu.checked_rem(slots.len())?))
}

/// A place that nobody waits for long.
type Place<T> = Pin<KBox<SpinLock<T>>>;

/// Buffers that workers hand on.
type Set = KBox<BlockBuffers>;

/// Sets for workers.
struct Shelf {
    /// One for each CPU that is there, for whoever comes back to it.
    near: KVec<Place<Option<Set>>>,
    /// Others that nobody uses.
    far: Place<KVec<Set>>,
}

impl Shelf {
    /// Empty places; sets are made when they are needed.
    fn new() -> Result<Self> {
        let count = machine::processors();
        let mut near = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let slot = KBox::pin_init(new_spinlock!(None, "vbd_near"), GFP_KERNEL)?;
            near.push(slot, GFP_KERNEL)?;
        }
        let far = KVec::with_capacity(KEPT_SETS, GFP_KERNEL)?;
        let far = KBox::pin_init(new_spinlock!(far, "vbd_far"), GFP_KERNEL)?;
        Ok(Self { near, far })
    }

    /// A set that nobody uses, or a new one without any room; never waits.
    fn take(&self) -> Option<Set> {
        let near = here(&self.near).and_then(|slot| slot.lock().take());
        near.or_else(|| self.far.lock().pop())
            .or_else(|| KBox::new(BlockBuffers::default(), no_wait()).ok())
    }

    /// Keeps a set for the next one who needs it, if there is a place for it.
    fn give(&self, set: Set) {
        let mut given = Some(set);
        if let Some(slot) = here(&self.near) {
            let mut slot = slot.lock();
            if slot.is_none() {
                *slot = given.take();
            }
        }
        if let Some(set) = given {
            // One that finds no room is freed after the lock is gone.
            let _full = self.far.lock().push_within_capacity(set);
        }
    }
}

/// How memory is asked for where a read has something else to go on with.
fn no_wait() -> Flags {
    GFP_NOWAIT | __GFP_NOWARN
}

/// What all devices of a module share.
pub(crate) struct Pools {
    /// [`None`] when submitters shall never serve reads themselves.
    inline: Option<InlinePool>,
    shelf: Shelf,
}

impl Pools {
    /// Sets for submitters, if they may serve reads themselves, and places for those of workers.
    pub(crate) fn new(inline: bool) -> Result<Arc<Self>> {
        let inline = match inline {
            true => Some(InlinePool::new()?),
            false => None,
        };
        let shelf = Shelf::new()?;
        Ok(Arc::new(Self { inline, shelf }, GFP_KERNEL)?)
    }
}

impl Shrinkable for Pools {
    fn count(&self) -> usize {
        let far = self.shelf.far.lock();
        far.iter().map(|set| set.size() / PAGE_BYTES).sum()
    }

    fn scan(&self, pages: usize) -> usize {
        let mut freed = 0usize;
        while freed < pages {
            let set = self.shelf.far.lock().pop();
            let Some(set) = set else {
                break;
            };
            freed = freed.saturating_add(set.size() / PAGE_BYTES);
        }
        freed
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
    own: Mutex<Option<Set>>,
    #[pin]
    returned: CondVar,
}

impl Pool {
    /// Allocates the device's own set: a stored and a decoded block.
    pub(crate) fn new(sizes: Sizes, pools: Arc<Pools>) -> Result<Pin<KBox<Self>>> {
        let own = BlockBuffers::new(sizes.max_stored, sizes.max_decoded, GFP_KERNEL)?;
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
    pub(crate) fn with_inline<R>(&self, f: impl FnOnce(&mut InlineScratch) -> R) -> Option<R> {
        self.pools.inline.as_ref()?.with(f)
    }

    /// What a worker takes a set through when it needs one.
    pub(crate) fn buffers(&self) -> Buffers<'_> {
        Buffers::Leased(Lease {
            pool: self,
            set: None,
            own: false,
        })
    }

    /// Waits for the device's own set.
    fn take_own(&self) -> Set {
        let mut own = self.own.lock();
        loop {
            if let Some(set) = own.take() {
                return set;
            }
            self.returned.wait(&mut own);
        }
    }
}

/// A worker's way to a set.
pub(crate) struct Lease<'a> {
    pool: &'a Pool,
    set: Option<Set>,
    /// Whether the set is the device's own.
    own: bool,
}

impl Lease<'_> {
    /// Takes a set, or has the one that is here grow.
    #[inline(never)]
    fn provide(&mut self, fetch: usize, bounce: usize) {
        let shelf = &self.pool.pools.shelf;
        if self.set.is_none() {
            self.set = shelf.take();
            if let Some(set) = &mut self.set {
                set.clear();
            }
        }
        if let Some(set) = &mut self.set {
            if set.make_room(fetch, bounce, no_wait()).is_ok() {
                return;
            }
        }
        if let Some(set) = self.set.take() {
            shelf.give(set);
        }
        let mut own = self.pool.take_own();
        own.clear();
        self.set = Some(own);
        self.own = true;
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(set) = self.set.take() else {
            return;
        };
        if self.own {
            *self.pool.own.lock() = Some(set);
            self.pool.returned.notify_one();
        } else {
            self.pool.pools.shelf.give(set);
        }
    }
}

/// Where a read has its buffers from.
pub(crate) enum Buffers<'a> {
    /// From the device's pool, when it needs them.
    Leased(Lease<'a>),
    /// From whoever opens a layer: enough for a block.
    Given(BlockBuffers),
    /// From the CPU that it is submitted on, together with the bytes that may still be decoded there.
    Inline { set: BlockBuffers, left: usize },
}

impl Buffers<'_> {
    /// Forgets what the submitter's set holds.
    fn begin(&mut self) {
        if let Self::Inline { set, left } = self {
            set.clear();
            *left = INLINE_DECODED;
        }
    }

    /// Bytes that may still be decoded.
    pub(crate) fn may_decode(&self) -> usize {
        match self {
            Self::Inline { left, .. } => *left,
            _ => usize::MAX,
        }
    }

    /// Counts bytes that are decoded.
    pub(crate) fn decode(&mut self, bytes: usize) {
        if let Self::Inline { left, .. } = self {
            *left = left.saturating_sub(bytes);
        }
    }

    /// The set, if there is one yet.
    pub(crate) fn held(&mut self) -> Option<&mut BlockBuffers> {
        match self {
            Self::Leased(lease) => lease.set.as_deref_mut(),
            Self::Given(set) | Self::Inline { set, .. } => Some(set),
        }
    }

    /// The room for stored bytes, where it is what it is.
    pub(crate) fn fixed_room(&self) -> Option<usize> {
        match self {
            Self::Leased(Lease { own: false, .. }) => None,
            Self::Leased(lease) => Some(lease.set.as_ref()?.fetch.len()),
            Self::Given(set) | Self::Inline { set, .. } => Some(set.fetch.len()),
        }
    }

    /// A set with room for `fetch` stored and `bounce` decoded bytes if there is memory, or else for one
    /// block; waits for the latter. What it holds may be gone, or be another set's.
    pub(crate) fn with_room(&mut self, fetch: usize, bounce: usize) -> Option<&mut BlockBuffers> {
        if let Self::Leased(lease) = self {
            let fits = |set: &Set| set.has_room(fetch, bounce);
            if !lease.own && !lease.set.as_ref().is_some_and(fits) {
                lease.provide(fetch, bounce);
            }
        }
        self.held()
    }
}
