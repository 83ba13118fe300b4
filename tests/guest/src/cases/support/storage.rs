// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A block device of which a part fails.

use super::{device, tool};
use std::ops::Range;
use std::path::Path;

/// A device-mapper device over another one, of which a part fails.
pub(crate) struct Failing(());

impl Failing {
    const NAME: &'static str = "case-failing";

    /// Sectors `bad` of `device` fail.
    pub(crate) fn new(device: &Path, bad: Range<u64>) -> Failing {
        assert!(crate::modules::probe(&["dm-mod"]), "modprobe dm-mod");
        let table = table(device, bad);
        tool::run("dmsetup", &["create", Self::NAME, "--table", &table]);
        Failing(())
    }

    /// Makes it the same device without a part that fails.
    pub(crate) fn heal(&self, device: &Path) {
        let table = table(device, 0..0);
        tool::run("dmsetup", &["suspend", Self::NAME]);
        tool::run("dmsetup", &["load", Self::NAME, "--table", &table]);
        tool::run("dmsetup", &["resume", Self::NAME]);
    }

    pub(crate) fn path(&self) -> String {
        format!("/dev/mapper/{}", Self::NAME)
    }

    /// The kernel's name of the disk.
    pub(crate) fn disk(&self) -> String {
        let node = tool::run(
            "dmsetup",
            &["info", "-c", "--noheadings", "-o", "blkdevname", Self::NAME],
        );
        assert!(node.starts_with("dm-"), "{node}");
        node
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let done = tool::output("dmsetup", &["remove", Self::NAME]);
        if !done.status.success() && !std::thread::panicking() {
            panic!("dmsetup remove {}", Self::NAME);
        }
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
