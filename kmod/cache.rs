// SPDX-License-Identifier: GPL-2.0

//! Decoded blocks, kept for reads of other parts of them.
//!
//! A block comes in when a read has wanted a part of it: reads of less than a block, and reads that
//! straddle blocks. Reads of whole blocks decode into the request's own memory and leave nothing here.
//! A small part that is wanted for the first time brings the block's head only, as far as it was decoded.
//!
//! The cache is shared by all devices, and layers are told apart by the number that the registry gives
//! them, so that devices on the same layer file share its blocks. It is bounded by the bytes it holds,
//! and gives memory back when the system is short of it.
//!
//! Blocks hang in lists, chosen by layer and number; some lists share a lock that is held while bytes are
//! copied and never while memory is allocated or freed. What is given up is what nobody has asked for
//! since the search for something to give up came by the last time.

use crate::sys::shrinker::Shrinkable;
use core::ops::Range;
use kernel::alloc::flags::__GFP_NOWARN;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_spinlock, Arc, SpinLock};

/// Locks.
const SHARDS: usize = 64;

/// Bytes of cache that there is a list for, at least: two blocks of 4 KiB.
const BYTES_PER_LIST: u64 = 8 * 1024;

/// Blocks in a list, at most: an image's maker can choose numbers that meet in one.
const MAX_LIST: usize = 64;

/// A page, the unit in which memory is given back.
const PAGE_BYTES: u64 = 4096;

/// A decoded block, or the head of one.
struct Entry {
    key: Key,
    /// Whether anybody has asked for it lately.
    wanted: bool,
    bytes: KVVec<u8>,
    next: Link,
}

/// What a block is of, and its number there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    layer: u64,
    /// Blocks that were checked as far as the format allows never mix with those that were not.
    verified: bool,
    block: u64,
}

type Link = Option<KBox<Entry>>;

/// Entries in no order.
#[derive(Default)]
struct List(Link);

impl List {
    fn push(&mut self, mut entry: KBox<Entry>) {
        entry.next = self.0.take();
        self.0 = Some(entry);
    }

    fn pop(&mut self) -> Option<KBox<Entry>> {
        let mut first = self.0.take()?;
        self.0 = first.next.take();
        Some(first)
    }

    fn find(&mut self, key: Key) -> Option<&mut Entry> {
        let mut link = &mut self.0;
        while let Some(entry) = link {
            if entry.key == key {
                return Some(entry);
            }
            link = &mut entry.next;
        }
        None
    }

    /// Moves entries that `leaves` says so of to another list.
    fn part(&mut self, to: &mut List, mut leaves: impl FnMut(&mut Entry) -> bool) {
        let mut stay = List::default();
        while let Some(mut entry) = self.pop() {
            match leaves(&mut entry) {
                true => to.push(entry),
                false => stay.push(entry),
            }
        }
        core::mem::swap(self, &mut stay);
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // One by one: kernel stacks are small.
        while self.pop().is_some() {}
    }
}

impl Entry {
    /// Bytes that it takes.
    fn size(&self) -> u64 {
        self.bytes.len().saturating_add(size_of::<Self>()) as u64
    }
}

/// Lists that share a lock.
type Shard = KVVec<List>;

/// The cache.
pub(crate) struct BlockCache {
    shards: KVec<Pin<KBox<SpinLock<Shard>>>>,
    /// Lists in each shard.
    lists: usize,
    capacity: u64,
    bytes: Atomic<u64>,
    /// Where the next search for something to give up begins.
    hand: Atomic<usize>,
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

impl BlockCache {
    /// A cache of at most `capacity` bytes.
    pub(crate) fn new(capacity: u64) -> Result<Arc<Self>> {
        let lists = usize::try_from(capacity / BYTES_PER_LIST)?;
        let lists = lists.div_ceil(SHARDS).max(1);
        let mut shards = KVec::with_capacity(SHARDS, GFP_KERNEL)?;
        for _ in 0..SHARDS {
            let mut shard = Shard::with_capacity(lists, GFP_KERNEL)?;
            for _ in 0..lists {
                shard.push(List::default(), GFP_KERNEL)?;
            }
            let shard = KBox::pin_init(new_spinlock!(shard, "vbd_cache"), GFP_KERNEL)?;
            shards.push(shard, GFP_KERNEL)?;
        }
        let cache = Self {
            shards,
            lists,
            capacity,
            bytes: Atomic::new(0),
            hand: Atomic::new(0),
        };
        Ok(Arc::new(cache, GFP_KERNEL)?)
    }

    /// The lock of list `number`, and the list's place under it; neighbours have different locks.
    fn place(&self, number: usize) -> Option<(&SpinLock<Shard>, usize)> {
        let list = (number / SHARDS).checked_rem(self.lists)?;
        Some((self.shards.get(number % SHARDS)?, list))
    }

