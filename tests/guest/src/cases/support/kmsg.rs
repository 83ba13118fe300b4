// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The kernel's log since a moment.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// Levels up to this one are errors or worse.
const ERROR: u8 = 3;

/// Errors by number: a kernel that was built without their names says `Error(2)` for `ENOENT`.
const NAMES: [(u8, &str); 11] = [
    (2, "ENOENT"),
    (5, "EIO"),
    (6, "ENXIO"),
    (9, "EBADF"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (20, "ENOTDIR"),
    (21, "EISDIR"),
    (22, "EINVAL"),
    (36, "ENAMETOOLONG"),
    (40, "ELOOP"),
];

/// One message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Message {
    /// 0 (emergency) to 7 (debug).
    pub(crate) level: u8,
    pub(crate) text: String,
}

/// A place in the log.
pub(crate) struct Log(File);

impl Log {
    /// Begins at what the kernel says next.
    pub(crate) fn mark() -> Log {
        let mut options = OpenOptions::new();
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits();
        options
            .read(true)
            .custom_flags(i32::try_from(nonblock).unwrap());
        let mut file = options.open("/dev/kmsg").expect("/dev/kmsg");
        file.seek(SeekFrom::End(0)).expect("the log's end");
        Log(file)
    }

    /// What was said since the mark, or since the last call.
    pub(crate) fn lines(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut record = [0; 8192];
        loop {
            match (&self.0).read(&mut record) {
                Ok(0) => return messages,
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    messages.push(message(&text));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return messages,
                // Messages that were overwritten before they were read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) => panic!("/dev/kmsg: {error}"),
            }
        }
    }

    /// The errors among [`Self::lines`]: the texts alone.
    pub(crate) fn errors(&self) -> Vec<String> {
        let errors = self.lines().into_iter().filter(|m| m.level <= ERROR);
        errors.map(|message| message.text).collect()
    }

    /// What vbd said at the level of errors, without its name.
    pub(crate) fn vbd_errors(&self) -> Vec<String> {
        let errors = self.errors().into_iter();
        errors
            .filter_map(|text| text.strip_prefix("vbd: ").map(str::to_string))
            .collect()
    }
}

/// A record: `<facility and level>,<number>,<time>,<flags>;<text>`, then lines of properties.
fn message(record: &str) -> Message {
    let parts = record.split_once(';').and_then(|(head, text)| {
        let number: u32 = head.split(',').next()?.parse().ok()?;
        let level = u8::try_from(number & 7).ok()?;
        let text = text.lines().next().unwrap_or_default();
        let named = NAMES.iter().fold(text.to_string(), |text, (number, name)| {
            text.replace(&format!("Error({number})"), name)
        });
        // A backslash, which this file shows by its number.
        let text = named.replace("\\x5c", "\\");
        Some(Message { level, text })
    });
    parts.unwrap_or_else(|| panic!("a log record without a head: {record}"))
}
