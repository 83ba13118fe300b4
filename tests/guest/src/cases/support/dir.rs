// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Directories of the driver's configfs, with plain error numbers.

use super::content;
use super::layers;
use rustix::io::Errno;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(crate) const ROOT: &str = "/sys/kernel/config/vbd";

/// Outcome of one operation on configfs.
pub(crate) type Done<T = ()> = Result<T, Errno>;

/// The directory of a device.
pub(crate) struct Dir(PathBuf);

impl Dir {
    /// A directory that may exist.
    pub(crate) fn named(name: &str) -> Dir {
        Dir(Path::new(ROOT).join(name))
    }

    /// A new one.
    pub(crate) fn new(name: &str) -> Dir {
        let dir = Dir::named(name);
        dir.make()
            .unwrap_or_else(|errno| panic!("mkdir {name}: {errno:?}"));
        dir
    }

    pub(crate) fn make(&self) -> Done {
        plain(fs::create_dir(&self.0))
    }

    pub(crate) fn remove(&self) -> Done {
        plain(fs::remove_dir(&self.0))
    }

    /// The value of an attribute, without the end of its line.
    pub(crate) fn get(&self, attribute: &str) -> String {
        self.try_get(attribute)
            .unwrap_or_else(|errno| panic!("{attribute}: {errno:?}"))
    }

    pub(crate) fn try_get(&self, attribute: &str) -> Done<String> {
        let text = plain(fs::read_to_string(self.0.join(attribute)))?;
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_string())
    }

    pub(crate) fn set(&self, attribute: &str, value: &str) -> Done {
        self.set_bytes(attribute, value.as_bytes())
    }

    /// Sets an attribute to what need not be text.
    pub(crate) fn set_bytes(&self, attribute: &str, value: &[u8]) -> Done {
        let file = OpenOptions::new().write(true).open(self.0.join(attribute));
        plain(plain(file)?.write_all(value))
    }

    /// An attribute as it is, with the end of its line.
    pub(crate) fn get_bytes(&self, attribute: &str) -> Vec<u8> {
        fs::read(self.0.join(attribute)).unwrap_or_else(|error| panic!("{attribute}: {error}"))
    }

    /// Makes layer `number` of a file.
    pub(crate) fn layer(&self, number: usize, path: &Path) -> Done {
        plain(fs::create_dir(self.0.join(number.to_string())))?;
        self.set(&format!("{number}/path"), &path.display().to_string())
    }

    /// Makes any directory below.
    pub(crate) fn make_below(&self, name: &str) -> Done {
        plain(fs::create_dir(self.0.join(name)))
    }

    pub(crate) fn remove_below(&self, name: &str) -> Done {
        plain(fs::remove_dir(self.0.join(name)))
    }

    /// Makes a device of layers, bottom first, and switches it on.
    pub(crate) fn attach<P: AsRef<Path>>(name: &str, layers: &[P]) -> Dir {
        let dir = Dir::new(name);
        for (number, layer) in layers.iter().enumerate() {
            dir.layer(number, layer.as_ref())
                .unwrap_or_else(|errno| panic!("{name}/{number}: {errno:?}"));
        }
        dir.set("power", "1")
            .unwrap_or_else(|errno| panic!("{name}: {errno:?}: {}", dir.get("error")));
        dir
    }

    /// Path of the disk, which has to be there.
    pub(crate) fn disk(&self) -> String {
        let disk = format!("/dev/{}", self.get("device"));
        assert!(Path::new(&disk).exists(), "no {disk}");
        disk
    }

    /// Switches the device off and removes all of it.
    pub(crate) fn detach(self) {
        self.set("power", "0").expect("power off");
        self.clear().expect("the directories go");
    }

    /// Removes the layers and the device, which is off.
    pub(crate) fn clear(&self) -> Done {
        for entry in plain(fs::read_dir(&self.0))? {
            let path = plain(entry)?.path();
            if path.is_dir() {
                plain(fs::remove_dir(path))?;
            }
        }
        self.remove()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // Other cases shall not fail because one has.
        if std::thread::panicking() {
            let _ = self.set("power", "0");
            let _ = self.clear();
        }
    }
}

/// The error number of a failure.
pub(crate) fn plain<T>(result: io::Result<T>) -> Done<T> {
    result.map_err(|error| Errno::from_io_error(&error).unwrap_or_else(|| panic!("{error}")))
}

/// A disk and two layers that make it, the upper one compressed.
pub(crate) fn stack(scratch: &Path, bytes: usize) -> (Vec<u8>, Vec<PathBuf>) {
    let below = content::disk(7, bytes);
    let mut disk = below.clone();
    content::change(&mut disk, 8, 20, 16);
    let variants: &[&[&str]] = &[&["--format=plain"], &["--format=lz4"]];
    let layers = layers::stack(scratch, &[below, disk.clone()], variants);
    (disk, layers)
}

/// Nothing of a device may be left when all are detached.
pub(crate) fn assert_nothing_left() {
    let names = |place: &str| -> Vec<String> {
        let Ok(entries) = fs::read_dir(place) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()
    };
    let ours = |place: &str| -> Vec<String> {
        let mut names = names(place);
        names.retain(|name| name.starts_with("vbd"));
        names
    };
    assert_eq!(names(ROOT), [""; 0], "{ROOT}");
    assert_eq!(names("/sys/kernel/debug/vbd"), [""; 0], "debugfs");
    assert_eq!(ours("/sys/block"), [""; 0], "disks");
    assert_eq!(ours("/dev"), [""; 0], "nodes");
    let mut threads = names("/proc");
    threads.retain(|pid| {
        pid.bytes().all(|b| b.is_ascii_digit())
            && fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.starts_with("kworker/R-vbd"))
    });
    assert_eq!(threads, [""; 0], "workers of devices");
}
