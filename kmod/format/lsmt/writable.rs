// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Writable layers: a data file and a log of records, or one sparse file
//! (`docs/format-writable.md`).

use super::super::error::{Error, Rule};
use super::super::limits::{MAX_LOG_RECORDS, MAX_VIRTUAL_SIZE, SECTOR};
use super::super::source::ReadAt;
use super::header::{
    header_word, read_header, Header, FLAGS_AT, FLAG_DATA_FILE, FLAG_HEADER, FLAG_SEALED,
    FLAG_SPARSE, HEADER_BYTES, INDEX_OFFSET_AT, VIRTUAL_SIZE_AT,
};
use super::segment::{Segment, RECORD_BYTES};

/// Bytes of a record, as offsets count.
const RECORD: u64 = RECORD_BYTES as u64;

/// First sector that data can lie in.
const DATA_START: u64 = HEADER_BYTES / SECTOR;

/// What a file of a writable layer says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Writable {
    /// Bytes of the virtual disk; 0 = not stated.
    pub virtual_size: u64,
    /// Whether this is a sparse layer: disk byte x at byte 4096 + x, holes where nothing was written.
    pub sparse: bool,
    /// The header, for identity and text.
    pub header: Header,
}

/// How the records of an index file end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// With the last whole record.
    Whole,
    /// Inside a record, which begins at this byte: a write that a crash cut off.
    Torn(u64),
    /// With a record of zeroes at this byte: the file grew, and its bytes did not arrive.
    Zeroes(u64),
    /// With a record, at this byte, of data that the data file does not reach.
    NoData(u64),
    /// With a group of records, which begins at this byte and did not arrive whole.
    Group(u64),
}

/// Checks the header of a data file or of a sparse layer.
pub fn probe_data<S: ReadAt>(src: &S) -> Result<Writable, S::Error> {
    let header = probe(src)?;
    let flags = header.flags.get();
    if flags & (FLAG_HEADER | FLAG_DATA_FILE) != FLAG_HEADER | FLAG_DATA_FILE {
        return Err(Error::new(Rule::WritableDataFlags, FLAGS_AT, u64::from(flags)).into());
    }
    Ok(writable(header)?)
}

/// Checks the header of an index file.
pub fn probe_log<S: ReadAt>(src: &S) -> Result<Writable, S::Error> {
    let header = probe(src)?;
    let flags = header.flags.get();
    if flags & (FLAG_HEADER | FLAG_DATA_FILE | FLAG_SEALED) != FLAG_HEADER {
        return Err(Error::new(Rule::WritableIndexFlags, FLAGS_AT, u64::from(flags)).into());
    }
    let at = header.index_offset.get();
    if at != HEADER_BYTES {
        return Err(Error::new(Rule::WritableIndexOffset, INDEX_OFFSET_AT, at).into());
    }
    // A record begun and not ended counts for nothing.
    let records = src.size().saturating_sub(HEADER_BYTES) / RECORD;
    if records > MAX_LOG_RECORDS {
        return Err(Error::new(Rule::WritableRecordLimit, HEADER_BYTES, records).into());
    }
    Ok(writable(header)?)
}

fn probe<S: ReadAt>(src: &S) -> Result<Header, S::Error> {
    let size = src.size();
    if size < HEADER_BYTES {
        return Err(Error::new(Rule::WritableTooSmall, 0, size).into());
    }
    let header = read_header(src, 0)?;
    if !header.has_magic() {
        let word = u64::from(header_word(&header));
        return Err(Error::new(Rule::WritableMagic, 0, word).into());
    }
    Ok(header)
}

fn writable(header: Header) -> Result<Writable, Error> {
    let virtual_size = header.virtual_size.get();
    if virtual_size > MAX_VIRTUAL_SIZE {
        return Err(Error::new(
            Rule::WritableSizeLimit,
            VIRTUAL_SIZE_AT,
            virtual_size,
        ));
    }
    Ok(Writable {
        virtual_size,
        sparse: header.flags.get() & FLAG_SPARSE != 0,
        header,
    })
}

/// Reads the records of an index file in pieces of `buf` and hands them to `sink`, oldest first.
///
/// `data_size` is the data file's, in bytes. Padding and empty records are left out. The first
/// record that a crash can have left behind ends the log, and so do those after it; the result says
/// which. `buf` must hold at least one record.
pub fn load_log<S: ReadAt>(
    src: &S,
    data_size: u64,
    buf: &mut [u8],
    mut sink: impl FnMut(Segment) -> Result<(), S::Error>,
) -> Result<LogEnd, S::Error> {
    let end = src.size().max(HEADER_BYTES);
    let mut left = end.saturating_sub(HEADER_BYTES) / RECORD;
    let mut at = HEADER_BYTES;
    let room = (buf.len() / RECORD_BYTES) as u64;

    if room == 0 {
        return Err(Error::new(Rule::WritableRecordLimit, at, left).into());
    }
    while left != 0 {
        let count = left.min(room);
        // At most buf.len(), so it fits.
        let bytes = (count as usize).saturating_mul(RECORD_BYTES);
        let chunk = buf.get_mut(..bytes).unwrap_or_default();
        src.read_exact_at(at, chunk)?;
        for raw in chunk.chunks_exact(RECORD_BYTES) {
            if raw.iter().all(|&byte| byte == 0) {
                return Ok(LogEnd::Zeroes(at));
            }
            let segment = Segment::from_bytes(raw.try_into().unwrap_or_default());
            if !segment.is_padding() {
                if segment.moffset() < DATA_START {
                    return Err(Error::new(Rule::WritableRange, at, segment.moffset()).into());
                }
                if !has_data(segment, data_size) {
                    return Ok(LogEnd::NoData(at));
                }
                if segment.sectors() != 0 {
                    sink(segment.with_tag(0))?;
                }
            }
            // Bounded by the file's size.
            at = at.saturating_add(RECORD);
        }
        left = left.saturating_sub(count);
    }
    Ok(if at == end {
        LogEnd::Whole
    } else {
        LogEnd::Torn(at)
    })
}

/// Whether the data file reaches to the end of what the record says is stored.
fn has_data(segment: Segment, data_size: u64) -> bool {
    let stored = if segment.zeroed() {
        0
    } else {
        segment.sectors()
    };
    // 55 bits and 14 bits cannot overflow.
    segment.moffset().saturating_add(stored) <= data_size / SECTOR
}
