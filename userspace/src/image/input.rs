// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Files to read from, all opened in this one place.

use crate::error::{Error, Result};
use rustix::fs::OFlags;
use std::fs::{File, FileType, OpenOptions};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Opens the regular file or block device `path`; anything else is refused, and none is waited for.
///
/// `-` is refused: standard input cannot be read at any place.
pub fn open(path: &Path) -> Result<File> {
    if path.as_os_str() == "-" {
        let reason = "standard input cannot be read here; ./- is a file of that name";
        return Err(Error::unfit(path, reason));
    }
    let failed = || Error::io(path, "cannot open");
    // Opening something else may do something to it.
    check(path, path.metadata().map_err(failed())?.file_type())?;
    let file = OpenOptions::new()
        .read(true)
        // Another file may have come in its place, which nobody writes to.
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(failed())?;
    check(path, file.metadata().map_err(failed())?.file_type())?;
    rustix::fs::fcntl_setfl(&file, OFlags::empty()).map_err(|error| failed()(error.into()))?;
    Ok(file)
}

fn check(path: &Path, kind: FileType) -> Result<()> {
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    let name = if kind.is_dir() {
        "is a directory"
    } else if kind.is_fifo() {
        "is a FIFO"
    } else if kind.is_socket() {
        "is a socket"
    } else {
        "is a character device"
    };
    let reason = format!("{name}, and no regular file or block device");
    Err(Error::unfit(path, reason))
}
