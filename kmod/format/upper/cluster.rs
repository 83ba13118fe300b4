// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! One cluster of the disk at one place of the data file: which of its sectors are there, and which
//! are zeroes.

use core::ops::Range;

/// Sectors of a cluster: 64 KiB, a bit for each in a word of 128.
pub const CLUSTER_SECTORS: u64 = 128;

/// Bits of the cluster's number in its region.
const NUMBER_BITS: u32 = 5;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// The log does not have the cluster's present state.
const DIRTY: u64 = 1 << NUMBER_BITS;

/// The whole window of the data file is the cluster's, sectors that were never written included.
const HOME: u64 = 1 << (NUMBER_BITS + 1);

/// Where the place stands.
const PLACE_SHIFT: u32 = NUMBER_BITS + 2;

/// What is added to a place: a place of a record counts back to the cluster's first sector, which can
/// be before the file's. 0 then stands for no place.
const PLACE_BIAS: u64 = CLUSTER_SECTORS;

/// What an upper says of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing: the layer below shows.
    Below,
    /// Zeroes.
    Zeroed,
    /// Stored at this sector of the data file.
    Data(u64),
}

/// A cluster at one place. The same cluster can have several, of which each sector is in one at most:
/// files of other writers place sectors as they like.
///
/// Sectors are counted from the cluster's begin, places from the data file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Number in the region, flags, and the place of sector 0.
    word: u64,
    data: [u64; 2],
    zeroed: [u64; 2],
}

impl Cluster {
    /// Cluster `number` of its region, which owns nothing and has no place.
    pub const fn empty(number: u64) -> Self {
        Self {
            word: number & NUMBER_MASK,
            data: [0; 2],
            zeroed: [0; 2],
        }
    }

    /// Cluster `number` of its region at a place where its first sector is sector `place` of the data
    /// file, all of which is reserved for it.
    pub const fn home(number: u64, place: u64) -> Self {
        Self::empty(number)
            .with_place(place.saturating_add(PLACE_BIAS))
            .with_home()
    }

    /// Cluster `number` of its region at the place where its sector `sector` is sector `place` of the
    /// data file. Nothing is known of the window's other sectors.
    pub const fn placed(number: u64, sector: u64, place: u64) -> Self {
        let biased = place.saturating_add(PLACE_BIAS).saturating_sub(sector);
        Self::empty(number).with_place(biased)
    }

    const fn with_place(self, biased: u64) -> Self {
        let flags = self.word & ((1 << PLACE_SHIFT) - 1);
        Self {
            // Places have 55 bits, so none is lost.
            word: flags | biased << PLACE_SHIFT,
            ..self
        }
    }

    const fn with_home(self) -> Self {
        Self {
            word: self.word | HOME,
            ..self
        }
    }

    /// Number of the cluster in its region.
    pub const fn number(&self) -> u64 {
        self.word & NUMBER_MASK
    }

    /// Whether the log lacks the present state.
    pub const fn is_dirty(&self) -> bool {
        self.word & DIRTY != 0
    }

    /// Whether sectors that were never written can be written here.
    pub const fn is_home(&self) -> bool {
        self.word & HOME != 0
    }

    /// The log has the present state.
    pub fn set_clean(&mut self) {
        self.word &= !DIRTY;
    }

    /// Makes this the place of the cluster's other sectors too. The caller has seen to it that the window
    /// belongs to nobody else.
    pub fn set_home(&mut self) {
        self.word |= HOME;
    }

    /// Gives a cluster that has no place the window at sector `place` of the data file.
    pub fn settle(&mut self, place: u64) {
        if !self.has_place() {
            *self = self
                .with_place(place.saturating_add(PLACE_BIAS))
                .with_home();
        }
    }

    /// Whether the cluster has a place.
    pub const fn has_place(&self) -> bool {
        self.word >> PLACE_SHIFT != 0
    }

    /// Sector of the data file at which the window begins; [`None`] without a place, or if the window
    /// begins before the file.
    pub const fn window(&self) -> Option<u64> {
        (self.word >> PLACE_SHIFT).checked_sub(PLACE_BIAS)
    }

    /// Place of sector `sector`; [`None`] without a place, or if that lies before the file.
    pub const fn place_of(&self, sector: u64) -> Option<u64> {
        let biased = self.word >> PLACE_SHIFT;
        if biased == 0 {
            return None;
        }
        biased.saturating_add(sector).checked_sub(PLACE_BIAS)
    }

    fn data(&self) -> u128 {
        join(self.data)
    }

    fn zeroed(&self) -> u128 {
        join(self.zeroed)
    }

    /// What is said of sector `sector`, and up to which sector that is so, at most `end`.
    pub fn source(&self, sector: u64, end: u64) -> (Source, u64) {
        let end = end.min(CLUSTER_SECTORS);
        let run = |bits: u128| run_end(bits, sector).min(end);
        if has(self.data(), sector) {
            // Data without a place cannot be; it would be a hole rather than a wrong byte.
            let source = self.place_of(sector).map_or(Source::Below, Source::Data);
            (source, run(self.data()))
        } else if has(self.zeroed(), sector) {
            (Source::Zeroed, run(self.zeroed()))
        } else {
            (Source::Below, run(!(self.data() | self.zeroed())))
        }
    }

    /// The sectors are data here from now on.
    pub fn own_data(&mut self, sectors: &Range<u64>) {
        let mask = mask(sectors);
        self.replace(self.data() | mask, self.zeroed() & !mask);
    }

    /// The sectors are zeroes from now on.
    pub fn own_zeroes(&mut self, sectors: &Range<u64>) {
        let mask = mask(sectors);
        self.replace(self.data() & !mask, self.zeroed() | mask);
    }

    /// The sectors are owned by another place of the same cluster from now on.
    ///
    /// This is no change that the log has to have: the record of the other place is younger.
    pub fn disown(&mut self, sectors: &Range<u64>) {
        let mask = !mask(sectors);
        self.data = split(self.data() & mask);
        self.zeroed = split(self.zeroed() & mask);
    }

    fn replace(&mut self, data: u128, zeroed: u128) {
        if data != self.data() || zeroed != self.zeroed() {
            self.data = split(data);
            self.zeroed = split(zeroed);
            self.word |= DIRTY;
        }
    }
}

fn join(words: [u64; 2]) -> u128 {
    let [low, high] = words;
    u128::from(high) << 64 | u128::from(low)
}

fn split(bits: u128) -> [u64; 2] {
    [bits as u64, (bits >> 64) as u64]
}

fn has(bits: u128, sector: u64) -> bool {
    sector < CLUSTER_SECTORS && bits >> sector & 1 != 0
}

/// End of the run of set bits that begins at `sector`, which is in the cluster.
fn run_end(bits: u128, sector: u64) -> u64 {
    let ones = (!(bits >> (sector % CLUSTER_SECTORS))).trailing_zeros();
    sector.saturating_add(u64::from(ones)).min(CLUSTER_SECTORS)
}

/// A bit for each of the sectors; those outside of the cluster have none.
fn mask(sectors: &Range<u64>) -> u128 {
    let below = |sector: u64| match sector {
        CLUSTER_SECTORS.. => u128::MAX,
        sector => !(u128::MAX << sector),
    };
    below(sectors.end) & !below(sectors.start)
}
