// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! How many bytes of a file or block device are a layer, or a ZFile, if the rest is padding.

use super::backing::Backing;
use super::codec::Crc;
use crate::error::{Error, ReadError, Result};
use std::path::Path;
use vbd_format::lsmt;
use vbd_format::tar::{self, Wrapper};
use vbd_format::zfile::{self, ZFile};
use vbd_format::{ReadAt, Rule};

/// Zeroes after the content that are looked through, in bytes.
const MOST_PADDING: u64 = 64 << 20;

/// Bytes that are looked at in one go.
const CHUNK: u64 = 64 * 1024;

/// What the members of a tar archive are padded to, in bytes.
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
            return Ok(Some(of_zfile(&zfile, zfile.end)));
        }
        Ok(_) | Err(ReadError::Format(_)) => {}
        Err(error) => return Err(error),
    }
    // The trailers of both begin with a magic and end with zeroes, of which padding may be more.
    let Some(end) = end_of_content(backing)? else {
        return Ok(None);
    };
    match zfile::probe(&Guess::new(backing, end, zfile::HEADER_BYTES), &Crc) {
        Ok(Some(zfile)) => return Ok(Some(of_zfile(&zfile, zfile.end))),
        Err(ReadError::Format(error)) if error.rule != Rule::ZFileTrailerUntied => {}
        Err(error) => return Err(error),
        Ok(None) => {}
    }
    match lsmt::probe(&Guess::new(backing, end, lsmt::HEADER_BYTES)) {
        Ok(lsmt) => Ok(Some(Extent {
            bytes: lsmt.end,
            original_size: None,
        })),
        // There is a trailer, and it may be another layer's.
        Err(ReadError::Format(error))
            if !matches!(error.rule, Rule::LsmtTrailerUuid | Rule::LsmtTrailerUntied) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The front of a file or device up to where its content may end.
struct Guess<'a> {
    backing: &'a Backing,
    size: u64,
}

impl<'a> Guess<'a> {
    /// Holds a trailer of `trailer` bytes whose last byte that is not zero is that before byte `end`,
    /// and then little enough for padding.
    fn new(backing: &'a Backing, end: u64, trailer: u64) -> Self {
        let size = end.saturating_add(trailer - 1).min(backing.size());
        Self { backing, size }
    }
}

impl ReadAt for Guess<'_> {
    type Error = ReadError;

    fn size(&self) -> u64 {
        self.size
    }

    fn is_exact(&self) -> bool {
        self.backing.is_exact()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.backing.read_exact_at(offset, buf)
    }
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