    fn place_of(&self, key: Key) -> Option<(&SpinLock<Shard>, usize)> {
        // Fibonacci hashing: neighbouring blocks lie in different lists.
        let layer = key.layer << 1 | u64::from(key.verified);
        let hash = (layer.rotate_left(32) ^ key.block).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.place(hash as usize)
    }

    fn get(&self, key: Key, part: Range<usize>, f: impl FnOnce(&[u8])) -> Kept {
        // Where all reads are of whole blocks, nobody pays for the search.
        if self.bytes.load(Relaxed) == 0 {
            return Kept::Nothing;
        }
        let Some((shard, list)) = self.place_of(key) else {
            return Kept::Nothing;
        };
        let mut shard = shard.lock();
        let Some(entry) = shard.get_mut(list).and_then(|list| list.find(key)) else {
            return Kept::Nothing;
        };
        entry.wanted = true;
        match entry.bytes.get(part) {
            Some(bytes) => {
                f(bytes);
                Kept::Part
            }
            None => Kept::Head,
        }
    }

    /// Keeps a copy of a block or its head, if there is memory for it without waiting.
    fn insert(&self, key: Key, bytes: &[u8]) {
        let flags = GFP_NOWAIT | __GFP_NOWARN;
        let mut entry = Entry {
            key,
            wanted: false,
            bytes: KVVec::new(),
            next: None,
        };
        if entry.bytes.extend_from_slice(bytes, flags).is_err() {
            return;
        }
        let size = entry.size();
        let Ok(entry) = KBox::new(entry, flags) else {
            return;
        };
        let Some((shard, list)) = self.place_of(key) else {
            return;
        };
        // Before anyone can see the entry, and give it up.
        let held = self.bytes.fetch_add(size, Relaxed).saturating_add(size);
        let mut gone = List::default();
        {
            let mut shard = shard.lock();
            if let Some(list) = shard.get_mut(list) {
                let mut others = 0usize;
                list.part(&mut gone, |other| {
                    others = others.saturating_add(1);
                    other.key == key || others >= MAX_LIST
                });
                list.push(entry);
            }
        }
        self.free(gone);
        let excess = held.saturating_sub(self.capacity);
        if excess != 0 {
            self.evict(excess);
        }
    }

    /// Frees entries that have left their lists; returns the bytes freed.
    fn free(&self, mut gone: List) -> u64 {
        let mut freed = 0u64;
        while let Some(entry) = gone.pop() {
            freed = freed.saturating_add(entry.size());
        }
        self.bytes.fetch_sub(freed, Relaxed);
        freed
    }

    /// Gives up entries until `wanted` bytes are free, or every list has had two turns; returns the bytes
    /// freed.
    fn evict(&self, wanted: u64) -> u64 {
        let turns = self.lists.saturating_mul(2 * SHARDS);
        let mut freed = 0u64;
        for _ in 0..turns {
            if freed >= wanted {
                break;
            }
            let hand = self.hand.fetch_add(1, Relaxed);
            let Some((shard, list)) = self.place(hand) else {
                break;
            };
            let mut gone = List::default();
            let mut left = wanted.saturating_sub(freed);
            if let Some(list) = shard.lock().get_mut(list) {
                list.part(&mut gone, |entry| {
                    let leaves = left != 0 && !entry.wanted;
                    if leaves {
                        left = left.saturating_sub(entry.size());
                    }
                    entry.wanted = false;
                    leaves
                });
            }
            freed = freed.saturating_add(self.free(gone));
        }
        freed
    }

    /// Frees all blocks of a layer that nobody has open any more.
    pub(crate) fn forget(&self, layer: u64) {
        if self.bytes.load(Relaxed) == 0 {
            return;
        }
        for shard in &self.shards {
            for list in 0..self.lists {
                let mut gone = List::default();
                if let Some(list) = shard.lock().get_mut(list) {
                    list.part(&mut gone, |entry| entry.key.layer == layer);
                }
                self.free(gone);
            }
        }
    }
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
    layer: u64,
    verified: bool,
}

impl CachedLayer {
    /// The blocks of layer `layer`, of which no other has the number as long as this is there.
    ///
    /// `verified` tells blocks that were checked as far as the format allows from those that were
    /// not.
    pub(crate) fn new(cache: Arc<BlockCache>, layer: u64, verified: bool) -> Self {
        Self {
            cache,
            layer,
            verified,
        }
    }

    fn key(&self, block: u64) -> Key {
        Key {
            layer: self.layer,
            verified: self.verified,
            block,
        }
    }

    /// Calls `f` with the decoded bytes `part` of block `block`, if they are here; it must not sleep.
    pub(crate) fn get(&self, block: u64, part: Range<usize>, f: impl FnOnce(&[u8])) -> Kept {
        self.cache.get(self.key(block), part, f)
    }

    /// Keeps a copy of the decoded bytes of block `block`, of all or of the first ones.
    pub(crate) fn insert(&self, block: u64, bytes: &[u8]) {
        self.cache.insert(self.key(block), bytes);
    }
}
