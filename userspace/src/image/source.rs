// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A raw disk image to read from: a file, sparse or not, or a block device.

use super::backing::size_of;
use super::input;
use crate::error::{Error, Result};
use rustix::fs::{seek, SeekFrom};
use rustix::io::Errno;
use std::cell::Cell;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// An open raw image.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    size: u64,
    /// Whether the file system tells data and holes apart.
    maps: Cell<bool>,
    /// The data range found last: searching goes upwards, in small steps.
    found: Cell<(u64, u64)>,
}

impl Source {
    /// Opens the regular file or block device `path`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_file(path, input::open(path)?)
    }

    /// Takes an open file; `path` is for messages.
    pub fn from_file(path: &Path, file: File) -> Result<Self> {
        let size = size_of(&file, path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            maps: Cell::new(true),
            found: Cell::new((0, 0)),
        })
    }

    /// The image that the first `size` bytes are; `size` is no more than the file has.
    pub(super) fn first(self, size: u64) -> Self {
        Self { size, ..self }
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes of the image.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The image's path, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first range of bytes at or after `at` that may hold something else than zeroes.
    pub fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        if at >= self.size {
            return Ok(None);
        }
        let (start, end) = self.found.get();
        if (start..end).contains(&at) {
            return Ok(Some(at..end));
        }
        if !self.maps.get() {
            return Ok(Some(at..self.size));
        }
        let failed = |e: Errno| Error::transfer(&self.path, at, "cannot look for data")(e.into());
        let start = match seek(&self.file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.maps.set(false);
                return Ok(Some(at..self.size));
            }
            Err(error) => return Err(failed(error)),
        };
        let end = seek(&self.file, SeekFrom::Hole(start)).map_err(failed)?;
        // A file that grows meanwhile is read up to the size it had.
        let (start, end) = (start.min(self.size), end.min(self.size));
        self.found.set((start, end));
        Ok((start < end).then_some(start..end))
    }

    /// A reader; unlike the image itself it can go to another thread.
    pub fn reader(&self) -> SourceReader<'_> {
        SourceReader {
            path: &self.path,
            file: &self.file,
            size: self.size,
        }
    }

    /// Fills `buf` from byte `offset`; what lies past the end of the image is zero.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.reader().read(offset, buf)
    }
}

/// Reads an image.
#[derive(Clone, Copy, Debug)]
pub struct SourceReader<'a> {
    path: &'a Path,
    file: &'a File,
    size: u64,
}

impl SourceReader<'_> {
    /// Fills `buf` from byte `offset`; what lies past the end of the image is zero.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let inside = self.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (image, past) = buf.split_at_mut(inside);
        self.file
            .read_exact_at(image, offset)
            .map_err(Error::transfer(self.path, offset, "cannot read"))?;
        past.fill(0);
        Ok(())
    }
}
