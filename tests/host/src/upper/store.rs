// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A file whose unsynced sectors a power cut keeps or loses, each by itself.

use crate::rng::Rng;
use std::collections::BTreeMap;

/// Contents of a file in units that arrive whole, and what has become of each since the last sync.
///
/// `T` is what a unit holds; its default is a hole.
#[derive(Clone, Debug, Default)]
pub struct Store<T> {
    /// Versions of each unit, the durable one first.
    units: BTreeMap<u64, Vec<T>>,
    /// Sizes of the file, in bytes, since the last sync, that of the sync first.
    sizes: Vec<u64>,
}

impl<T: Clone + Default + PartialEq> Store<T> {
    /// A file of `size` bytes that is on disk.
    pub fn new(size: u64) -> Self {
        Self {
            units: BTreeMap::new(),
            sizes: vec![size],
        }
    }

    /// Bytes now.
    pub fn size(&self) -> u64 {
        *self.sizes.last().expect("a size")
    }

    /// The unit's contents now.
    pub fn get(&self, unit: u64) -> T {
        let versions = self.units.get(&unit);
        versions.and_then(|v| v.last()).cloned().unwrap_or_default()
    }

    /// Stores a unit. The file reaches at least to byte `end` then.
    pub fn put(&mut self, unit: u64, value: T, end: u64) {
        let versions = self.units.entry(unit).or_insert_with(|| vec![T::default()]);
        if versions.last() != Some(&value) {
            versions.push(value);
        }
        if end > self.size() {
            self.sizes.push(end);
        }
    }

    /// Makes everything durable.
    pub fn sync(&mut self) {
        for versions in self.units.values_mut() {
            versions.drain(..versions.len() - 1);
        }
        self.sizes.drain(..self.sizes.len() - 1);
    }

    /// The file after a power cut: each unit and the size as at some moment since the last sync.
    pub fn crash(&self, rng: &mut Rng, kind: u64) -> Self {
        // Some cuts lose all, some nothing; most are in between.
        let mut choose = |count: usize| match kind % 8 {
            0 => 0,
            1 => count - 1,
            _ => rng.below(count as u64) as usize,
        };
        let size = self.sizes[choose(self.sizes.len())];
        let units = self
            .units
            .iter()
            .map(|(&unit, versions)| (unit, vec![versions[choose(versions.len())].clone()]))
            .collect();
        Self {
            units,
            sizes: vec![size],
        }
    }

    /// All that a power cut can leave: each unit and the size as at any moment since the last sync.
    pub fn crashes(&self) -> Vec<Self> {
        let mut all: Vec<Self> = self.sizes.iter().map(|&size| Self::new(size)).collect();
        for (&unit, versions) in &self.units {
            let with = |state: &Self, version: &T| {
                let mut state = state.clone();
                state.units.insert(unit, vec![version.clone()]);
                state
            };
            all = all
                .iter()
                .flat_map(|state| {
                    versions
                        .iter()
                        .map(|version| with(state, version))
                        .collect::<Vec<_>>()
                })
                .collect();
        }
        all
    }

    /// Cuts the file.
    pub fn truncate(&mut self, size: u64, unit_bytes: u64) {
        self.units.retain(|unit, _| unit * unit_bytes < size);
        self.sizes = vec![size];
    }
}
