// SPDX-License-Identifier: GPL-2.0

//! Reading files from inside the kernel.
//!
//! Mainline's `kernel::fs::File` can neither open nor read. C header: `include/linux/fs.h`.

use super::generated;
use super::job::Worker;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::fmt;
use kernel::prelude::*;

/// Which file a file is, in the words of `stat()`: equal for all names of one file, in any mount
/// namespace, as long as the file is not changed.
///
/// Shown as `<major>:<minor> <inode> <bytes> <mtime> <ctime>`, times as seconds, a dot and nine digits.
/// Anything but a regular file is shown without its times: those of a device's node are udev's, which
/// touches it whenever it likes.
#[derive(PartialEq, Eq)]
pub(crate) struct Identity {
    dev: bindings::dev_t,
    ino: u64,
    size: i64,
    /// When contents and attributes last changed: seconds and nanoseconds.
    changed: [(i64, u32); 2],
    regular: bool,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = (self.dev >> MINOR_BITS, self.dev & ((1 << MINOR_BITS) - 1));
        write!(f, "{major}:{minor} {} {}", self.ino, self.size)?;
        if self.regular {
            for (seconds, nanoseconds) in self.changed {
                write!(f, " {seconds}.{nanoseconds:09}")?;
            }
        }
        Ok(())
    }
}

/// Bits of a device number that are its minor: `MINORBITS`.
const MINOR_BITS: u32 = 20;

/// How a file is read.
#[derive(Clone, Copy)]
pub(crate) enum Way<'a> {
    /// Through the page cache. May sleep.
    Cached,
    /// Past the page cache. May sleep.
    Direct,
    /// Through the page cache, as far as it has the bytes; else reading them is started, and the worker
    /// leaves, to be called again.
    Start(&'a Worker<'a>),
}

/// An open file.
///
/// # Invariants
///
/// The pointer is to a file that this value holds a reference on and that is open for reading.
pub(crate) struct File(pub(super) NonNull<bindings::file>);

// SAFETY: A file may be read and released from any thread.
unsafe impl Send for File {}
// SAFETY: Positions are passed with each read; the file's own position is not used.
unsafe impl Sync for File {}

impl File {
    /// Whether this is a regular file.
    pub(crate) fn is_regular(&self) -> bool {
        // SAFETY: The file is open by the type invariant.
        let mode = u32::from(unsafe { generated::vbd_file_mode(self.0.as_ptr()) });
        mode & bindings::S_IFMT == bindings::S_IFREG
    }

    /// Size in bytes now; of a block device, its capacity.
    pub(crate) fn size(&self) -> u64 {
        // SAFETY: The file is open by the type invariant.
        let size = unsafe { generated::vbd_file_size(self.0.as_ptr()) };
        u64::try_from(size).unwrap_or(0)
    }

