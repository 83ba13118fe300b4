// SPDX-License-Identifier: GPL-2.0

//! The bytes behind a layer: reads that are whole or an error.
//!
//! A layer is reached through this source and not through a file, so that other sources can take
//! its place.

use crate::error::Fault;
use crate::format::ReadAt;
use crate::sys::file::{File, Identity, Way};
use crate::sys::job::Worker;
use crate::sys::pages::Pages;
use kernel::prelude::*;
use kernel::sync::Arc;

/// A layer's file, with the size it had when the device was attached.
pub(crate) struct Backing {
    file: Arc<File>,
    size: u64,
    /// Whether this is the size of what was written: not that of a whole device.
    exact: bool,
    /// What places and lengths of reads past the page cache must be multiples of; [`None`] when all
    /// reads go through it.
    direct: Option<u64>,
}

impl Backing {
    /// All of a file or block device; or its first `length` bytes, which are what was written: [`None`]
    /// if it has fewer.
    pub(crate) fn new(file: Arc<File>, length: Option<u64>) -> Option<Self> {
        let all = file.size();
        let size = length.unwrap_or(all);
        (size <= all).then_some(Self {
            size,
            exact: length.is_some() || file.is_regular(),
            direct: None,
            file,
        })
    }

    /// The same, but pages are read past the page cache where place and length allow that, if the file
    /// can be read so.
    pub(crate) fn direct(self) -> Self {
        let direct = self.file.direct_alignment().map(u64::from);
        Self { direct, ..self }
    }

    /// Whether pages are read past the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Reads `len` bytes from byte `offset` straight into pages, and moves those on.
    pub(crate) fn read_pages(
        &self,
        offset: u64,
        pages: &mut Pages<'_>,
        len: usize,
    ) -> Result<(), Fault> {
        if self.reads_directly(offset, len) {
            match pages
                .again()
                .read_from(&self.file, offset, len, Way::Direct)
            {
                Ok(done) => {
                    pages.advance(done);
                    return whole(offset, done, len);
                }
                // The reader's memory may lie in a way that the storage does not take.
                Err(errno) if errno == EINVAL => {}
                Err(errno) => return Err(Fault::Read { offset, errno }),
            }
        }
        let done = pages
            .read_from(&self.file, offset, len, Way::Cached)
            .map_err(|errno| Fault::Read { offset, errno })?;
        whole(offset, done, len)
    }

    /// Whether so many bytes from byte `offset` can be read past the page cache, and are.
    fn reads_directly(&self, offset: u64, len: usize) -> bool {
        self.direct.is_some_and(|align| {
            offset.checked_rem(align) == Some(0) && (len as u64).checked_rem(align) == Some(0)
        })
    }

    /// As [`Self::read_pages`], but the worker leaves rather than to wait for the page cache.
    pub(crate) fn start_pages(
        &self,
        offset: u64,
        pages: &mut Pages<'_>,
        len: usize,
        worker: &Worker<'_>,
    ) -> Result<(), Fault> {
        if self.reads_directly(offset, len) {
            return Err(Fault::WouldWait);
        }
        match pages.read_from(&self.file, offset, len, Way::Start(worker)) {
            Ok(done) if done == len => Ok(()),
            _ => Err(Fault::WouldWait),
        }
    }

    /// As [`ReadAt::read_exact_at`], but the worker leaves rather than to wait for the page cache.
    pub(crate) fn start(
        &self,
        offset: u64,
        buf: &mut [u8],
        worker: &Worker<'_>,
    ) -> Result<(), Fault> {
        match self.file.read(offset, buf, Way::Start(worker)) {
            Ok(done) if done == buf.len() => Ok(()),
            _ => Err(Fault::WouldWait),
        }
    }

    /// As [`Self::read_pages`], but only what the page cache has, and without waiting.
    pub(crate) fn read_pages_cached(
        &self,
        offset: u64,
        pages: &mut Pages<'_>,
        len: usize,
    ) -> Result<(), Fault> {
        // What is read past the page cache is not looked for there.
        if self.direct.is_none() && pages.copy_cached(&self.file, offset, len) {
            Ok(())
        } else {
            Err(Fault::WouldWait)
        }
    }

    /// As [`ReadAt::read_exact_at`], but only what the page cache has, and without waiting.
    pub(crate) fn read_cached(&self, offset: u64, buf: &mut [u8]) -> Result<(), Fault> {
        if self.file.read_cached(offset, buf) {
            Ok(())
        } else {
            Err(Fault::WouldWait)
        }
    }

    /// Which file this is, if it is one: a block device may change and still be the same.
    pub(crate) fn identity(&self) -> Result<Option<Identity>> {
        self.file
            .is_regular()
            .then(|| self.file.identity())
            .transpose()
    }

    /// Forgets what the page cache holds of a range, so that the next read asks the storage.
    pub(crate) fn forget(&self, offset: u64, len: usize) {
        self.file.drop_cache(offset, len as u64);
    }
}

impl ReadAt for Backing {
    type Error = Fault;

    fn size(&self) -> u64 {
        self.size
    }

    fn is_exact(&self) -> bool {
        self.exact
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let done = self
            .file
            .read(offset, buf, Way::Cached)
            .map_err(|errno| Fault::Read { offset, errno })?;
        whole(offset, done, buf.len())
    }
}

fn whole(offset: u64, done: usize, len: usize) -> Result<(), Fault> {
    if done < len {
        return Err(Fault::Short {
            offset: offset.saturating_add(done as u64),
        });
    }
    Ok(())
}
