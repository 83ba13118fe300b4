// SPDX-License-Identifier: GPL-2.0

//! Opening files for use inside the kernel.
//!
//! C header: `include/linux/fs.h`.

use super::file::File;
use super::generated;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::prelude::*;
use kernel::str::CStr;

/// What `statfs()` says of configfs; fs/configfs/mount.c keeps its name for itself.
const CONFIGFS_MAGIC: kernel::ffi::c_ulong = 0x6265_6570;

impl File {
    /// Opens `path` for reading, in the mount namespace and with the credentials of the caller.
    ///
    /// Regular files and block devices only: `EISDIR` for a directory, `EINVAL` for the rest, which
    /// the attributes of configfs count among.
    pub(crate) fn open(path: &CStr) -> Result<Self> {
        // Already opening an attribute takes the lock that configfs holds for whoever writes to one, and
        // a directory that is being removed would come between the two. Should the name change its
        // meaning after this, the open file is checked again.
        // SAFETY: The path is NUL-terminated.
        if unsafe { generated::vbd_path_magic(path.as_char_ptr()) } == CONFIGFS_MAGIC {
            return Err(EINVAL);
        }
        // O_NONBLOCK: opening a FIFO must not wait for its writer.
        let flags = bindings::O_RDONLY | bindings::O_LARGEFILE | bindings::O_NONBLOCK;
        // SAFETY: The path is NUL-terminated.
        let file = unsafe { bindings::filp_open(path.as_char_ptr(), flags as i32, 0) };
        let file = NonNull::new(from_err_ptr(file)?).ok_or(EINVAL)?;
        // INVARIANT: Just opened for reading; the reference is now this value's.
        Self(file).checked()
    }

    /// The file behind descriptor `fd` of the current process.
    ///
    /// `EBADF` if there is none that can be read; otherwise as [`Self::open`]. What else it was opened
    /// for, such as direct I/O, does not matter: each read says itself how it is done.
    pub(crate) fn from_fd(fd: u32) -> Result<Self> {
        // SAFETY: Takes a number, and a reference on what it finds.
        let file = NonNull::new(unsafe { bindings::fget(fd) }).ok_or(EBADF)?;
        // INVARIANT: The reference is this value's; whether it can be read is checked next, and the
        // value is dropped if not.
        let file = Self(file);
        // SAFETY: The file is open, and how it may be used does not change.
        let mode = unsafe { (*file.0.as_ptr()).f_mode };
        if mode & generated::VBD_FMODE_READ == 0 {
            return Err(EBADF);
        }
        file.checked()
    }

    /// Passes regular files and block devices.
    fn checked(self) -> Result<Self> {
        let file = self;
        // SAFETY: The file is open by the type invariant.
        let mode = u32::from(unsafe { generated::vbd_file_mode(file.0.as_ptr()) });
        match mode & bindings::S_IFMT {
            // Reading an attribute takes locks that are held for whoever attaches through another.
            bindings::S_IFREG if file.is_configfs() => Err(EINVAL),
            bindings::S_IFREG | bindings::S_IFBLK => Ok(file),
            bindings::S_IFDIR => Err(EISDIR),
            _ => Err(EINVAL),
        }
    }

    fn is_configfs(&self) -> bool {
        // SAFETY: The file is open by the type invariant, so it has an inode of a file system.
        let magic = unsafe { (*(*(*self.0.as_ptr()).f_inode).i_sb).s_magic };
        magic == CONFIGFS_MAGIC
    }

    /// The file's path, as the caller would have to write it; ` (deleted)` at its end if it has none
    /// any more.
    pub(crate) fn path(&self) -> Result<KVec<u8>> {
        let mut page = KVec::from_elem(0_u8, bindings::PAGE_SIZE, GFP_KERNEL)?;
        // SAFETY: The file is open by the type invariant, and the buffer has as many bytes as said.
        let text = from_err_ptr(unsafe {
            bindings::file_path(self.0.as_ptr(), page.as_mut_ptr().cast(), page.len() as i32)
        })?;
        // SAFETY: NUL-terminated text, somewhere in the page.
        let text = unsafe { CStr::from_char_ptr(text) }.to_bytes();
        let mut path = KVec::with_capacity(text.len(), GFP_KERNEL)?;
        path.extend_from_slice(text, GFP_KERNEL)?;
        Ok(path)
    }
}