    /// Reads from byte `offset` into `buf`; returns the bytes read, fewer only at the end.
    ///
    /// As every read, it raises fanotify's pre-content events.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8], way: Way<'_>) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let rest = buf.get_mut(done..).unwrap_or_default();
            let memory = bindings::kvec {
                iov_base: rest.as_mut_ptr().cast(),
                iov_len: rest.len(),
            };
            let mut iter = bindings::iov_iter::default();
            // SAFETY: The memory is borrowed exclusively, and longer than the iterator lives.
            let len = unsafe {
                bindings::iov_iter_kvec(&mut iter, bindings::ITER_DEST, &memory, 1, rest.len());
                self.read_iter(&mut iter, offset.saturating_add(done as u64), way)
            }?;
            match len {
                0 => break,
                len => done += len,
            }
        }
        Ok(done)
    }

    /// Copies `len` bytes from byte `offset` to `to`, if the page cache has all of them; never sleeps.
    ///
    /// # Safety
    ///
    /// `to` is valid for writes of `len` bytes.
    pub(super) unsafe fn copy_cached(&self, offset: u64, to: *mut u8, len: usize) -> bool {
        let Ok(position) = position(offset, len).map(|_| offset as bindings::loff_t) else {
            return false;
        };
        // SAFETY: The file is open by the type invariant; `to` by this function's requirements.
        unsafe { generated::vbd_copy_cached(self.0.as_ptr(), position, to.cast(), len) }
    }

    /// Fills `buf` from byte `offset`, if the page cache has all of it; never sleeps.
    pub(crate) fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        // SAFETY: The slice is valid for writes of its length.
        unsafe { self.copy_cached(offset, buf.as_mut_ptr(), buf.len()) }
    }

    /// One read from byte `offset` into `iter`; returns the bytes read.
    ///
    /// `EINVAL` if place or memory do not fit a direct read; `EAGAIN` if the worker has left, or would have
    /// to wait in another way.
    ///
    /// # Safety
    ///
    /// `iter` is an initialised iterator over memory that is valid for writes.
    pub(super) unsafe fn read_iter(
        &self,
        iter: &mut bindings::iov_iter,
        offset: u64,
        way: Way<'_>,
    ) -> Result<usize> {
        let position = position(offset, 0)?;
        let direct = match way {
            Way::Start(worker) => {
                return worker.leave(|wait| {
                    // SAFETY: As below; the worker lends what is woken, and will not touch it after this
                    // has said so.
                    unsafe {
                        generated::vbd_read_start(self.0.as_ptr(), position, iter, wait.as_ptr())
                    }
                });
            }
            Way::Direct => true,
            Way::Cached => false,
        };
        // SAFETY: The file is open by the type invariant; the iterator by this function's
        // requirements.
        length(unsafe { generated::vbd_read(self.0.as_ptr(), position, iter, direct) })
    }

    /// What places and lengths of reads past the page cache must be multiples of, in bytes; [`None`]
    /// if there are no such reads, or if the file system does not say.
    pub(crate) fn direct_alignment(&self) -> Option<u32> {
        // SAFETY: The file is open by the type invariant.
        let able = unsafe { generated::vbd_file_can_direct(self.0.as_ptr()) };
        let stat = self.stat(bindings::STATX_DIOALIGN).ok().filter(|_| able)?;
        let said = stat.result_mask & bindings::STATX_DIOALIGN != 0;
        Some(stat.dio_offset_align).filter(|&align| said && align != 0)
    }

    fn stat(&self, wanted: u32) -> Result<bindings::kstat> {
        let mut stat: bindings::kstat = pin_init::zeroed();
        // SAFETY: The file is open by the type invariant, so its path is that of a file.
        to_result(unsafe {
            let path = &raw const (*self.0.as_ptr()).__bindgen_anon_1.f_path;
            bindings::vfs_getattr(path, &mut stat, wanted, 0)
        })?;
        Ok(stat)
    }

    /// Drops clean cached pages of bytes `offset..offset + len`, so that a re-read asks the storage.
    /// May sleep.
    ///
    /// Not as `fadvise()` does it, which has every CPU of the machine empty its lists of pages that were
    /// read just now.
    pub(crate) fn drop_cache(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let (Ok(start), Ok(_)) = (position(offset, 0), position(end, 0)) else {
            return;
        };
        if len != 0 {
            // SAFETY: The file is open by the type invariant; the range is neither empty nor negative.
            unsafe { generated::vbd_forget(self.0.as_ptr(), start, len as bindings::loff_t) };
        }
    }

    /// Which file this is.
    pub(crate) fn identity(&self) -> Result<Identity> {
        let stat = self.stat(bindings::STATX_BASIC_STATS)?;
        Ok(Identity {
            dev: stat.dev,
            ino: stat.ino,
            size: stat.size,
            changed: [stat.mtime, stat.ctime].map(|time| (time.tv_sec, time.tv_nsec as u32)),
            regular: self.is_regular(),
        })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: The reference is this value's by the type invariant, and this is its end.
        unsafe { bindings::fput(self.0.as_ptr()) };
    }
}

/// A file position, which is signed; beyond its range no file can be read.
fn position(offset: u64, done: usize) -> Result<bindings::loff_t> {
    offset
        .checked_add(done as u64)
        .and_then(|at| bindings::loff_t::try_from(at).ok())
        .ok_or(EINVAL)
}

/// Splits what a read returns into a length and an error.
pub(super) fn length(len: isize) -> Result<usize> {
    usize::try_from(len).map_err(|_| Error::from_errno(len as i32))
}
