// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! That a machine in which something hangs is a failure: every other case relies on it, and none would tell.

use super::steps::{Count, Step};
use crate::kit::Kit;
use crate::vm::{self, Ended, Spec};
use anyhow::{bail, ensure, Result};
use std::time::Duration;

/// What the step is called, for those who choose by name.
pub(super) const NAME: &str = "hangs::are_failures";

/// Seconds after which a wait is too long in this machine.
const PATIENCE: u32 = 4;

/// Suspended devices, on which every read waits, and one that ends none within the hour below a disk that
/// does not wait itself: readers that the kernel tells of, and readers that it leaves out.
const HANG: &str = "set -e; modprobe -a dm_zero dm_delay loop null_blk; \
    for name in mounted read; do dmsetup create $name --table '0 8192 zero'; dmsetup suspend --nolockfs $name; done; \
    dmsetup create slow --table '0 8192 delay /dev/nullb0 0 3600000'; losetup /dev/loop0 /dev/mapper/slow; \
    mount -t ext4 /dev/mapper/mounted /mnt & cat /dev/mapper/read >/dev/null & \
    dd if=/dev/loop0 of=/dev/null iflag=direct bs=4k count=1 & wait";

/// What has to be told, by parts of one line of the console.
const TOLD: [[&str; 2]; 4] = [
    // Nothing wakes who reads a superblock.
    ["INFO: task mount:", " blocked in I/O wait for more than "],
    ["vbd-guest: task cat:", " has not gone on for "],
    ["vbd-guest: task dd:", " has not gone on for "],
    ["vbd-guest: disk loop0 ", " with requests in flight"],
];

/// Whether names of cases ask for it; no names ask for everything.
pub(super) fn is_wanted(patterns: &[String]) -> bool {
    patterns.is_empty() || patterns.iter().any(|part| NAME.contains(part.as_str()))
}

/// Boots a machine, has it hang, and looks at what becomes of it.
pub(super) fn run(step: &Step, kit: &Kit) -> Result<Count> {
    let spec = Spec {
        append: format!("vbd.patience={PATIENCE}"),
        // Whoever sees no hang is not to wait for the end of days.
        timeout: Duration::from_secs(120) * kit.slowness(),
        ..Spec::default()
    };
    let mut log = step.log()?;
    let mut errors = step.log()?;
    let outcome = vm::run(kit, &spec, HANG, &mut log, &mut errors)?;
    match outcome.ended {
        Ended::Lost(reason) => ensure!(
            reason.ends_with("is stuck"),
            "the machine was given up for another reason: {reason}"
        ),
        Ended::Status(status) => bail!("nothing hung: status {status}"),
    }
    let lines = || outcome.report.console.lines();
    let mut count = Count::default();
    for parts in TOLD {
        let mut told = lines().filter(|line| parts.iter().all(|part| line.contains(part)));
        if told.any(vm::is_complaint) {
            count.passed += 1;
        } else {
            count.failed += 1;
            step.note(format!("FAIL {NAME}: nothing said: {}", parts.join("…")));
        }
    }
    if count.failed > 0 {
        outcome.report.show();
    }
    Ok(count)
}
