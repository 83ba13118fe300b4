// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A directory for the files of a case, and file systems for the time of one.

use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that goes with this value.
///
/// It lies on the disk of the shared directory where there is one, so that files have to be read
/// from a disk, and otherwise in memory.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let base = if Path::new("/share").is_dir() {
            "/share"
        } else {
            "/tmp"
        };
        Scratch::below(base)
    }

    /// One in memory, whose files no cache can forget.
    pub(crate) fn in_memory() -> Scratch {
        Scratch::below("/tmp")
    }

    fn below(base: &str) -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(base).join(format!("case-{number}"));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Scratch(path)
    }

    /// Writes a file and hands back its path.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file system that is mounted while this lives.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts `device` on `place`, which is made if it is missing.
    pub(crate) fn new(device: &str, place: &Path, kind: &str, read_only: bool) -> Mounted {
        fs::create_dir_all(place).expect("the mount point");
        let flags = if read_only {
            MountFlags::RDONLY
        } else {
            MountFlags::empty()
        };
        mount(device, place, kind, flags, None)
            .unwrap_or_else(|errno| panic!("mount -t {kind} {device}: {errno:?}"));
        Mounted(place.to_path_buf())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(errno) = unmount(&self.0, UnmountFlags::empty()) {
            if !std::thread::panicking() {
                panic!("umount {}: {errno:?}", self.0.display());
            }
        }
    }
}
