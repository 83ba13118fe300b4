// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A file that appears under its name only when it is complete.
//!
//! The bytes go to an unnamed file (`O_TMPFILE`) in the directory of the result, so a signal, a crash
//! or an error leaves nothing behind. File systems that have no unnamed files get a hidden name,
//! which is removed unless the result is complete.

use crate::error::{Error, Result};
use rustix::fs::{AtFlags, Mode, OFlags, CWD};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 * 1024;

/// Takes bytes one after the other.
pub trait Sink {
    /// Appends `bytes`.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Bytes appended so far.
    fn position(&self) -> u64;
}

/// A result file that is being written.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: File,
    /// The hidden name, where the file has one.
    hidden: Option<PathBuf>,
    force: bool,
    buffer: Vec<u8>,
    /// Bytes that are in the file already.
    written: u64,
}

impl Output {
    /// Starts the file `path`; an existing one is refused unless `force` is set, and then replaced
    /// by [`Self::commit`].
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => return Err(Error::unfit(path, "is a directory")),
            Ok(found) if !found.is_file() => {
                return Err(Error::unfit(path, "exists and is no regular file"))
            }
            Ok(_) if !force => return Err(exists(path)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(path, "cannot create")(error))
            }
            _ => {}
        }
        if path.file_name().is_none() {
            return Err(Error::unfit(path, "is no file name"));
        }
        let (file, hidden) = open_unnamed(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            hidden,
            force,
            buffer: Vec::with_capacity(BUFFER),
            written: 0,
        })
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn flush(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.buffer);
        self.put(&bytes)?;
        self.buffer = bytes;
        self.buffer.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::transfer(
            &self.path,
            self.written,
            "cannot write",
        ))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Writes `bytes` over what stands at byte `offset`.
    pub fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.flush()?;
        self.file
            .write_all_at(bytes, offset)
            .map_err(Error::transfer(&self.path, offset, "cannot write"))
    }

    /// Makes the file durable and gives it its name.
    pub fn commit(mut self) -> Result<()> {
        self.flush()?;
        self.file
            .sync_all()
            .map_err(Error::io(&self.path, "cannot sync"))?;
        let named = match self.hidden.clone() {
            Some(hidden) => publish(&hidden, &self.path, self.force),
            None => self.link(),
        };
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(&self.path),
            _ => Error::io(&self.path, "cannot create")(error),
        })?;
        self.hidden = None;
        let home = directory(&self.path);
        File::open(home)
            .and_then(|dir| dir.sync_all())
            .map_err(Error::io(home, "cannot sync"))
    }

    /// Gives the unnamed file its name.
    fn link(&mut self) -> io::Result<()> {
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let link = |to: &Path| {
            rustix::fs::linkat(CWD, unnamed.as_str(), CWD, to, AtFlags::SYMLINK_FOLLOW)
                .map_err(io::Error::from)
        };
        match link(&self.path) {
            Err(error) if self.force && error.kind() == io::ErrorKind::AlreadyExists => {
                // A link cannot replace a file, a rename can.
                let ((), hidden) = with_hidden_name(&self.path, link)?;
                self.hidden = Some(hidden.clone());
                publish(&hidden, &self.path, true)
            }
            result => result,
        }
    }
}

impl Sink for Output {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            return self.put(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // Nothing more can be done about a name that does not go away.
            let _ = fs::remove_file(hidden);
        }
    }
}

fn exists(path: &Path) -> Error {
    Error::unfit(path, "exists; --force replaces it")
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(home) if !home.as_os_str().is_empty() => home,
        _ => Path::new("."),
    }
}

/// A hidden name beside `path`; `attempt` makes it another one.
fn hidden_name(path: &Path, attempt: u32) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{attempt}.partial", std::process::id()));
    path.with_file_name(name)
}

/// Tries hidden names until `make` finds one that does not exist yet.
fn with_hidden_name<T>(
    path: &Path,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<(T, PathBuf)> {
    let mut attempt = 0;
    loop {
        let hidden = hidden_name(path, attempt);
        match make(&hidden) {
            // Left over from a run that was killed, or another run in another namespace.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {
                attempt += 1;
            }
            result => return Ok((result?, hidden)),
        }
    }
}

/// An unnamed file in the directory of `path`, or one with a hidden name, and that name.
pub(super) fn open_unnamed(path: &Path) -> Result<(File, Option<PathBuf>)> {
    let mode = Mode::from_raw_mode(0o666);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory(path), flags | OFlags::TMPFILE, mode) {
        Ok(fd) => Ok((fd.into(), None)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {
            let flags = flags | OFlags::CREATE | OFlags::EXCL;
            with_hidden_name(path, |name| Ok(rustix::fs::open(name, flags, mode)?))
                .map(|(fd, hidden)| (fd.into(), Some(hidden)))
                .map_err(Error::io(path, "cannot create"))
        }
        Err(error) => Err(Error::io(path, "cannot create")(error.into())),
    }
}

/// Moves `hidden` to `path`, over an existing file only with `force`.
fn publish(hidden: &Path, path: &Path, force: bool) -> io::Result<()> {
    if force {
        return fs::rename(hidden, path);
    }
    // A hard link fails where a rename would replace.
    fs::hard_link(hidden, path)?;
    fs::remove_file(hidden)
}
