// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reading a layer's index: order and range rules, record by record.

use super::super::error::{Error, Rule};
use super::super::limits::SECTOR;
use super::super::source::ReadAt;
use super::header::{Lsmt, HEADER_BYTES};
use super::segment::{Segment, RECORD_BYTES};

/// First sector that data can lie in.
const DATA_START: u64 = HEADER_BYTES / SECTOR;

/// Reads the index in pieces of `buf` and hands every segment to `sink`, in disk order.
///
/// Padding and empty records are checked and left out. `buf` must hold at least one record; a
/// page or more is sensible.
pub fn load_index<S: ReadAt>(
    src: &S,
    lsmt: &Lsmt,
    buf: &mut [u8],
    mut sink: impl FnMut(Segment) -> Result<(), S::Error>,
) -> Result<(), S::Error> {
    let mut left = lsmt.index_size;
    let mut at = lsmt.index_offset;
    let mut previous_end = 0u64;
    let room = (buf.len() / RECORD_BYTES) as u64;

    if room == 0 {
        return Err(Error::new(Rule::LsmtIndexLimit, at, left).into());
    }
    while left != 0 {
        let count = left.min(room);
        // At most buf.len(), so it fits.
        let bytes = (count as usize).saturating_mul(RECORD_BYTES);
        let chunk = buf.get_mut(..bytes).unwrap_or_default();
        src.read_exact_at(at, chunk)?;
        for raw in chunk.chunks_exact(RECORD_BYTES) {
            let segment = Segment::from_bytes(raw.try_into().unwrap_or_default());
            if !segment.is_padding() {
                check_order(segment, previous_end, at)?;
                check_range(segment, lsmt.index_offset, at)?;
                previous_end = segment.end();
                if segment.sectors() != 0 {
                    sink(segment)?;
                }
            }
            // Bounded by the trailer's place, which lsmt::probe has checked.
            at = at.saturating_add(RECORD_BYTES as u64);
        }
        left = left.saturating_sub(count);
    }
    Ok(())
}

/// Checks that the record at byte `at` begins at or after the end of the one before it.
pub fn check_order(segment: Segment, previous_end: u64, at: u64) -> Result<(), Error> {
    if segment.offset() < previous_end {
        return Err(Error::new(Rule::LsmtOrder, at, segment.offset()));
    }
    Ok(())
}

/// Checks that the record at byte `at` points into the data area, which ends at byte `data_end`.
pub fn check_range(segment: Segment, data_end: u64, at: u64) -> Result<(), Error> {
    let limit = data_end / SECTOR;
    let start = segment.moffset();
    // 55 bits and 14 bits cannot overflow.
    let end = start.saturating_add(segment.sectors());
    let legal = if segment.zeroed() {
        // Nothing is read through it, yet the real reader checks its place.
        DATA_START <= start && start <= limit
    } else {
        DATA_START <= start && start < limit && DATA_START < end && end <= limit
    };
    if !legal {
        return Err(Error::new(Rule::LsmtRange, at, start));
    }
    Ok(())
}
