// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Files of writable layers, by `docs/format-writable.md`.

use super::lsmt::{has_magic, is_padding, record, word};
use super::{u32_at, u64_at};
use crate::lsmt::Record;
use vbd_format::lsmt::LogEnd;
use vbd_format::{Error, Rule};

/// The records of an index file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Records in the order of writing, without padding and empty ones, with tags of 0.
    pub records: Vec<Record>,
    /// How they end.
    pub end: LogEnd,
}

fn magic(file: &[u8]) -> Result<u32, Error> {
    if file.len() < 4096 {
        return Err(Error::new(Rule::WritableTooSmall, 0, file.len() as u64));
    }
    if !has_magic(file) {
        return Err(Error::new(Rule::WritableMagic, 0, word(file)));
    }
    Ok(u32_at(file, 28))
}

fn size(file: &[u8]) -> Result<u64, Error> {
    match u64_at(file, 48) {
        size if size > 1 << 59 => Err(Error::new(Rule::WritableSizeLimit, 48, size)),
        size => Ok(size),
    }
}

/// Virtual size, and whether the layer is sparse, of a data file.
pub fn data_header(file: &[u8]) -> Result<(u64, bool), Error> {
    let flags = magic(file)?;
    if flags & 3 != 3 {
        return Err(Error::new(Rule::WritableDataFlags, 28, u64::from(flags)));
    }
    Ok((size(file)?, flags & 16 != 0))
}

/// Virtual size, of an index file of fewer records than the limit.
pub fn log_header(file: &[u8]) -> Result<u64, Error> {
    let flags = magic(file)?;
    if flags & 7 != 1 {
        return Err(Error::new(Rule::WritableIndexFlags, 28, u64::from(flags)));
    }
    match u64_at(file, 32) {
        4096 => size(file),
        at => Err(Error::new(Rule::WritableIndexOffset, 32, at)),
    }
}

/// The records of an index file with a good header, for a data file of `data_size` bytes.
pub fn log(file: &[u8], data_size: u64) -> Result<Log, Error> {
    let mut records = Vec::new();
    let ended = |records, end| Ok(Log { records, end });
    for at in (4096..file.len()).step_by(16) {
        let Some(raw) = file.get(at..at + 16) else {
            return ended(records, LogEnd::Torn(at as u64));
        };
        if raw == [0; 16] {
            return ended(records, LogEnd::Zeroes(at as u64));
        }
        let mut record = record(raw);
        if is_padding(&record) {
            continue;
        }
        if record.moffset < 8 {
            return Err(Error::new(Rule::WritableRange, at as u64, record.moffset));
        }
        let sectors = if record.zeroed { 0 } else { record.len };
        if record.moffset + sectors > data_size / 512 {
            return ended(records, LogEnd::NoData(at as u64));
        }
        record.tag = 0;
        if record.len != 0 {
            records.push(record);
        }
    }
    ended(records, LogEnd::Whole)
}
