// SPDX-License-Identifier: GPL-2.0

//! Decoded blocks, kept for reads of other parts of them.
//!
//! A block comes in when a read has wanted a part of it: reads of less than a block, and reads that
//! straddle blocks. Reads of whole blocks decode into the request's own memory and leave nothing here.
//! A small part that is wanted for the first time brings the block's head only, as far as it was decoded.
//!
//! The cache is shared by all devices, and layers are told apart by the file behind them, so that
//! devices on the same layer file share its blocks. It is bounded, and gives memory back when the
//! system is short of it.
//!
//! Blocks lie in sets of a few ways, chosen by layer and number; each set has a lock of its own that
//! is held while bytes are copied and never while memory is allocated or freed.

use crate::sys::file::Identity;
use crate::sys::shrinker::Shrinkable;
use core::ops::Range;
use kernel::alloc::flags::__GFP_NOWARN;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_mutex, new_spinlock, Arc, Mutex, SpinLock};

/// Blocks in a set.
const WAYS: usize = 8;

/// Bytes of cache that there is a set for, at least: eight blocks of 16 KiB.
const BYTES_PER_SET: u64 = 128 * 1024;

/// A page, the unit in which memory is given back.
const PAGE_BYTES: u64 = 4096;

/// A decoded block, or the head of one.
struct Entry {
    layer: u64,
    block: u64,
    /// When it was last used, on the cache's clock.
    used: u64,
    bytes: KVVec<u8>,
}

type Set = [Option<Entry>; WAYS];

/// The cache.
#[pin_data]
pub(crate) struct BlockCache {
    sets: KVec<Pin<KBox<SpinLock<Set>>>>,
    capacity: u64,
    bytes: Atomic<u64>,
    clock: Atomic<u64>,
    /// Where the next search for something to give up begins.
    hand: Atomic<usize>,
    #[pin]
    layers: Mutex<Layers>,
}

/// Layers that somebody has open.
struct Layers {
    open: KVec<OpenLayer>,
    next: u64,
}

struct OpenLayer {
    key: LayerKey,
    number: u64,
    users: usize,
}

/// What the cache has of a part of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All of it.
    Part,
    /// The block's head, which ends before the part does.
    Head,
    Nothing,
}

/// What makes two openings the same layer.
#[derive(PartialEq, Eq)]
struct LayerKey {
    /// [`None`] for what may change without a trace, such as a block device: never the same.
    file: Option<Identity>,
    /// Byte of the file at which the payload begins.
    offset: u64,
    verified: bool,
}

