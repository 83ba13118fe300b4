// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The outcome of an attach for those who wait for it: overlaybd's `resultFile`s.

use crate::error::{Error, Result};
use crate::image::config;
use rustix::fs::{Gid, Mode, OFlags, RenameFlags, Uid, CWD};
use rustix::io::Errno;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Files that wait for an outcome.
#[derive(Debug, Default)]
pub struct Results(Vec<PathBuf>);

impl Results {
    /// Notes that the configuration `path` may want to hear the outcome.
    pub(super) fn of(&mut self, path: &Path) {
        self.0.extend(config::result_file(path));
    }

    /// Writes the outcome, as upstream words it: `success`, or `failed:` and the reason.
    ///
    /// If it cannot be told to all, none is left with a success.
    pub fn write<T, E: Display>(&self, result: &Result<T, E>) -> Result<()> {
        let text = match result {
            Ok(_) => "success".to_owned(),
            Err(error) => format!("failed:{error:#}"),
        };
        for (told, path) in self.0.iter().enumerate() {
            let Err(error) = put(path, text.as_bytes()) else {
                continue;
            };
            if result.is_ok() {
                for path in &self.0[..told] {
                    let _ = put(path, format!("failed:{error}").as_bytes());
                }
            }
            return Err(error);
        }
        Ok(())
    }
}

/// Tells `bytes` to whatever has the name `path`.
///
/// A regular file is replaced, and one that is not there made, in one step, so that nobody reads a part.
/// Nothing else is ever replaced: a character device or a pipe gets the bytes, also behind a symbolic
/// link such as `/dev/stdout`, and the rest is refused.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || Error::io(path, "cannot write the result");
    let old = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed()(error)),
        Ok(found) if found.is_file() => Some(found),
        Ok(found) => return pour(path, &found, bytes),
    };
    replace(path, old.as_ref(), bytes).map_err(failed())
}

/// Writes into what is no file: never waits, and makes nothing.
fn pour(path: &Path, found: &fs::Metadata, bytes: &[u8]) -> Result<()> {
    let unfit = |what: &str| {
        Err(Error::unfit(
            path,
            format!("cannot hold the result: {what}"),
        ))
    };
    let failed = || Error::io(path, "cannot write the result");
    let kind = found.file_type();
    if !(kind.is_char_device() || kind.is_fifo() || kind.is_symlink()) {
        return unfit("is no regular file");
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed()(errno.into()));
    let mut file = File::from(file?);
    let kind = file.metadata().map_err(failed())?.file_type();
    if kind.is_char_device() || kind.is_fifo() {
        return file.write_all(bytes).map_err(failed());
    }
    unfit("is a symbolic link to what is no device and no pipe")
}

/// Gives the regular file `path`, or a new one, these bytes.
fn replace(path: &Path, old: Option<&fs::Metadata>, bytes: &[u8]) -> io::Result<()> {
    let (mut file, hidden) = hidden_file(path)?;
    let result = file.write_all(bytes).and_then(|()| match old {
        None => publish(&hidden, path),
        Some(old) => {
            // It stays with those who could read it, as far as this user may give a file away.
            let (user, group) = (Uid::from_raw(old.uid()), Gid::from_raw(old.gid()));
            let _ = rustix::fs::fchown(&file, Some(user), Some(group));
            file.set_permissions(old.permissions())?;
            fs::rename(&hidden, path)
        }
    });
    if result.is_err() {
        let _ = fs::remove_file(&hidden);
    }
    result
}

/// Gives a new file its name, which must not be there: what has come meanwhile was not looked at.
fn publish(hidden: &Path, path: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, hidden, CWD, path, RenameFlags::NOREPLACE) {
        // A file system that cannot tell.
        Err(Errno::INVAL | Errno::NOSYS) => match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(hidden, path),
            Err(error) => Err(error),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        },
        result => Ok(result?),
    }
}

/// A new file beside `path`, and its name, which is short whatever the other one's length.
fn hidden_file(path: &Path) -> io::Result<(File, PathBuf)> {
    path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut attempt = 0;
    loop {
        let name = format!(".vbdctl-result-{}-{attempt}", std::process::id());
        let hidden = path.with_file_name(name);
        match rustix::fs::open(&hidden, flags, Mode::from_raw_mode(0o666)) {
            // Left over from a run that was killed.
            Err(Errno::EXIST) if attempt < 1000 => attempt += 1,
            Err(errno) => return Err(errno.into()),
            Ok(file) => return Ok((file.into(), hidden)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    fn names(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn files_are_made_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        // As long as a name can be.
        let path = dir.path().join("r".repeat(255));
        put(&path, b"success").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"success");
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o640)).unwrap();
        put(&path, b"failed:x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"failed:x");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(names(dir.path()), 1);
        for path in [dir.path().join("no/where"), PathBuf::from("..")] {
            put(&path, b"x").unwrap_err();
        }
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| dir.path().join(name);
        let pipe = make("pipe");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        // Nobody reads: that is an error, and no wait.
        let error = put(&pipe, b"x").unwrap_err().to_string();
        assert!(error.contains("cannot write the result"), "{error}");
        let reader = rustix::fs::open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
        let mut reader = File::from(reader.unwrap());
        put(&pipe, b"success").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "success");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());

        let kept = make("kept");
        fs::write(&kept, "precious").unwrap();
        let socket = make("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let [link, dangling, null] = ["link", "dangling", "null"].map(make);
        symlink(&kept, &link).unwrap();
        symlink(make("nothing"), &dangling).unwrap();
        symlink("/dev/null", &null).unwrap();
        let before = names(dir.path());
        for path in [&link, &dangling, &socket, &dir.path().to_owned()] {
            let kind = |path: &Path| fs::symlink_metadata(path).unwrap().file_type();
            let was = kind(path);
            put(path, b"x").unwrap_err();
            assert_eq!(kind(path), was, "{}", path.display());
        }
        put(&null, b"x").unwrap();
        assert!(fs::symlink_metadata(&null).unwrap().is_symlink());
        assert_eq!(fs::read(&kept).unwrap(), b"precious");
        assert_eq!(names(dir.path()), before);
    }

    #[test]
    fn a_success_that_not_all_can_hear_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "no/where"].map(|name| dir.path().join(name));
        let results = Results(vec![first.clone(), second]);
        let error = results.write(&Ok::<_, Error>(())).unwrap_err().to_string();
        assert_eq!(
            fs::read_to_string(first).unwrap(),
            format!("failed:{error}")
        );
    }
}
