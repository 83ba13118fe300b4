// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Writer of the archive format that the kernel unpacks as its first root: cpio, "newc".
//!
//! Every entry is a header of hexadecimal fields, the name with a final NUL, and the content;
//! header with name and content are each padded to a multiple of four bytes.

use std::collections::BTreeSet;
use std::path::{Component, Path};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

/// An archive in memory. Directories appear by themselves before what lies in them.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds a directory and those above it, unless they are there.
    pub(super) fn directory(&mut self, path: &str) {
        let path = relative(path);
        if path.is_empty() || self.directories.contains(&path) {
            return;
        }
        self.parent(&path);
        self.entry(&path, DIRECTORY | 0o755, &[], (0, 0));
        self.directories.insert(path);
    }

    /// Adds a regular file with its permissions.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = relative(path);
        self.parent(&path);
        self.entry(&path, REGULAR | (mode & 0o7777), content, (0, 0));
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        let path = relative(path);
        self.parent(&path);
        self.entry(&path, LINK | 0o777, target.as_bytes(), (0, 0));
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) {
        let path = relative(path);
        self.parent(&path);
        self.entry(&path, DEVICE | 0o600, &[], (major, minor));
    }

    /// Ends the archive and hands back its bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }

    fn parent(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let fields = [
            self.entries,
            mode,
            0, // Owner.
            0, // Group.
            links,
            0, // Time of change: the same input gives the same bytes.
            length(content.len()),
            0, // Device that holds the entry.
            0,
            device.0,
            device.1,
            length(name.len() + 1),
            0, // Checksum, which this variant of the format has not.
        ];
        self.entries += 1;
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A path as the archive names it: no slash in front, no dots.
fn relative(path: &str) -> String {
    let parts = Path::new(path).components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_bytes_that_the_format_asks_for() {
        let mut archive = Archive::default();
        archive.file("/a/b", 0o755, b"hello");
        let mut expected = Vec::new();
        expected.extend_from_slice(
            b"070701000000000000\
              41ed000000000000000000000002000000000000000000000000000000000000000000000000\
              0000000200000000a\0",
        );
        expected.extend_from_slice(
            b"070701000000010000\
              81ed000000000000000000000001000000000000000500000000000000000000000000000000\
              0000000400000000a/b\0\0\0hello\0\0\0",
        );
        expected.extend_from_slice(
            b"070701000000000000\
              0000000000000000000000000001000000000000000000000000000000000000000000000000\
              0000000b00000000TRAILER!!!\0\0\0\0",
        );
        let bytes = archive.finish();
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            String::from_utf8_lossy(&expected)
        );
    }

    #[test]
    fn directories_come_once_and_first() {
        let mut archive = Archive::default();
        archive.link("/usr/bin/sh", "busybox");
        archive.directory("usr");
        archive.device("/dev/console", 5, 1);
        let text = String::from_utf8_lossy(&archive.finish()).into_owned();
        let names: Vec<&str> = text
            .split("070701")
            .filter_map(|entry| entry.get(104..)?.split('\0').next())
            .collect();
        assert_eq!(
            names,
            [
                "usr",
                "usr/bin",
                "usr/bin/sh",
                "dev",
                "dev/console",
                "TRAILER!!!"
            ]
        );
        // Major and minor number, length of the name, no checksum.
        assert!(text.contains("00000005000000010000000c00000000dev/console"));
    }
}
