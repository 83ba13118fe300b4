// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The file that a layer lies in.

use super::input;
use crate::error::{Error, ReadError, Result};
use rustix::fs::{seek, SeekFrom};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use vbd_format::ReadAt;

/// An open layer file or block device, with the size it had when it was opened.
#[derive(Debug)]
pub struct Backing {
    file: File,
    size: u64,
    /// Whether this is the size of what was written: not that of a whole device.
    exact: bool,
}

impl Backing {
    /// Opens `path` for reading; it must be a regular file or a block device.
    pub fn open(path: &Path) -> Result<Self> {
        let file = input::open(path)?;
        let size = size_of(&file, path)?;
        let exact = file
            .metadata()
            .map_err(Error::io(path, "cannot stat"))?
            .is_file();
        Ok(Self { file, size, exact })
    }

    /// Device and inode, which tell files apart; [`None`] if the system does not say.
    pub fn identity(&self) -> Option<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.file).ok()?;
        Some((stat.st_dev, stat.st_ino))
    }

    /// The first `size` bytes of `path`, which must have as many.
    pub fn open_first(path: &Path, size: u64) -> Result<Self> {
        let whole = Self::open(path)?;
        if size > whole.size {
            let reason = format!("has {} bytes, fewer than {size}", whole.size);
            return Err(Error::unfit(path, reason));
        }
        Ok(Self {
            size,
            exact: true,
            ..whole
        })
    }
}

impl ReadAt for Backing {
    type Error = ReadError;

    fn size(&self) -> u64 {
        self.size
    }

    fn is_exact(&self) -> bool {
        self.exact
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|error| ReadError::Io(offset, error))
    }
}

/// Size in bytes of an open regular file or block device.
pub(crate) fn size_of(file: &File, path: &Path) -> Result<u64> {
    let found = file.metadata().map_err(Error::io(path, "cannot stat"))?;
    if found.is_file() {
        return Ok(found.len());
    }
    // A device's size is where its end is.
    seek(file, SeekFrom::End(0)).map_err(|e| Error::io(path, "cannot tell the size")(e.into()))
}
