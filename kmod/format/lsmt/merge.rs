// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Merging the layers' indexes: the topmost record wins.
//!
//! A sweep over the virtual disk with one pending event a layer, kept in a binary heap, and a set
//! of the layers that cover the current sector. The winner is the highest member of that set; a
//! segment comes out whenever the winner changes. A record that nothing overlaps, which is most of
//! them, comes out in one step. Time is O(n log k) for n records in k layers, memory a cursor a layer.

use super::super::error::{Error, Rule};
use super::super::limits;
use super::segment::{Segment, PADDING_OFFSET};

/// Memory for the sweep: one element a layer. The caller provides it; contents do not matter.
///
/// An element has two unrelated parts, so that one array serves both: element n holds the place of
/// layer n in its index, and the n-th place of the heap of pending events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// Number of the layer's current record.
    record: u32,
    event: Event,
}

/// The start or the end of a layer's current record.
#[derive(Clone, Copy, Debug, Default)]
struct Event {
    /// Virtual sector.
    at: u64,
    layer: u8,
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
/// It hands out at most twice as many segments as there are records.
#[derive(Debug)]
pub struct Merge<'a, L> {
    layers: &'a [L],
    cursors: &'a mut [Cursor],
    /// Pending events: elements `..pending` of `cursors` hold them as a heap.
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
            if let Some(event) = merge.start_of(layer as u8, 0) {
                merge.push(event);
            }
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

    /// Number of the current record of `layer`.
    fn record(&self, layer: u8) -> Option<u32> {
        self.cursors
            .get(usize::from(layer))
            .map(|cursor| cursor.record)
    }

    /// Makes `record` the current one of `layer`; returns its start, if there is such a record.
    fn start_of(&mut self, layer: u8, record: u32) -> Option<Event> {
        let at = self.segment(layer, record)?.offset();
        self.cursors.get_mut(usize::from(layer))?.record = record;
        Some(Event { at, layer })
    }

    /// Takes the next event and applies it to the set of active layers; returns its sector.
    fn step(&mut self) -> Option<u64> {
        let Event { at, layer } = self.event(0).filter(|_| self.pending != 0)?;
        let record = self.record(layer)?;

        // The event is followed by the next one of the same layer, or by none.
        let next = if self.active.contains(layer) {
            self.active.remove(layer);
            self.start_of(layer, record.saturating_add(1))
        } else {
            self.active.insert(layer);
            let at = self.segment(layer, record)?.end();
            Some(Event { at, layer })
        };
        self.replace(next);
        Some(at)
    }

    /// The first pending record, if it ends before any other one begins; it is then done with.
    fn alone(&mut self) -> Option<Segment> {
        let heap = self.cursors.get(..self.pending).unwrap_or_default();
        let [Cursor { event, .. }, rest @ ..] = heap else {
            return None;
        };
        let layer = event.layer;
        let record = self.record(layer)?;
        let segment = self.segment(layer, record)?;
        // The second event of all is one of those just below the first one.
        if rest
            .iter()
            .take(2)
            .any(|next| next.event.at < segment.end())
        {
            return None;
        }
        let next = self.start_of(layer, record.saturating_add(1));
        self.replace(next);
        Some(segment.with_tag(layer))
    }

    /// Takes the first event away, and puts another one of the same layer in.
    fn replace(&mut self, next: Option<Event>) {
        match next {
            Some(event) => self.sink(event),
            None => {
                self.pending = self.pending.saturating_sub(1);
                if let Some(last) = self.event(self.pending).filter(|_| self.pending != 0) {
                    self.sink(last);
                }
            }
        }
    }

    fn event(&self, place: usize) -> Option<Event> {
        self.cursors.get(place).map(|cursor| cursor.event)
    }

    fn set(&mut self, place: usize, event: Event) {
        if let Some(cursor) = self.cursors.get_mut(place) {
            cursor.event = event;
        }
    }

    /// Adds an event to the heap.
    fn push(&mut self, event: Event) {
        let mut place = self.pending;
        // At most one event a layer is pending, so this stays below 256.
        self.pending = self.pending.saturating_add(1);
        while place != 0 {
            let above = place.saturating_sub(1) / 2;
            match self.event(above) {
                Some(parent) if parent.at > event.at => self.set(place, parent),
                _ => break,
            }
            place = above;
        }
        self.set(place, event);
    }

    /// Puts an event in the place of the first one, and down to where it belongs.
    fn sink(&mut self, event: Event) {
        let mut place = 0usize;
        loop {
            let left = place.saturating_mul(2).saturating_add(1);
            let heap = self.cursors.get(..self.pending).unwrap_or_default();
            let (child, least) = match heap.get(left..).unwrap_or_default() {
                [] => break,
                [a, b, ..] if b.event.at < a.event.at => (left.saturating_add(1), b.event),
                [a, ..] => (left, a.event),
            };
            if event.at <= least.at {
                break;
            }
            self.set(place, least);
            place = child;
        }
        self.set(place, event);
    }
}

impl<L: AsRef<[Segment]>> Iterator for Merge<'_, L> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        loop {
            if self.winner.is_none() {
                if let Some(segment) = self.alone() {
                    return Some(segment);
                }
            }
            let at = self.step()?;
            // Apply all events of this sector before looking at the winner, so that a record that
            // ends where the next one begins leaves no empty gap.
            while self.pending != 0 && self.event(0).is_some_and(|event| event.at == at) {
                self.step();
            }
            let winner = self
                .active
                .top()
                .and_then(|layer| Some((layer, self.record(layer)?)));
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
