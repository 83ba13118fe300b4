// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A file that appears under its name only when it is complete.
//!
//! The bytes go to an unnamed file (`O_TMPFILE`) in the directory of the result, so a signal, a crash
//! or an error leaves nothing behind. File systems without unnamed files get a hidden name instead,
//! which is removed when the work fails or a signal asks to stop.

mod signals;

use crate::error::{Error, Result};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, CWD};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 * 1024;

/// Bytes that are written without being gathered.
const DIRECT: usize = 32 * 1024;

const FLAGS: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC);
const MODE: Mode = Mode::from_raw_mode(0o666);

/// Takes bytes one after the other.
pub trait Sink {
    /// Appends `bytes`.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Bytes appended so far.
    fn position(&self) -> u64;

    /// Writes `bytes` over what was appended at byte `offset`, if that can still be done: what has been
    /// compressed stays.
    fn amend(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;
}

/// What tests write to.
#[cfg(test)]
impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn position(&self) -> u64 {
        self.len() as u64
    }

    fn amend(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
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
        Ok(Self::new(path, force, open_unnamed(path)?))
    }

    fn new(path: &Path, force: bool, (file, hidden): (File, Option<PathBuf>)) -> Self {
        Self {
            path: path.to_owned(),
            file,
            hidden,
            force,
            buffer: Vec::with_capacity(BUFFER),
            written: 0,
        }
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
        if self.hidden.is_some() && signals::arrived() {
            return Err(Error::unfit(&self.path, "interrupted"));
        }
        self.file.write_all(bytes).map_err(Error::transfer(
            &self.path,
            self.written,
            "cannot write",
        ))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file `size` bytes long, all holes; what it holds is then written by
    /// [`Self::write_at`].
    pub fn set_len(&mut self, size: u64) -> Result<()> {
        self.written = size;
        self.file
            .set_len(size)
            .map_err(Error::io(&self.path, "cannot set the size"))
    }

    /// Writes `bytes` at byte `offset`; several threads may do so at a time.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if self.hidden.is_some() && signals::arrived() {
            return Err(Error::unfit(&self.path, "interrupted"));
        }
        self.file
            .write_all_at(bytes, offset)
            .map_err(Error::transfer(&self.path, offset, "cannot write"))
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
        match link_unnamed(&self.file, &self.path) {
            Err(error) if self.force && error.kind() == io::ErrorKind::AlreadyExists => {
                // A link cannot replace a file, a rename can.
                let ((), hidden) =
                    with_hidden_name(&self.path, |name| link_unnamed(&self.file, name))?;
                publish(self.hidden.insert(hidden), &self.path, true)
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
        if bytes.len() >= DIRECT {
            self.flush()?;
            return self.put(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn amend(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.overwrite(offset, bytes)
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
    match rustix::fs::open(directory(path), FLAGS | OFlags::TMPFILE, MODE) {
        Ok(fd) => Ok((fd.into(), None)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {
            let (file, hidden) = open_hidden(path)?;
            Ok((file, Some(hidden)))
        }
        Err(error) => Err(Error::io(path, "cannot create")(error.into())),
    }
}

/// A new file with a hidden name beside `path`, and that name.
fn open_hidden(path: &Path) -> Result<(File, PathBuf)> {
    // From here on a signal must not end the program before the name is gone.
    signals::watch().map_err(Error::io(path, "cannot watch for signals"))?;
    let flags = FLAGS | OFlags::CREATE | OFlags::EXCL;
    with_hidden_name(path, |name| Ok(rustix::fs::open(name, flags, MODE)?))
        .map(|(fd, hidden)| (fd.into(), hidden))
        .map_err(Error::io(path, "cannot create"))
}

/// Gives `file`, which has no name, the name `path`; fails if that exists.
fn link_unnamed(file: &File, path: &Path) -> io::Result<()> {
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

/// Moves `hidden` to `path`, over an existing file only with `force`.
fn publish(hidden: &Path, path: &Path, force: bool) -> io::Result<()> {
    if force {
        return fs::rename(hidden, path);
    }
    match rustix::fs::renameat_with(CWD, hidden, CWD, path, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            // A file system that cannot tell: a hard link fails where a rename would replace.
            fs::hard_link(hidden, path)?;
            fs::remove_file(hidden)
        }
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Make = fn(&Path, bool) -> Output;

    /// Both ways to write: without a name, and as on a file system that has no such files.
    const WAYS: [Make; 2] = [
        |path, force| Output::new(path, force, open_unnamed(path).unwrap()),
        |path, force| {
            let (file, hidden) = open_hidden(path).unwrap();
            Output::new(path, force, (file, Some(hidden)))
        },
    ];

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_complete() {
        for make in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("out");
            let mut out = make(&path, false);
            out.write(b"hello ").unwrap();
            out.write(&vec![b'x'; BUFFER]).unwrap();
            out.overwrite(0, b"H").unwrap();
            assert!(!path.exists());
            assert_eq!(out.position(), 6 + BUFFER as u64);
            out.commit().unwrap();
            assert_eq!(names(dir.path()), ["out"]);
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes.len(), 6 + BUFFER);
            assert_eq!(bytes[..8], *b"Hello xx");
        }
    }

    #[test]
    fn a_file_that_came_meanwhile_is_kept_unless_forced() {
        for make in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("out");
            let [mut gentle, mut forced] = [make(&path, false), make(&path, true)];
            fs::write(&path, "precious").unwrap();
            gentle.write(b"new").unwrap();
            let error = gentle.commit().unwrap_err().to_string();
            assert!(
                error.ends_with("out: exists; --force replaces it"),
                "{error}"
            );
            assert_eq!(fs::read(&path).unwrap(), b"precious");

            forced.write(b"new").unwrap();
            forced.commit().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(names(dir.path()), ["out"]);
        }
    }

    #[test]
    fn an_abandoned_file_leaves_nothing() {
        for make in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("out");
            let mut out = make(&path, false);
            out.write(b"half").unwrap();
            drop(out);
            assert!(names(dir.path()).is_empty());
        }
    }
}
