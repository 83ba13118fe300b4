// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Tells where two disks differ.
//!
//! The JSON of `vbdctl compare --json` is a [`Comparison`]; fields are never renamed or removed:
//!
//! | field | meaning |
//! |---|---|
//! | `equal` | whether sizes and bytes are the same |
//! | `size_a`, `size_b` | bytes of the two disks |
//! | `ranges` | what differs, in order, in whole sectors: `offset`, `length` (the first one only, unless all are asked for), and `first_byte`, `a` and `b`: the first byte that differs and up to 16 bytes from there as hexadecimal digits |
//! | `different_bytes` | sum of the lengths |
//! | `complete` | whether `ranges` holds all that differ |

use super::disk::Place;
use super::parallel::in_order;
use super::Disk;
use crate::error::Result;
use serde::Serialize;
use std::ops::{ControlFlow, Range};

/// Bytes that one task reads of each disk.
const WINDOW: u64 = 512 * 1024;

const SECTOR: usize = 512;

/// Bytes that are shown of a difference.
const SHOWN: usize = 16;

/// Differences that are kept; the rest is counted.
const MOST: usize = 100_000;

/// What a comparison gave.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Whether sizes and bytes are the same.
    pub equal: bool,
    /// Bytes of the first disk.
    pub size_a: u64,
    /// Bytes of the second disk.
    pub size_b: u64,
    /// What differs.
    pub ranges: Vec<Difference>,
    /// Sum of the lengths.
    pub different_bytes: u64,
    /// Whether `ranges` holds all that differ.
    pub complete: bool,
}

/// A range that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// First byte of its first sector.
    pub offset: u64,
    /// Bytes; all of its sectors differ.
    pub length: u64,
    /// First byte that differs.
    pub first_byte: u64,
    /// What the first disk holds from there on.
    pub a: String,
    /// What the second disk holds from there on.
    pub b: String,
}

impl Comparison {
    /// The comparison as JSON, in lines.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Adds a range, to the last one if it goes on; says whether it did.
    fn add(&mut self, new: Difference, all: bool) -> bool {
        if let Some(last) = self.ranges.last_mut() {
            if last.offset + last.length == new.offset {
                last.length += new.length;
                self.different_bytes += new.length;
                return true;
            }
            if !all {
                self.complete = false;
                return false;
            }
        }
        self.different_bytes += new.length;
        if self.ranges.len() < MOST {
            self.ranges.push(new);
        } else {
            self.complete = false;
        }
        true
    }
}

/// Compares `a` with `b`, up to the end of the first range that differs or, with `all`, to the end.
///
/// A shorter disk is compared as if zeroes followed. Where both take bytes from the same place of the
/// same file nothing is read. `progress` is told the bytes that are done.
pub fn compare(
    a: &Disk,
    b: &Disk,
    all: bool,
    jobs: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Comparison> {
    let mut comparison = Comparison {
        equal: a.size() == b.size(),
        size_a: a.size(),
        size_b: b.size(),
        ranges: Vec::new(),
        different_bytes: 0,
        complete: true,
    };
    let mut windows = Windows {
        a,
        b,
        at: 0,
        end: a.size().max(b.size()),
    };
    in_order(
        jobs,
        || (a.reader(), b.reader(), Vec::new(), Vec::new()),
        |(a, b, left, right), range: Range<u64>| {
            let len = (range.end - range.start) as usize;
            left.resize(len, 0);
            right.resize(len, 0);
            a.read_exact_at(range.start, left)?;
            b.read_exact_at(range.start, right)?;
            Ok((range.end, differences(range.start, left, right)))
        },
        || windows.next(),
        |compared: Result<(u64, Vec<Difference>)>| {
            let (end, differences) = compared?;
            for new in differences {
                if !comparison.add(new, all) {
                    return Ok(ControlFlow::Break(()));
                }
            }
            progress(end);
            let over = comparison.ranges.last();
            if !all && over.is_some_and(|last| last.offset + last.length < end) {
                // What follows has not been looked at.
                comparison.complete = end >= a.size().max(b.size());
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        },
    )?;
    comparison.equal &= comparison.ranges.is_empty();
    Ok(comparison)
}

/// The sectors that differ, as ranges.
fn differences(start: u64, left: &[u8], right: &[u8]) -> Vec<Difference> {
    let mut ranges: Vec<Difference> = Vec::new();
    if left == right {
        return ranges;
    }
    let sectors = left.chunks(SECTOR).zip(right.chunks(SECTOR));
    for (number, (one, other)) in sectors.enumerate() {
        let Some(first) = one.iter().zip(other).position(|(a, b)| a != b) else {
            continue;
        };
        let offset = start + (number * SECTOR) as u64;
        let length = one.len() as u64;
        match ranges.last_mut() {
            Some(last) if last.offset + last.length == offset => last.length += length,
            _ => {
                let shown = |sector: &[u8]| {
                    let bytes = &sector[first..sector.len().min(first + SHOWN)];
                    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
                };
                ranges.push(Difference {
                    offset,
                    length,
                    first_byte: offset + first as u64,
                    a: shown(one),
                    b: shown(other),
                });
            }
        }
    }
    ranges
}

/// The ranges that have to be read.
struct Windows<'a> {
    a: &'a Disk,
    b: &'a Disk,
    at: u64,
    end: u64,
}

impl Windows<'_> {
    fn next(&mut self) -> Result<Option<Range<u64>>> {
        loop {
            let starts = [self.a.next_data(self.at)?, self.b.next_data(self.at)?];
            let start = starts.into_iter().flatten().map(|range| range.start).min();
            let Some(start) = start.filter(|&start| start < self.end) else {
                return Ok(None);
            };
            let start = self.at.max(start - start % SECTOR as u64);
            let end = (start - start % WINDOW + WINDOW).min(self.end);
            self.at = end;
            if !self.same_places(start, end) {
                return Ok(Some(start..end));
            }
        }
    }

    /// Whether both disks take all of a range from the same places.
    fn same_places(&self, start: u64, end: u64) -> bool {
        let (Some(mut left), Some(mut right)) =
            (self.a.pieces(start, end), self.b.pieces(start, end))
        else {
            return false;
        };
        let mut at = start;
        let (mut one, mut other) = (left.next(), right.next());
        while at < end {
            let (Some(a), Some(b)) = (one, other) else {
                return false;
            };
            let inside = |disk: &Disk, piece: vbd_format::lsmt::Piece| {
                disk.place(piece.kind).map(|place| match place {
                    Place::Zeroes => place,
                    Place::Stored(device, inode, offset) => {
                        Place::Stored(device, inode, offset + (at - piece.start))
                    }
                })
            };
            let place = inside(self.a, a);
            if place.is_none() || place != inside(self.b, b) {
                return false;
            }
            let (end_a, end_b) = (a.start + a.len, b.start + b.len);
            at = end_a.min(end_b);
            if end_a == at {
                one = left.next();
            }
            if end_b == at {
                other = right.next();
            }
        }
        true
    }
}
