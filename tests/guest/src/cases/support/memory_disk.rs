// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A disk in memory that can be unplugged, and whose sectors go bad: the kernel's null_blk.

use super::tool;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/kernel/config/nullb";

/// Such a disk, gone with this value.
pub(crate) struct MemoryDisk(&'static str);

impl MemoryDisk {
    const NAME: &'static str = "case-memory";

    /// An empty disk of so many MiB, whose spoilt sectors are so for ever.
    pub(crate) fn new(mib: u32) -> MemoryDisk {
        MemoryDisk::with(mib, "0")
    }

    /// One whose spoilt sectors can be read the second time.
    pub(crate) fn failing_once(mib: u32) -> MemoryDisk {
        MemoryDisk::with(mib, "1")
    }

    fn with(mib: u32, once: &str) -> MemoryDisk {
        assert!(crate::modules::probe(&["null_blk"]), "modprobe null_blk");
        let disk = MemoryDisk(Self::NAME);
        fs::create_dir(disk.attribute("")).expect("a disk");
        disk.set("memory_backed", "1");
        disk.set("badblocks_once", once);
        disk.set("size", &mib.to_string());
        disk.set("power", "1");
        disk
    }

    fn attribute(&self, name: &str) -> PathBuf {
        Path::new(ROOT).join(self.0).join(name)
    }

    fn set(&self, name: &str, value: &str) {
        let path = self.attribute(name);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/dev").join(self.0)
    }

    pub(crate) fn name(&self) -> &str {
        self.0
    }

    /// Spoils sectors: they cannot be read.
    pub(crate) fn spoil(&self, sectors: Range<u64>) {
        self.set(
            "badblocks",
            &format!("+{}-{}", sectors.start, sectors.end - 1),
        );
    }

    /// The sectors that are spoilt, as the kernel lists them.
    pub(crate) fn spoilt(&self) -> String {
        let text = fs::read_to_string(self.attribute("badblocks")).expect("badblocks");
        text.trim().to_string()
    }

    pub(crate) fn heal(&self, sectors: Range<u64>) {
        self.set(
            "badblocks",
            &format!("-{}-{}", sectors.start, sectors.end - 1),
        );
    }

    /// Takes it away, whoever uses it.
    pub(crate) fn unplug(&self) {
        self.set("power", "0");
    }
}

impl Drop for MemoryDisk {
    fn drop(&mut self) {
        let _ = fs::write(self.attribute("power"), "0");
        let gone = fs::remove_dir(self.attribute(""));
        if gone.is_err() && !std::thread::panicking() {
            panic!("rmdir {}: {gone:?}", self.attribute("").display());
        }
    }
}

/// Copies a file to the beginning of a disk.
pub(crate) fn copy(file: &Path, disk: &Path) {
    let words = [file, disk].map(|path| path.display().to_string());
    let [from, to] = [format!("if={}", words[0]), format!("of={}", words[1])];
    tool::run("dd", &[from.as_str(), &to, "bs=64k", "conv=fsync"]);
}
