// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What people put on a disk, on disks of vbd: the bytes have to be right through each, a bad block has to be an
//! error through each and never a good one, and all has to come apart again.
//!
//! What is done in the machine stands in `tests/suites/stacks.sh`.

use super::fio::{self, report};
use super::guest::{self, Check, Group, Needs};
use super::layers::Layers;
use super::Place;
use crate::test::steps::{Count, Step};
use anyhow::Result;
use std::fs;

const SCRIPT: &str = include_str!("../../../tests/suites/stacks.sh");

/// Kinds of stacks. Over one bad block one read fails, of those that are joined with it none.
const KINDS: [&str; 9] = [
    "linear", MULTIPATH, "snapshot", "thin", "cache", "verity", "crypt", "lvm", "md",
];
/// A path that failed is not tried again, so all that comes after it fails too.
const MULTIPATH: &str = "multipath";

const NEEDS: Needs = Needs {
    programs: &[
        fio::PROGRAM,
        "/usr/sbin/cryptsetup",
        "/usr/sbin/lvm",
        "/usr/sbin/mdadm",
        "/usr/sbin/veritysetup",
    ],
    modules: &[
        "aesni_intel",
        "dm_cache",
        "dm_cache_smq",
        "dm_crypt",
        "dm_multipath",
        "dm_round_robin",
        "dm_thin_pool",
        "raid1",
    ],
};

/// The most reads that may fail over one bad block.
fn failing(kind: &str) -> u64 {
    match kind {
        MULTIPATH => u64::MAX,
        _ => 1,
    }
}

pub(super) fn run(place: &Place, step: &Step) -> Result<Count> {
    let layers = Layers::new(place, step, "stacks")?;
    fio::write_text(place, &layers, step, "share/data")?;
    fs::write(layers.share().join("stacks.sh"), SCRIPT)?;
    let check = |kind: &str, state: &str, judge| Check {
        name: state.to_string(),
        text: format!("sh /share/stacks.sh {kind} {state}"),
        judge,
    };
    let groups = KINDS.map(|kind| Group {
        name: kind.to_string(),
        layers: Vec::new(),
        before: "true".into(),
        after: "true".into(),
        checks: vec![
            check(kind, "good", report::reads_all(fio::SIZE)),
            check(kind, "bad", report::fails_to_read(failing(kind))),
        ],
    });
    guest::run(place, &layers, step, NEEDS, groups.into())
}
