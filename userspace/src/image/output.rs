// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A file that appears under its name only when it is complete.
//!
//! The bytes go to an unnamed file (`O_TMPFILE`) in the directory of the result, so a signal, a crash
//! or an error leaves nothing behind. File systems without unnamed files get a hidden name instead,
//! for the user alone, which is removed when the work fails or a signal asks to stop. Whether such a
//! file can have its name in the end is tried before the work begins.

mod leftovers;
mod naming;

pub(super) use self::leftovers::{Bound, Unfinished};
pub(super) use self::naming::open_unnamed;

use self::naming::{
    directory, is_not_for_here, link_unnamed, publish, sync_directory, umask, with_hidden_name,
    MODE,
};
use crate::error::{Error, Result};
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{fchown, FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 * 1024;

/// Bytes that are written without being gathered.
const DIRECT: usize = 32 * 1024;

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

/// Who owns a file, and who may do what with it.
#[derive(Clone, Copy, Debug)]
struct Access {
    owner: u32,
    group: u32,
    mode: u32,
}

/// A result file that is being written.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: File,
    /// The hidden name, where the file has one.
    hidden: Option<Unfinished>,
    force: bool,
    /// What is said of the file that is to be replaced.
    old: Option<Access>,
    buffer: Vec<u8>,
    /// Bytes that are in the file already.
    written: u64,
}

impl Output {
    /// Starts the file `path`; an existing one is refused unless `force` is set, and then replaced
    /// by [`Self::commit`]. The new one takes over the permissions of the old one, and its owner where
    /// that is allowed.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        if path == Path::new("-") {
            let reason = "stands for standard output, which cannot be written here; \
                          ./- is a file of that name";
            return Err(Error::unfit(path, reason));
        }
        let old = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => return Err(Error::unfit(path, "is a directory")),
            Ok(found) if !found.is_file() => {
                return Err(Error::unfit(path, "exists and is no regular file"))
            }
            Ok(_) if !force => return Err(exists(path)),
            Ok(found) => Some(Access {
                owner: found.uid(),
                group: found.gid(),
                mode: found.mode(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io(path, "cannot create")(error)),
        };
        if path.file_name().is_none() || path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Error::unfit(path, "is no file name"));
        }
        Ok(Self {
            old,
            ..Self::new(path, force, open_unnamed(path)?)
        })
    }

    fn new(path: &Path, force: bool, (file, hidden): (File, Option<Unfinished>)) -> Self {
        Self {
            path: path.to_owned(),
            file,
            hidden,
            force,
            old: None,
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
        self.permit()
            .map_err(Error::io(&self.path, "cannot set the permissions"))?;
        self.file
            .sync_all()
            .map_err(Error::io(&self.path, "cannot sync"))?;
        let named = match self.hidden.take() {
            Some(hidden) => hidden.publish(|name| publish(name, &self.path, self.force)),
            None => self.link(),
        };
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(&self.path),
            _ => Error::io(&self.path, "cannot create")(error),
        })?;
        let home = directory(&self.path);
        sync_directory(home).map_err(Error::io(home, "cannot sync"))
    }

    /// Gives the file its final permissions.
    fn permit(&self) -> io::Result<()> {
        let mode = match self.old {
            Some(old) => {
                // Only root can give a file away; a group may be another of the user's own, and what
                // it may do is not for any other one.
                let given = fchown(&self.file, Some(old.owner), Some(old.group)).is_ok()
                    || fchown(&self.file, None, Some(old.group)).is_ok();
                old.mode & if given { 0o777 } else { 0o707 }
            }
            None if self.hidden.is_some() => MODE & !umask(),
            // As the system made it.
            None => return Ok(()),
        };
        match self.file.set_permissions(Permissions::from_mode(mode)) {
            // Where there are no permissions, those of the mount are right.
            Err(error) if is_not_for_here(&error) => Ok(()),
            result => result,
        }
    }

    /// Gives the unnamed file its name.
    fn link(&self) -> io::Result<()> {
        match link_unnamed(&self.file, &self.path) {
            Err(error) if self.force && error.kind() == io::ErrorKind::AlreadyExists => {
                // A link cannot replace a file, a rename can.
                let ((), hidden) =
                    with_hidden_name(&self.path, |name| link_unnamed(&self.file, name))?;
                hidden.publish(|name| publish(name, &self.path, true))
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

fn exists(path: &Path) -> Error {
    Error::unfit(path, "exists; --force replaces it")
}

#[cfg(test)]
mod tests {
    use super::naming::open_hidden;
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
