// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Block devices that do not do what they should: by the device mapper, between a device that does and
//! its user.

use super::{device, tool};
use std::ops::Range;
use std::path::Path;

/// A device of the device mapper, removed with this value.
pub(crate) struct Volume(String);

impl Volume {
    pub(crate) fn new(name: &str, table: &str) -> Volume {
        assert!(crate::modules::probe(&["dm-mod"]), "modprobe dm-mod");
        tool::run("dmsetup", &["create", name, "--table", table]);
        Volume(name.to_string())
    }

    /// One that cannot be written, over devices that cannot.
    pub(crate) fn read_only(name: &str, table: &str) -> Volume {
        assert!(crate::modules::probe(&["dm-mod"]), "modprobe dm-mod");
        tool::run("dmsetup", &["create", name, "--readonly", "--table", table]);
        Volume(name.to_string())
    }

    /// Gives it another table, once what is under way has ended.
    pub(crate) fn change(&self, table: &str) {
        self.suspend();
        tool::run("dmsetup", &["load", &self.0, "--table", table]);
        self.resume();
    }

    /// Has reads wait from now on.
    pub(crate) fn suspend(&self) {
        tool::run("dmsetup", &["suspend", &self.0]);
    }

    pub(crate) fn resume(&self) {
        tool::run("dmsetup", &["resume", &self.0]);
    }

    /// Tells the target at sector 0 something.
    pub(crate) fn message(&self, words: &[&str]) -> String {
        let mut all = vec!["message", self.0.as_str(), "0"];
        all.extend_from_slice(words);
        tool::run("dmsetup", &all)
    }

    pub(crate) fn path(&self) -> String {
        format!("/dev/mapper/{}", self.0)
    }

    /// The kernel's name of the disk.
    pub(crate) fn disk(&self) -> String {
        let node = tool::run(
            "dmsetup",
            &["info", "-c", "--noheadings", "-o", "blkdevname", &self.0],
        );
        assert!(node.starts_with("dm-"), "{node}");
        node
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // A file that was closed just now may be released a moment later.
        let done = tool::output("dmsetup", &["remove", "--retry", &self.0]);
        if !done.status.success() && !std::thread::panicking() {
            panic!("dmsetup remove {}", self.0);
        }
    }
}

/// A table of one target over all of a device: `<target> <device> 0` and further words.
pub(crate) fn whole(device: &Path, target: &str, words: &str) -> String {
    let path = device.display().to_string();
    let sectors = device::size(&path) / 512;
    format!("0 {sectors} {target} {path} 0 {words}")
}

/// A device over another one, of which a part fails.
pub(crate) struct Failing(Volume);

impl Failing {
    /// Sectors `bad` of `device` fail.
    pub(crate) fn new(device: &Path, bad: Range<u64>) -> Failing {
        Failing(Volume::new("case-failing", &table(device, bad)))
    }

    /// Makes it the same device without a part that fails.
    pub(crate) fn heal(&self, device: &Path) {
        self.0.change(&table(device, 0..0));
    }

    pub(crate) fn path(&self) -> String {
        self.0.path()
    }

    pub(crate) fn disk(&self) -> String {
        self.0.disk()
    }
}

fn table(device: &Path, bad: Range<u64>) -> String {
    let path = device.display().to_string();
    let size = device::size(&path) / 512;
    let linear = |from: u64, to: u64| {
        (from < to).then(|| format!("{from} {} linear {path} {from}\n", to - from))
    };
    let error = (!bad.is_empty()).then(|| format!("{} {} error\n", bad.start, bad.end - bad.start));
    let parts = [linear(0, bad.start), error, linear(bad.end, size)];
    parts.into_iter().flatten().collect()
}
