// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Merging the layers' indexes: the topmost record wins.
//!
//! A sweep over the virtual disk with one pending event a layer, kept in a binary heap, and a set
//! of the layers that cover the current sector. The winner is the highest member of that set; a
//! segment comes out whenever the winner changes. Time is O(n log k) for n records in k layers,
//! memory a cursor a layer.

use super::super::error::{Error, Rule};
use super::super::limits;
use super::segment::{Segment, PADDING_OFFSET};

/// A layer's place in the sweep. The caller provides one a layer; contents do not matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// Virtual sector of the pending event: the current record's start or end.
    at: u64,
    /// Index of the current record in the layer.
    record: u32,
    /// Heap slot contents: the layer whose event stands here. Unrelated to the other fields.
    heap: u8,
}

/// The set of layers that cover the current sector.
#[derive(Clone, Copy, Debug, Default)]
struct Active([u64; 4]);

impl Active {
    fn word(&mut self, layer: u8) -> Option<(&mut u64, u64)> {
        let bit = 1u64 << (layer % 64);
        self.0.get_mut(usize::from(layer / 64)).map(|w| (w, bit))
    }

    fn insert(&mut self, layer: u8) {
        if let Some((word, bit)) = self.word(layer) {
            *word |= bit;
        }
    }

    fn remove(&mut self, layer: u8) {
        if let Some((word, bit)) = self.word(layer) {
            *word &= !bit;
        }
    }

    fn contains(&mut self, layer: u8) -> bool {
        self.word(layer).is_some_and(|(word, bit)| *word & bit != 0)
    }

    fn top(&self) -> Option<u8> {
        self.0.iter().enumerate().rev().find_map(|(i, word)| {
            let bit = word.checked_ilog2()?;
            u8::try_from((i as u32).saturating_mul(64).saturating_add(bit)).ok()
        })
    }
}

/// Iterator over the merged index of a stack, in disk order, tags set to the layer (0 = bottom).
///
/// Run it twice: once to count, once to fill memory of just that size.
#[derive(Debug)]
pub struct Merge<'a, L> {
    layers: &'a [L],
    cursors: &'a mut [Cursor],
    /// Pending events; slots `..pending` of `Cursor::heap` form the heap.
    pending: usize,
    active: Active,
    /// The winner since `since`: layer and record number.
    winner: Option<(u8, u32)>,
    since: u64,
}

impl<'a, L: AsRef<[Segment]>> Merge<'a, L> {
    /// A sweep over `layers`, bottom first, each sorted as [`super::load_index`] guarantees.
    ///
    /// `cursors` needs one element a layer.
    pub fn new(layers: &'a [L], cursors: &'a mut [Cursor]) -> Result<Self, Error> {
        let count = layers.len();
        if count == 0 {
            return Err(Error::new(Rule::StackEmpty, 0, 0));
        }
        if count > limits::MAX_LAYERS || count > cursors.len() {
            return Err(Error::new(Rule::StackLayers, 0, count as u64));
        }
        let mut merge = Self {
            layers,
            cursors,
            pending: 0,
            active: Active::default(),
            winner: None,
            since: 0,
        };
        for layer in 0..count {
            // `count` is at most 255.
            merge.begin(layer as u8, 0);
        }
        Ok(merge)
    }

    fn segment(&self, layer: u8, record: u32) -> Option<Segment> {
        self.layers
            .get(usize::from(layer))?
            .as_ref()
            .get(record as usize)
            .copied()
    }

    /// Makes the start of `record` the pending event of `layer`, if there is such a record.
    fn begin(&mut self, layer: u8, record: u32) {
        let Some(segment) = self.segment(layer, record) else {
            return;
        };
        if let Some(cursor) = self.cursors.get_mut(usize::from(layer)) {
            cursor.at = segment.offset();
            cursor.record = record;
        }
        self.push(layer);
    }

