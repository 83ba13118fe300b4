// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A writable layer that nobody writes to: a pair of data and index file, or a sparse file.

use super::backing::Backing;
use super::codec::Crc;
use super::source::{Source, SourceReader};
use crate::error::{Error, ReadError, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vbd_format::limits::SECTOR;
use vbd_format::lsmt::{self, LogEnd, Segment, Writable, HEADER_BYTES, MAX_SEGMENT_SECTORS};
use vbd_format::upper::open_log;
use vbd_format::ReadAt as _;

/// Bytes of the index file that are read at a time.
const CHUNK: usize = 64 * 1024;

/// Segments that may be live at a time: what fits into memory, and four times what a layer may have.
const MOST_LIVE: usize = 4_000_000;

/// An open writable layer.
#[derive(Debug)]
pub struct Upper {
    /// What the layer says of itself; of a pair, the index file.
    pub about: Writable,
    /// Where the log of records ends, and in which file.
    pub log_end: (LogEnd, PathBuf),
    data: Source,
    segments: Vec<Segment>,
}

impl Upper {
    /// Opens a data file and its index file.
    pub fn open_pair(data: &Path, index: &Path) -> Result<Self> {
        let source = Source::open(data)?;
        let backing = Backing::open(data)?;
        let said = lsmt::probe_data(&backing).map_err(|error: ReadError| error.of(data))?;
        if said.sparse {
            return Err(Error::unfit(
                data,
                "is a sparse layer, which has no index file: --sparse",
            ));
        }
        let log = Backing::open(index)?;
        let about = lsmt::probe_log(&log).map_err(|error: ReadError| error.of(index))?;
        let mut live = Live::default();
        let mut too_many = false;
        let size = backing.size();
        let read = open_log(&log, size, &Crc, &mut vec![0; CHUNK], |segment| {
            live.put(segment);
            too_many |= live.0.len() > MOST_LIVE;
            Ok(())
        })
        .map_err(|error: ReadError| error.of(index))?;
        if too_many {
            let reason = format!("has more than {MOST_LIVE} live pieces");
            return Err(Error::unfit(index, reason));
        }
        Ok(Self {
            about,
            log_end: (read.how, index.to_owned()),
            data: source,
            segments: live.0.into_values().collect(),
        })
    }

    /// Opens a sparse layer.
    pub fn open_sparse(path: &Path) -> Result<Self> {
        let data = Source::open(path)?;
        let backing = Backing::open(path)?;
        let about = lsmt::probe_data(&backing).map_err(|error: ReadError| error.of(path))?;
        if !about.sparse {
            return Err(Error::unfit(
                path,
                "is no sparse layer but the data file of a pair: give its index file",
            ));
        }
        let mut segments = Vec::new();
        // What lies past the disk is not part of it.
        let end = match about.virtual_size {
            0 => u64::MAX,
            size => HEADER_BYTES + size.next_multiple_of(SECTOR),
        };
        let mut at = HEADER_BYTES;
        while let Some(range) = data.next_data(at)?.filter(|range| range.start < end) {
            let mut sector = range.start / SECTOR;
            let last = range.end.min(end).div_ceil(SECTOR);
            while sector < last {
                let sectors = (last - sector).min(MAX_SEGMENT_SECTORS);
                let offset = sector - HEADER_BYTES / SECTOR;
                segments.extend(Segment::new(offset, sectors, sector, false));
                sector += sectors;
            }
            if segments.len() > MOST_LIVE {
                let reason = format!("has more than {MOST_LIVE} pieces of data");
                return Err(Error::unfit(path, reason));
            }
            at = (last * SECTOR).max(range.end);
        }
        Ok(Self {
            about,
            log_end: (LogEnd::Whole, path.to_owned()),
            data,
            segments,
        })
    }

    /// What is live, in the order of the disk.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// A reader of the stored bytes.
    pub fn reader(&self) -> SourceReader<'_> {
        self.data.reader()
    }
}

/// The live segments, by first sector; they do not overlap.
#[derive(Default)]
struct Live(BTreeMap<u64, Segment>);

impl Live {
    /// Puts `new` over what is there.
    fn put(&mut self, new: Segment) {
        let (start, end) = (new.offset(), new.end());
        // The one that begins before and reaches in: its front stays, and its rest if it is longer.
        let before = self.0.range(..start).next_back().map(|(_, old)| *old);
        if let Some(old) = before.filter(|old| old.end() > start) {
            self.keep(part(old, old.offset(), start));
            self.keep(part(old, end, old.end()));
        }
        while let Some(old) = self.0.range(start..end).next().map(|(_, old)| *old) {
            self.0.remove(&old.offset());
            self.keep(part(old, end, old.end()));
        }
        self.keep(Some(new));
    }

    fn keep(&mut self, segment: Option<Segment>) {
        self.0
            .extend(segment.map(|segment| (segment.offset(), segment)));
    }
}

/// Sectors `from..to` of `segment`, or nothing if there are none or they have no address.
fn part(segment: Segment, from: u64, to: u64) -> Option<Segment> {
    let cut = from - segment.offset();
    let moved = if segment.zeroed() { 0 } else { cut };
    let sectors = to.checked_sub(from).filter(|&sectors| sectors != 0)?;
    Segment::new(from, sectors, segment.moffset() + moved, segment.zeroed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, sectors: u64, moffset: u64, zeroed: bool) -> Segment {
        Segment::new(offset, sectors, moffset, zeroed).unwrap()
    }

    #[test]
    fn later_records_win_as_in_a_flat_model() {
        let mut state = 1u64;
        let mut below = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        };
        for _ in 0..200 {
            let mut live = Live::default();
            // For each sector, where it is stored, or 0 for zeroes.
            let mut model = [None; 64];
            for number in 0..below(40) {
                let offset = below(60);
                let sectors = 1 + below(64 - offset);
                let zeroed = below(4) == 0;
                let stored = 8 + number * 64;
                live.put(segment(offset, sectors, stored, zeroed));
                for sector in 0..sectors {
                    model[(offset + sector) as usize] =
                        Some(if zeroed { 0 } else { stored + sector });
                }
            }
            let mut found = [None; 64];
            let mut end = 0;
            for (start, piece) in &live.0 {
                assert!(*start == piece.offset() && *start >= end);
                end = piece.end();
                for sector in 0..piece.sectors() {
                    found[(piece.offset() + sector) as usize] = Some(if piece.zeroed() {
                        0
                    } else {
                        piece.moffset() + sector
                    });
                }
            }
            assert_eq!(found, model);
        }
    }

    #[test]
    fn what_has_no_address_is_dropped() {
        let top = (1 << 50) - 2;
        let mut live = Live::default();
        live.put(segment(top, 9, 8, false));
        live.put(segment(top, 1, 20, false));
        assert_eq!(
            live.0.into_values().collect::<Vec<_>>(),
            [segment(top, 1, 20, false)]
        );
    }
}
