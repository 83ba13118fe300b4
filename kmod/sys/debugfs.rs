// SPDX-License-Identifier: GPL-2.0

//! Files in debugfs that show text.
//!
//! Mainline's `kernel::debugfs` gives its files no owner: one that somebody has open does not pin the
//! module, whose code closes it. C headers: `include/linux/debugfs.h`, `include/linux/seq_file.h`.

use kernel::bindings;
use kernel::ffi::{c_int, c_void};
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;

/// What a file shows.
pub(crate) trait Show: Send + Sync + 'static {
    /// Writes all of it.
    fn show(&self, out: &mut Text<'_>) -> fmt::Result;
}

/// The text that a file is shown as.
pub(crate) struct Text<'a>(&'a mut bindings::seq_file);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: The file is being shown, and the text has as many bytes as said. What does not fit
        // is written again into a larger buffer by whoever asked.
        unsafe { bindings::seq_write(self.0, text.as_ptr().cast(), text.len()) };
        Ok(())
    }
}

/// A directory, there until this is dropped and with it all that is in it. Nobody has to care when
/// debugfs has no room for it.
///
/// # Invariants
///
/// The pointer is null, an error, or a directory that is removed only by `drop`.
pub(crate) struct Dir(*mut bindings::dentry);

// SAFETY: Entries may be removed from any thread.
unsafe impl Send for Dir {}
// SAFETY: debugfs serialises what is done in a directory.
unsafe impl Sync for Dir {}

impl Dir {
    /// A directory at the top of debugfs.
    pub(crate) fn new(name: &CStr) -> Result<Arc<Self>> {
        // SAFETY: The top is a directory.
        let dir = unsafe { Self::below(core::ptr::null_mut(), name) };
        Ok(Arc::new(dir, GFP_KERNEL)?)
    }

    /// # Safety
    ///
    /// `parent` is null, an error, or a directory that outlives the result.
    unsafe fn below(parent: *mut bindings::dentry, name: &CStr) -> Self {
        // INVARIANT: Made here, or an error.
        #[cfg(CONFIG_DEBUG_FS)]
        // SAFETY: By this function's requirements; the name is NUL-terminated and copied.
        return Self(unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), parent) });
        #[cfg(not(CONFIG_DEBUG_FS))]
        {
            let _ = (parent, name);
            Self(core::ptr::null_mut())
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        #[cfg(CONFIG_DEBUG_FS)]
        // SAFETY: By the type invariant this is the directory's end; waits for files in it that are
        // being read, and has later reads fail.
        unsafe {
            bindings::debugfs_remove(self.0);
        }
    }
}

/// A file in a directory of its own, there until this is dropped.
pub(crate) struct File<T: Show> {
    // Dropped in this order: the file goes with its directory, then what it shows and what it is in.
    _dir: Dir,
    _data: Arc<T>,
    _parent: Arc<Dir>,
}

impl<T: Show> File<T> {
    /// Makes `<parent>/<directory>/<name>`, for its owner to read. Should there be no memory for it,
    /// it is not there.
    pub(crate) fn new(parent: Arc<Dir>, directory: &CStr, name: &CStr, data: Arc<T>) -> Self {
        // SAFETY: The parent is kept until after the directory.
        let dir = unsafe { Dir::below(parent.0, directory) };
        #[cfg(CONFIG_DEBUG_FS)]
        // SAFETY: The directory is there or an error, and the data outlive it: whoever reads the file
        // when it is removed is waited for, and later reads do not get to it.
        unsafe {
            bindings::debugfs_create_file_full(
                name.as_char_ptr(),
                0o400,
                dir.0,
                core::ptr::from_ref(&*data).cast_mut().cast(),
                core::ptr::null(),
                &Self::OPS,
            );
        }
        #[cfg(not(CONFIG_DEBUG_FS))]
        let _ = (name, &Self::OPS);
        Self {
            _dir: dir,
            _data: data,
            _parent: parent,
        }
    }

    const OPS: bindings::file_operations = bindings::file_operations {
        // An open file pins the module, or the code that closes it could go before.
        owner: (&raw const bindings::__this_module).cast_mut(),
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by debugfs with a file that `new` has made and that is not removed meanwhile.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: By this function's requirements; `show` is given the data of `new`.
        unsafe { bindings::single_open(file, Some(Self::show), (*inode).i_private) }
    }

    /// # Safety
    ///
    /// Called by debugfs, as `open` has said, with a file that is not removed meanwhile.
    unsafe extern "C" fn show(seq: *mut bindings::seq_file, _: *mut c_void) -> c_int {
        // SAFETY: By this function's requirements the data are those of `new`, and still there; nobody
        // else writes to the file's buffer.
        let (data, seq) = unsafe { (&*(*seq).private.cast::<T>(), &mut *seq) };
        match data.show(&mut Text(seq)) {
            Ok(()) => 0,
            Err(fmt::Error) => EIO.to_errno(),
        }
    }
}