impl BlockCache {
    /// A cache of at most `capacity` bytes.
    pub(crate) fn new(capacity: u64) -> Result<Arc<Self>> {
        let count = usize::try_from(capacity / BYTES_PER_SET)?.max(1);
        let mut sets = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let set: Set = [const { None }; WAYS];
            let set = KBox::pin_init(new_spinlock!(set, "vbd_cache_set"), GFP_KERNEL)?;
            sets.push(set, GFP_KERNEL)?;
        }
        let layers = Layers {
            open: KVec::new(),
            next: 0,
        };
        Arc::pin_init(
            pin_init!(Self {
                sets,
                capacity,
                bytes: Atomic::new(0),
                clock: Atomic::new(0),
                hand: Atomic::new(0),
                layers <- new_mutex!(layers, "vbd_cache_layers"),
            }),
            GFP_KERNEL,
        )
    }

    fn set(&self, layer: u64, block: u64) -> Option<&SpinLock<Set>> {
        // Fibonacci hashing: neighbouring blocks lie in different sets.
        let hash = (layer.rotate_left(32) ^ block).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let index = (hash as usize).checked_rem(self.sets.len())?;
        self.sets.get(index).map(|set| &**set)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed)
    }

    fn get(&self, layer: u64, block: u64, part: Range<usize>, f: impl FnOnce(&[u8])) -> Kept {
        // Where all reads are of whole blocks, nobody pays for the search.
        if self.bytes.load(Relaxed) == 0 {
            return Kept::Nothing;
        }
        let Some(set) = self.set(layer, block) else {
            return Kept::Nothing;
        };
        let mut set = set.lock();
        let found = set
            .iter_mut()
            .flatten()
            .find(|entry| entry.layer == layer && entry.block == block);
        let Some(entry) = found else {
            return Kept::Nothing;
        };
        entry.used = self.tick();
        match entry.bytes.get(part) {
            Some(bytes) => {
                f(bytes);
                Kept::Part
            }
            None => Kept::Head,
        }
    }

    /// Keeps a copy of a block or its head, if there is memory for it without waiting.
    fn insert(&self, layer: u64, block: u64, bytes: &[u8]) {
        let Some(set) = self.set(layer, block) else {
            return;
        };
        let mut copy = KVVec::new();
        if copy
            .extend_from_slice(bytes, GFP_NOWAIT | __GFP_NOWARN)
            .is_err()
        {
            return;
        }
        let entry = Entry {
            layer,
            block,
            used: self.tick(),
            bytes: copy,
        };
        // Before anyone can see the entry, and give it up.
        self.bytes.add(bytes.len() as u64, Relaxed);
        // What the entry replaces is freed after the lock is gone.
        let replaced = {
            let mut set = set.lock();
            let same = |e: &Entry| e.layer == layer && e.block == block;
            let way = set
                .iter()
                .position(|way| way.as_ref().is_some_and(same))
                .or_else(|| oldest(&set));
            match way.and_then(|way| set.get_mut(way)) {
                Some(way) => way.replace(entry),
                None => Some(entry),
            }
        };
        self.forget(replaced);
        let excess = self.bytes.load(Relaxed).saturating_sub(self.capacity);
        if excess != 0 {
            self.evict(excess);
        }
    }

    /// Frees an entry that has left its set.
    fn forget(&self, entry: Option<Entry>) -> u64 {
        let freed = entry.map_or(0, |entry| entry.bytes.len() as u64);
        self.bytes.fetch_sub(freed, Relaxed);
        freed
    }

    /// Gives up the oldest entry of one set after the other until `wanted` bytes are free, or until
    /// every set has had its turn; returns the bytes freed.
    fn evict(&self, wanted: u64) -> u64 {
        let mut freed = 0u64;
        for _ in 0..self.sets.len() {
            if freed >= wanted {
                break;
            }
            let hand = self.hand.fetch_add(1, Relaxed);
            let set = hand
                .checked_rem(self.sets.len())
                .and_then(|index| self.sets.get(index));
            let victim = set.and_then(|set| {
                let mut set = set.lock();
                oldest_used(&set).and_then(|way| set.get_mut(way)?.take())
            });
            freed = freed.saturating_add(self.forget(victim));
        }
        freed
    }

    /// Opens a layer: the number under which its blocks are kept.
    fn open(&self, key: LayerKey) -> Result<u64> {
        let mut layers = self.layers.lock();
        let known = match key.file {
            Some(_) => layers.open.iter_mut().find(|layer| layer.key == key),
            None => None,
        };
        if let Some(layer) = known {
            layer.users = layer.users.saturating_add(1);
            return Ok(layer.number);
        }
        let number = layers.next;
        let users = 1;
        layers
            .open
            .push(OpenLayer { key, number, users }, GFP_KERNEL)?;
        layers.next = number.wrapping_add(1);
        Ok(number)
    }

    /// Closes a layer; the last one to do so takes its blocks along.
    fn close(&self, number: u64) {
        let mut last = false;
        self.layers.lock().open.retain(|layer| {
            if layer.number == number {
                layer.users = layer.users.saturating_sub(1);
                last = layer.users == 0;
                return !last;
            }
            true
        });
        if !last {
            return;
        }
        for set in &self.sets {
            for way in 0..WAYS {
                let entry = {
                    let mut set = set.lock();
                    set.get_mut(way)
                        .and_then(|way| way.take_if(|entry| entry.layer == number))
                };
                self.forget(entry);
            }
        }
    }
}

/// The way to use for a new entry: a free one, or the one that was used longest ago.
fn oldest(set: &Set) -> Option<usize> {
    let free = set.iter().position(Option::is_none);
    free.or_else(|| oldest_used(set))
}

/// The way whose entry was used longest ago.
fn oldest_used(set: &Set) -> Option<usize> {
    set.iter()
        .enumerate()
        .filter_map(|(way, entry)| Some((way, entry.as_ref()?.used)))
        .min_by_key(|(_, used)| *used)
        .map(|(way, _)| way)
}

impl Shrinkable for BlockCache {
    fn count(&self) -> usize {
        (self.bytes.load(Relaxed) / PAGE_BYTES) as usize
    }

    fn scan(&self, pages: usize) -> usize {
        let wanted = (pages as u64).saturating_mul(PAGE_BYTES);
        (self.evict(wanted) / PAGE_BYTES) as usize
    }
}

/// A layer's part of the cache.
pub(crate) struct CachedLayer {
    cache: Arc<BlockCache>,
    number: u64,
}

impl CachedLayer {
    /// The blocks of the payload that begins at byte `offset` of a file.
    ///
    /// `verified` tells blocks that were checked as far as the format allows from those that were
    /// not; they never mix.
    pub(crate) fn new(
        cache: &Arc<BlockCache>,
        file: Option<Identity>,
        offset: u64,
        verified: bool,
    ) -> Result<Self> {
        let number = cache.open(LayerKey {
            file,
            offset,
            verified,
        })?;
        Ok(Self {
            cache: cache.clone(),
            number,
        })
    }

    /// Calls `f` with the decoded bytes `part` of block `block`, if they are here; it must not sleep.
    pub(crate) fn get(&self, block: u64, part: Range<usize>, f: impl FnOnce(&[u8])) -> Kept {
        self.cache.get(self.number, block, part, f)
    }

    /// Keeps a copy of the decoded bytes of block `block`, of all or of the first ones.
    pub(crate) fn insert(&self, block: u64, bytes: &[u8]) {
        self.cache.insert(self.number, block, bytes);
    }
}

impl Drop for CachedLayer {
    fn drop(&mut self) {
        self.cache.close(self.number);
    }
}
