// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Which file a layer is, as the driver says it: `<major>:<minor> <inode> <bytes> <mtime> <ctime>`, and
//! without the times of what is no regular file.
//!
//! The driver reads a layer's index once, when it attaches. A file whose bytes change afterwards is no
//! longer the layer that is attached, so whoever takes one for the other has to look at the times, too.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// A file, and its state at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(String);

/// How a layer's file differs from the one that was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is another file.
    Replaced,
    /// The same one, written to.
    Written,
    /// The same one: its names, owner or mode changed, or it was written to and its time set back.
    Attributes,
}

impl Identity {
    /// An open file as it is now.
    pub fn of(file: &File) -> io::Result<Self> {
        let stat = file.metadata()?;
        let (major, minor) = (rustix::fs::major(stat.dev()), rustix::fs::minor(stat.dev()));
        let mut text = format!("{major}:{minor} {} {}", stat.ino(), stat.len());
        if stat.is_file() {
            for (seconds, nanoseconds) in [
                (stat.mtime(), stat.mtime_nsec()),
                (stat.ctime(), stat.ctime_nsec()),
            ] {
                text += &format!(" {seconds}.{nanoseconds:09}");
            }
        }
        Ok(Self(text))
    }

    /// What the driver said of a layer.
    pub(super) fn said(text: String) -> Self {
        Self(text)
    }

    /// What is different `now`; [`None`] if nothing is.
    pub fn change(&self, now: &Self) -> Option<Change> {
        if self == now {
            return None;
        }
        // Device and inode, then bytes and mtime.
        let words = |range: std::ops::Range<usize>| {
            let part = |text: &str| -> Vec<String> {
                let words = text.split(' ').map(str::to_owned);
                words.skip(range.start).take(range.len()).collect()
            };
            part(&self.0) == part(&now.0)
        };
        Some(match (words(0..2), words(2..4)) {
            (false, _) => Change::Replaced,
            (true, false) => Change::Written,
            (true, true) => Change::Attributes,
        })
    }

    /// The words for it.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_change_is_told_by_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        let [path, alias] = ["layer", "alias"].map(|name| dir.path().join(name));
        fs::write(&path, "one").unwrap();
        let now = || Identity::of(&File::open(&path).unwrap()).unwrap();
        // Some kernels' clocks for files tick a hundred times a second.
        let until_seen = |change: &dyn Fn()| {
            let before = now();
            loop {
                change();
                match now() {
                    now if now != before => return now,
                    _ => std::thread::yield_now(),
                }
            }
        };
        let first = now();
        assert_eq!(first.change(&now()), None);
        assert_eq!(first.text().split(' ').count(), 5, "{}", first.text());

        let linked = until_seen(&|| {
            let _ = fs::remove_file(&alias);
            fs::hard_link(&path, &alias).unwrap();
        });
        assert_eq!(first.change(&linked), Some(Change::Attributes));

        // As many bytes as before.
        let written = until_seen(&|| fs::write(&path, "two").unwrap());
        assert_eq!(linked.change(&written), Some(Change::Written));

        // Setting the time back does not hide it.
        let mtime = |identity: &Identity| identity.text().split(' ').nth(3).unwrap().to_owned();
        let (seconds, nanoseconds) = mtime(&linked)
            .split_once('.')
            .map(|(s, n)| (s.parse().unwrap(), n.parse().unwrap()))
            .unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, nanoseconds);
        let file = File::options().write(true).open(&path).unwrap();
        until_seen(&|| file.set_modified(time).unwrap());
        assert_eq!(mtime(&now()), mtime(&linked));
        assert_eq!(linked.change(&now()), Some(Change::Attributes));

        fs::write(dir.path().join("new"), "two").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(written.change(&now()), Some(Change::Replaced));
    }

    #[test]
    fn a_device_has_no_times() {
        let null = Identity::of(&File::open("/dev/null").unwrap()).unwrap();
        assert_eq!(null.text().split(' ').count(), 3, "{}", null.text());
    }
}
