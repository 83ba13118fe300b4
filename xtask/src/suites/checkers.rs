// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The file systems' own checkers, on disks of vbd: none may find anything, but on a damaged one.

use super::file_systems::{self, FILE_SYSTEMS};
use super::guest::{self, Check, Group, Judge, Needs};
use super::layers::Layers;
use super::Place;
use crate::test::steps::{Count, Step};
use anyhow::{ensure, Result};

/// Programs in the guest.
const PROGRAMS: &[&str] = &[
    "/usr/sbin/e2fsck",
    "/usr/sbin/xfs_repair",
    "/usr/bin/fsck.erofs",
    "/usr/bin/btrfs",
];

pub(super) fn run(place: &Place, step: &Step) -> Result<Count> {
    let layers = Layers::new(place, step, "checkers")?;
    let trees = file_systems::trees(place, &layers)?;
    let mut groups = Vec::new();
    for system in FILE_SYSTEMS {
        let (mut stack, damaged) = system.stack(place, &layers, step, &trees)?;
        let text = system.check_text();
        groups.push(group(system.name, stack.clone(), &text, is_clean()));
        stack.push(damaged);
        let name = format!("{}, damaged", system.name);
        groups.push(group(&name, stack, &text, finds_something()));
    }
    let needs = Needs {
        programs: PROGRAMS,
        ..Needs::default()
    };
    guest::run(place, &layers, step, needs, groups)
}

fn group(name: &str, layers: Vec<String>, text: &str, judge: Judge) -> Group {
    Group {
        name: name.to_string(),
        layers,
        before: "true".into(),
        after: "true".into(),
        checks: vec![Check {
            name: text.to_string(),
            text: text.to_string(),
            judge,
        }],
    }
}

fn is_clean() -> Judge {
    Box::new(|status, said| {
        ensure!(status == 0, "status {status}: {said}");
        Ok(())
    })
}

/// That a checker can find something at all.
fn finds_something() -> Judge {
    Box::new(|status, _| {
        ensure!(status != 0, "it found nothing wrong");
        Ok(())
    })
}
