// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Groups of the log: what each flush has appended, closed by a marker.
//!
//! A marker is a padding record, which readers leave out, with two numbers where padding has zeroes: the
//! group's number, and the CRC32C of all records since the marker before. A flush appends a group only
//! when the one before it is on disk. So a group that is not whole, with a marker of another one behind it,
//! was not left by a crash.

use super::super::checksum::Checksum;
use super::super::error::{Error, Rule};
use super::super::lsmt::{load_log, LogEnd, Segment, HEADER_BYTES, PADDING_OFFSET, RECORD_BYTES};
use super::super::source::{ReadAt, Window};

/// Bytes of a record, as offsets count.
const RECORD: u64 = RECORD_BYTES as u64;

/// Seed of a group's checksum: not 0, so that records of zeroes do not pass.
const SEED: u32 = 0x5642_4447;

/// The group that the log's end is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Number of the group before it; 0 = there is none.
    last: u32,
    /// Checksum of its records so far.
    crc: u32,
}

impl Default for Group {
    fn default() -> Self {
        Self { last: 0, crc: SEED }
    }
}

impl Group {
    /// Counts a record.
    pub fn add(&mut self, checksum: &impl Checksum, record: &[u8; RECORD_BYTES]) {
        self.crc = checksum.crc32c(self.crc, record);
    }

    /// Closes the group: the marker that belongs behind its records. The next group begins.
    pub fn close(&mut self) -> Segment {
        // Numbers go round, past 0, which padding has.
        let number = self.last.wrapping_add(1).max(1);
        let crc = self.crc;
        *self = Self {
            last: number,
            crc: SEED,
        };
        let [a, b, c, d, e, f, g, h] = PADDING_OFFSET.to_le_bytes();
        let [i, j, k, l] = number.to_le_bytes();
        let [m, n, o, p] = crc.to_le_bytes();
        Segment::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// Takes a marker that was read; the next group begins. Whether the marker comes next, and whether it
    /// closes this group.
    fn meet(&mut self, marker: Marker) -> (bool, bool) {
        let next = marker.number == self.last.wrapping_add(1).max(1);
        let whole = marker.crc == self.crc;
        *self = Self {
            last: marker.number,
            crc: SEED,
        };
        (next, whole)
    }
}

/// What a marker says.
#[derive(Clone, Copy)]
struct Marker {
    number: u32,
    crc: u32,
}

impl Marker {
    fn from_bytes(record: &[u8; RECORD_BYTES]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *record;
        let padding = u64::from_le_bytes([a, b, c, d, e, f, g, h]) == PADDING_OFFSET;
        let number = u32::from_le_bytes([i, j, k, l]);
        let crc = u32::from_le_bytes([m, n, o, p]);
        (padding && number != 0).then_some(Self { number, crc })
    }
}

/// A log that has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Byte at which the next record goes; what is there now has to be cut off before.
    pub end: u64,
    /// What is cut off.
    pub how: LogEnd,
    /// The group that goes on.
    pub group: Group,
}

/// Reads a log, in pieces of `buf`: checks its groups, and hands the records up to where a crash ended it
/// to `sink`, oldest first. `data_size` is the data file's, in bytes.
pub fn open_log<S: ReadAt>(
    src: &S,
    data_size: u64,
    checksum: &impl Checksum,
    buf: &mut [u8],
    sink: impl FnMut(Segment) -> Result<(), S::Error>,
) -> Result<Log, S::Error> {
    let Verified { end, mut group } = verify_log(src, checksum, buf)?;
    let good = Window::new(src, 0, end.min(src.size()))?;
    let mut how = load_log(&good, data_size, buf, sink)?;
    let at = match how {
        LogEnd::Whole => end,
        LogEnd::Torn(at) | LogEnd::Zeroes(at) | LogEnd::NoData(at) | LogEnd::Group(at) => at,
    };
    if at < end {
        // The group goes on with the records that are kept.
        let kept = Window::new(src, 0, at.min(src.size()))?;
        group = verify_log(&kept, checksum, buf)?.group;
    } else if end < src.size() {
        how = LogEnd::Group(end);
    }
    Ok(Log {
        end: at,
        how,
        group,
    })
}

/// A log whose groups are in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Byte up to which the log is good, as far as groups tell: its size, or the begin of a last group
    /// that a crash has left in pieces.
    pub end: u64,
    /// The group in which records that are appended at `end` are.
    pub group: Group,
}

/// Checks the groups of a log, from the file's header on, in pieces of `buf`, which holds a record at
/// least. A log without markers passes.
///
/// [`Rule::WritableGroup`] if a group is damaged that was on disk before another one was begun.
pub fn verify_log<S: ReadAt>(
    src: &S,
    checksum: &impl Checksum,
    buf: &mut [u8],
) -> Result<Verified, S::Error> {
    let size = src.size().max(HEADER_BYTES);
    let mut at = HEADER_BYTES;
    let mut group = Group::default();
    let mut begin = (at, group);
    let mut broken: Option<(u64, Group)> = None;
    let room = buf.len() / RECORD_BYTES;
    if room == 0 {
        return Err(Error::new(Rule::WritableRecordLimit, at, size).into());
    }
    while size.saturating_sub(at) >= RECORD {
        let left = size.saturating_sub(at) / RECORD;
        let count = usize::try_from(left).unwrap_or(room).min(room);
        let bytes = count.saturating_mul(RECORD_BYTES);
        let chunk = buf.get_mut(..bytes).unwrap_or_default();
        src.read_exact_at(at, chunk)?;
        for bytes in chunk.chunks_exact(RECORD_BYTES) {
            let bytes = bytes.try_into().unwrap_or_default();
            at = at.saturating_add(RECORD);
            let Some(marker) = Marker::from_bytes(&bytes) else {
                group.add(checksum, &bytes);
                continue;
            };
            let (next, whole) = group.meet(marker);
            // A crash leaves one group in pieces, the last one.
            if !next || broken.is_some() {
                let (at, _) = broken.unwrap_or(begin);
                return Err(Error::new(Rule::WritableGroup, at, u64::from(marker.number)).into());
            }
            if !whole {
                broken = Some(begin);
            }
            begin = (at, group);
        }
    }
    Ok(match broken {
        Some((end, group)) => Verified { end, group },
        None => Verified { end: size, group },
    })
}
