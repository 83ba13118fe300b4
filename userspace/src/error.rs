// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What can go wrong, always with the file it went wrong in.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, with the file and, where one is known, the byte offset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused something.
    #[error("{}: {action}: {error}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What was tried, such as "cannot open".
        action: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// A read or write at a known place failed.
    #[error("{}: offset {offset}: {action}: {error}", path.display())]
    Transfer {
        /// File.
        path: PathBuf,
        /// Byte in the file.
        offset: u64,
        /// What was tried, such as "cannot read".
        action: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// A rule of the format does not hold.
    #[error("{}: {error}", path.display())]
    Format {
        /// Layer file.
        path: PathBuf,
        /// Rule, offset and what was found.
        error: vbd_format::Error,
    },
    /// The layers do not make a stack.
    #[error("{0}")]
    Stack(vbd_format::Error),
    /// A device cannot be what is asked of it.
    #[error("{name}: {reason}")]
    Device {
        /// Name of the device.
        name: String,
        /// Why, as part of a sentence.
        reason: String,
    },
    /// The driver is not there.
    #[error("the driver is not there: {0}")]
    Driver(String),
    /// A file is not what is needed here.
    #[error("{}: {reason}", path.display())]
    Unfit {
        /// File or directory.
        path: PathBuf,
        /// Why, as part of a sentence.
        reason: String,
    },
}

impl Error {
    /// For `map_err`: `action` on `path` failed.
    pub(crate) fn io<'a>(
        path: &'a Path,
        action: &'static str,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |error| Self::Io {
            path: path.to_owned(),
            action,
            error,
        }
    }

    /// For `map_err`: `action` at byte `offset` of `path` failed.
    pub(crate) fn transfer<'a>(
        path: &'a Path,
        offset: u64,
        action: &'static str,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |error| Self::Transfer {
            path: path.to_owned(),
            offset,
            action,
            error,
        }
    }

    pub(crate) fn device(name: &str, reason: impl Into<String>) -> Self {
        Self::Device {
            name: name.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn unfit(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unfit {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

/// `text` with its control characters escaped: names of files and texts of images may hold what a terminal
/// acts on, or what looks like another line.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Writes a line to standard error; where that cannot be written to, there is nobody to tell.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "vbdctl: {}", escaped(text));
}

/// A failed read of a layer, before the layer's path is known to the place it failed in.
#[derive(Debug)]
pub enum ReadError {
    /// The system refused to read at this byte of the file.
    Io(u64, io::Error),
    /// A rule does not hold.
    Format(vbd_format::Error),
}

impl ReadError {
    /// The same, said of the file `path`.
    pub fn of(self, path: &Path) -> Error {
        match self {
            Self::Io(offset, error) => Error::transfer(path, offset, "cannot read")(error),
            Self::Format(error) => Error::Format {
                path: path.to_owned(),
                error,
            },
        }
    }
}

impl From<vbd_format::Error> for ReadError {
    fn from(error: vbd_format::Error) -> Self {
        Self::Format(error)
    }
}
