// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Files without a name or with a hidden one, and how they get their own in the end.

use super::leftovers::{outlive_size_limit, Unfinished};
use crate::error::{Error, Result};
use rustix::fs::{renameat_with, statfs, AtFlags, Mode, OFlags, RenameFlags, CWD};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const FLAGS: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC);

/// Permissions of a new file, less the umask, and of one that is not complete.
pub(super) const MODE: u32 = 0o666;
const PRIVATE: u32 = 0o600;

/// File systems that a program or another machine serves (FUSE, CIFS, SMB 2): an unnamed file may
/// turn out there to be one that can have no name.
const SERVED: [u32; 3] = [0x6573_5546, 0xff53_4d42, 0xfe53_4d42];

pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(home) if !home.as_os_str().is_empty() => home,
        _ => Path::new("."),
    }
}

/// A hidden name beside `path`; `attempt` makes it another one. It is short: what can be the name of
/// a file may be too long with an addition.
fn hidden_name(path: &Path, attempt: u32) -> PathBuf {
    let process = std::process::id();
    directory(path).join(format!(".vbdctl-{process}-{attempt}.partial"))
}

/// Tries hidden names until `make` finds one that does not exist yet.
pub(super) fn with_hidden_name<T>(
    path: &Path,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<(T, Unfinished)> {
    let mut attempt = 0;
    loop {
        match Unfinished::make(hidden_name(path, attempt), &mut make) {
            // Left over from a run that was killed, or another run in another namespace.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// An unnamed file in the directory of `path`, or one with a hidden name, and that name.
pub(in crate::image) fn open_unnamed(path: &Path) -> Result<(File, Option<Unfinished>)> {
    outlive_size_limit();
    let home = directory(path);
    let served = statfs(home).is_ok_and(|found| SERVED.contains(&(found.f_type as u32)));
    if !served {
        let mode = Mode::from_raw_mode(MODE);
        // Whatever is wrong, the other way says it if it has to do with the directory.
        if let Ok(file) = rustix::fs::open(home, FLAGS | OFlags::TMPFILE, mode) {
            return Ok((file.into(), None));
        }
    }
    let (file, hidden) = open_hidden(path).map_err(Error::io(path, "cannot create"))?;
    Ok((file, Some(hidden)))
}

/// A new file with a hidden name beside `path`, and that name. It has had another one before: what a
/// file system cannot do in the end it cannot do now.
pub(super) fn open_hidden(path: &Path) -> io::Result<(File, Unfinished)> {
    let flags = FLAGS | OFlags::CREATE | OFlags::EXCL;
    let mode = Mode::from_raw_mode(PRIVATE);
    let (file, first) = with_hidden_name(path, |name| Ok(rustix::fs::open(name, flags, mode)?))?;
    let ((), hidden) = with_hidden_name(path, |name| publish(first.path(), name, false))?;
    Ok((file.into(), hidden))
}

/// The bits that new files do not get; all but the user's own if the system does not say.
pub(super) fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok())
        .unwrap_or(0o077)
}

/// Whether the system says that a file, or the file system, is not made for what was tried.
pub(super) fn is_not_for_here(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)
    )
}

/// Makes names in the directory `home` durable, as far as it allows that.
pub(super) fn sync_directory(home: &Path) -> io::Result<()> {
    let opened = match File::open(home) {
        // Writable and not readable, as a place to drop things at.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        opened => opened?,
    };
    match opened.sync_all() {
        Err(error) if is_not_for_here(&error) => Ok(()),
        result => result,
    }
}

/// Gives `file`, which has no name, the name `path`; fails if that exists.
pub(super) fn link_unnamed(file: &File, path: &Path) -> io::Result<()> {
    // The first way needs a privilege on older kernels, the second one a mounted /proc.
    match rustix::fs::linkat(file, "", CWD, path, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {
            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, link, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
            Ok(())
        }
        result => Ok(result?),
    }
}

/// Moves `hidden` to `path`, over an existing file only with `force`; the hidden name is the caller's
/// to remove, if it is still there.
pub(super) fn publish(hidden: &Path, path: &Path, force: bool) -> io::Result<()> {
    if force {
        return fs::rename(hidden, path);
    }
    // In the order of what they promise. A file system that cannot do one has all kinds of answers.
    let ways: [fn(&Path, &Path) -> io::Result<()>; 3] = [
        |hidden, path| {
            Ok(renameat_with(
                CWD,
                hidden,
                CWD,
                path,
                RenameFlags::NOREPLACE,
            )?)
        },
        |hidden, path| fs::hard_link(hidden, path),
        rename_to_new,
    ];
    let mut result = Ok(());
    for way in ways {
        result = way(hidden, path);
        match &result {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {}
            _ => break,
        }
    }
    result
}

/// Renames where neither a rename nor a link fails if `path` exists: an empty file, which only one can
/// make, holds the place for a moment.
fn rename_to_new(hidden: &Path, path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(path)?;
    fs::rename(hidden, path).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_that_knows_no_flags_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("new"), "new").unwrap();
        fs::write(at("old"), "precious").unwrap();
        let error = rename_to_new(&at("new"), &at("old")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(at("old")).unwrap(), b"precious");
        rename_to_new(&at("new"), &at("out")).unwrap();
        assert_eq!(fs::read(at("out")).unwrap(), b"new");
        rename_to_new(&at("missing"), &at("other")).unwrap_err();
        let names = fs::read_dir(dir.path()).unwrap();
        assert_eq!(names.count(), 2);
    }
}