    /// Takes the next event and applies it to the set of active layers; returns its sector.
    fn step(&mut self) -> Option<u64> {
        let layer = self.pop()?;
        let cursor = *self.cursors.get(usize::from(layer))?;

        if self.active.contains(layer) {
            self.active.remove(layer);
            self.begin(layer, cursor.record.saturating_add(1));
        } else {
            let end = self.segment(layer, cursor.record)?.end();
            self.active.insert(layer);
            if let Some(cursor) = self.cursors.get_mut(usize::from(layer)) {
                cursor.at = end;
            }
            self.push(layer);
        }
        Some(cursor.at)
    }

    fn key(&self, slot: usize) -> u64 {
        self.heap(slot)
            .and_then(|layer| self.cursors.get(usize::from(layer)))
            .map_or(u64::MAX, |cursor| cursor.at)
    }

    fn heap(&self, slot: usize) -> Option<u8> {
        self.cursors.get(slot).map(|cursor| cursor.heap)
    }

    fn swap(&mut self, a: usize, b: usize) {
        if let (Some(x), Some(y)) = (self.heap(a), self.heap(b)) {
            self.set(a, y);
            self.set(b, x);
        }
    }

    fn set(&mut self, slot: usize, layer: u8) {
        if let Some(cursor) = self.cursors.get_mut(slot) {
            cursor.heap = layer;
        }
    }

    fn push(&mut self, layer: u8) {
        let mut slot = self.pending;
        self.set(slot, layer);
        // At most one event a layer is pending, so this stays below 255.
        self.pending = self.pending.saturating_add(1);
        while slot != 0 {
            let parent = slot.saturating_sub(1) / 2;
            if self.key(parent) <= self.key(slot) {
                break;
            }
            self.swap(parent, slot);
            slot = parent;
        }
    }

    fn pop(&mut self) -> Option<u8> {
        let last = self.pending.checked_sub(1)?;
        let top = self.heap(0)?;
        self.swap(0, last);
        self.pending = last;

        let mut slot = 0usize;
        loop {
            let left = slot.saturating_mul(2).saturating_add(1);
            let right = left.saturating_add(1);
            let mut least = slot;
            if left < last && self.key(left) < self.key(least) {
                least = left;
            }
            if right < last && self.key(right) < self.key(least) {
                least = right;
            }
            if least == slot {
                return Some(top);
            }
            self.swap(slot, least);
            slot = least;
        }
    }
}

impl<L: AsRef<[Segment]>> Iterator for Merge<'_, L> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        loop {
            let at = self.step()?;
            // Apply all events of this sector before looking at the winner, so that a record that
            // ends where the next one begins leaves no empty gap.
            while self.pending != 0 && self.key(0) == at {
                self.step();
            }
            let winner = self
                .active
                .top()
                .and_then(|layer| Some((layer, self.cursors.get(usize::from(layer))?.record)));
            if winner == self.winner {
                continue;
            }
            // What is left of a record past 2^50 has no address: it would come out at the disk's start.
            let finished = self
                .winner
                .filter(|_| self.since <= PADDING_OFFSET)
                .and_then(|(layer, record)| Some((layer, self.segment(layer, record)?)))
                .map(|(layer, segment)| segment.slice(self.since, at).with_tag(layer));
            self.winner = winner;
            self.since = at;
            if finished.is_some() {
                return finished;
            }
        }
    }
}

/// Refuses more records than a stack may have, merged or all layers together.
///
/// To be asked while layers are loaded too: a small compressed file can hold a large index.
pub fn check_records(count: usize) -> Result<(), Error> {
    if count > limits::MAX_MERGED_RECORDS {
        return Err(Error::new(Rule::StackIndexLimit, 0, count as u64));
    }
    Ok(())
}

/// Virtual size of a stack in bytes: the topmost layer that states one decides.
///
/// `sizes` are the layers' own sizes, bottom first.
pub fn virtual_size(sizes: impl DoubleEndedIterator<Item = u64>) -> Result<u64, Error> {
    sizes
        .rev()
        .find(|&size| size != 0)
        .ok_or(Error::new(Rule::StackNoSize, 0, 0))
}
