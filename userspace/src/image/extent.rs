// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! How many bytes of a file or block device are a layer, or a ZFile, if the rest is padding.

use super::backing::Backing;
use super::codec::Crc;
use crate::error::{Error, ReadError, Result};
use std::path::Path;
use vbd_format::lsmt;
use vbd_format::tar::{self, Wrapper};
use vbd_format::zfile::{self, ZFile};
use vbd_format::{ReadAt, Window};

/// Zeroes after the content that are looked through, in bytes.
const MOST_PADDING: u64 = 64 << 20;

/// Bytes that are looked at in one go.
const CHUNK: u64 = 64 * 1024;

/// Bytes of a ZFile's trailer and of an entry of its jump table.
const ZFILE_TRAILER: u64 = 512;
const ZFILE_ENTRY: u64 = 4;

/// Bytes of a layer's trailer, and what its place is a multiple of.
const LSMT_TRAILER: u64 = 4096;
const SECTOR: u64 = 512;

/// What lies at the start of a file or block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of it.
    pub bytes: u64,
    /// Bytes before compression, if it is a ZFile by itself, without a tar wrapper.
    pub original_size: Option<u64>,
}

/// Finds the extent of what `path` holds; [`None`] if nothing tells where it ends.
pub fn find(path: &Path) -> Result<Option<Extent>> {
    let backing = Backing::open(path)?;
    find_in(&backing).map_err(|error| error.of(path))
}

/// As [`find`] for a ZFile that is known to have `bytes` bytes.
pub fn original_size(path: &Path, bytes: u64) -> Result<u64> {
    let backing = Backing::open_first(path, bytes)?;
    match zfile::probe(&backing, &Crc).map_err(|error| error.of(path))? {
        Some(zfile) => Ok(zfile.original_size),
        None => Err(Error::unfit(path, "is no ZFile")),
    }
}

fn find_in(backing: &Backing) -> Result<Option<Extent>, ReadError> {
    let size = backing.size();
    let (wrapper, payload) = tar::unwrap(backing)?;
    if wrapper != Wrapper::None {
        // Members of an archive are padded to its blocks.
        let end = payload.offset() + payload.size();
        let bytes = end.next_multiple_of(SECTOR).min(size);
        return Ok(Some(Extent {
            bytes,
            original_size: None,
        }));
    }
    // A header that has the numbers is enough; the trailer after the jump table may be cut off.
    match zfile::probe(&payload, &Crc) {
        Ok(Some(zfile)) if zfile.from_header => {
            let end = zfile.index_offset + zfile.entries * ZFILE_ENTRY + ZFILE_TRAILER;
            return Ok(Some(of_zfile(&zfile, end.min(size))));
        }
        Ok(_) | Err(ReadError::Format(_)) => {}
        Err(error) => return Err(error),
    }
    // The trailers of both begin with a magic and end with zeroes, of which padding may be more.
    let Some(end) = end_of_content(backing)? else {
        return Ok(None);
    };
    let first = |bytes| Window::new(backing, 0, bytes);
    for bytes in (end..end.saturating_add(ZFILE_TRAILER)).take_while(|&bytes| bytes <= size) {
        if let Ok(Some(zfile)) = zfile::probe(&first(bytes)?, &Crc) {
            return Ok(Some(of_zfile(&zfile, bytes)));
        }
    }
    let last = end.next_multiple_of(SECTOR);
    for bytes in (last..=last.saturating_add(LSMT_TRAILER)).step_by(SECTOR as usize) {
        if bytes <= size && lsmt::probe(&first(bytes)?).is_ok() {
            return Ok(Some(Extent {
                bytes,
                original_size: None,
            }));
        }
    }
    Ok(None)
}

fn of_zfile(zfile: &ZFile, bytes: u64) -> Extent {
    Extent {
        bytes,
        original_size: Some(zfile.original_size),
    }
}

/// The end of the last byte that is not zero; [`None`] if it is too far from the end.
fn end_of_content(backing: &Backing) -> Result<Option<u64>, ReadError> {
    let size = backing.size();
    let mut end = size;
    let mut buf = vec![0; CHUNK as usize];
    while end > 0 && size - end <= MOST_PADDING {
        let len = CHUNK.min(end);
        let part = &mut buf[..len as usize];
        backing.read_exact_at(end - len, part)?;
        if let Some(at) = part.iter().rposition(|&byte| byte != 0) {
            return Ok(Some(end - len + at as u64 + 1));
        }
        end -= len;
    }
    Ok(None)
}
