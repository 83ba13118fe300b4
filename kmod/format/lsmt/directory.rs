// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A directory over a merged index: where to look for a sector, without searching all of it.
//!
//! The disk up to the last record's end is cut into equal places, a power of two of sectors each and
//! at most as many as there are records. For each place the directory holds the first record that ends
//! behind the place's begin: 4 bytes a record at most, beside the record's 16. Records that are spread
//! over the disk are then found in two steps; where many crowd into one place, those are searched.

use super::segment::Segment;
use core::ops::Range;

/// How the disk is cut into places.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grid {
    /// Binary logarithm of the sectors of a place.
    shift: u32,
    places: usize,
}

impl Grid {
    /// The grid for these records, which are in disk order as [`super::Merge`] hands them out.
    pub fn new(index: &[Segment]) -> Self {
        let Some(last) = index.last() else {
            return Self::default();
        };
        let last = last.end().saturating_sub(1);
        let most = index.len() as u64;
        // Sectors have 51 bits, and one place is never too many.
        let fits = |shift: &u32| last >> (*shift).min(63) < most;
        let shift = (0..=51).find(fits).unwrap_or(51);
        Self {
            shift,
            // At most the number of records, so it fits.
            places: (last >> shift).saturating_add(1) as usize,
        }
    }

    /// Number of places: elements of the memory that [`Self::fill`] needs.
    pub fn places(&self) -> usize {
        self.places
    }

    /// Writes the directory of the records that the grid was made for.
    pub fn fill(&self, index: &[Segment], starts: &mut [u32]) {
        let mut rest = starts.iter_mut();
        let mut filled = 0u64;
        // There are at most limits::MAX_MERGED_RECORDS, so numbers fit.
        for (number, segment) in (0u32..).zip(index) {
            let last = segment.end().saturating_sub(1) >> self.shift.min(63);
            while filled <= last {
                match rest.next() {
                    Some(start) => *start = number,
                    None => return,
                }
                filled = filled.saturating_add(1);
            }
        }
    }
}

/// A directory, over memory of the caller.
#[derive(Clone, Copy, Debug)]
pub struct Directory<'a> {
    grid: Grid,
    starts: &'a [u32],
}

impl<'a> Directory<'a> {
    /// The directory that [`Grid::fill`] has written.
    pub fn new(grid: Grid, starts: &'a [u32]) -> Self {
        Self { grid, starts }
    }

    /// The records, out of `count`, among which is the first one that ends after `sector`; if there is
    /// none, that is the number behind the range.
    pub(super) fn around(&self, sector: u64, count: usize) -> Range<usize> {
        let place = usize::try_from(sector >> self.grid.shift.min(63)).unwrap_or(usize::MAX);
        let start = |place: usize| self.starts.get(place).map(|&start| start as usize);
        let Some(first) = start(place) else {
            // Behind the last record.
            return count..count;
        };
        // The record that reaches into the next place may be the one.
        let end = start(place.saturating_add(1)).map_or(count, |next| next.saturating_add(1));
        first..end.min(count).max(first)
    }
}
