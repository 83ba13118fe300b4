// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! stress-ng, run from the very file system that a disk of vbd carries: its program and libraries are
//! read from there, and so are the files that it maps and looks at.
//!
//! Which of its stressors cannot be used on what is only read stands in `tests/suites/stress-ng.skip`.

use super::file_systems::{self, FILE_SYSTEMS, READER};
use super::guest::{self, Check, Group, Judge, Needs};
use super::layers::Layers;
use super::Place;
use crate::test::steps::{Count, Step};
use anyhow::{ensure, Context, Result};

/// Where the file system is mounted in the guest.
const MOUNTED: &str = "/mnt";
/// Seconds that each stressor takes.
const SECONDS: u32 = 6;

/// Stressors that are left out, and why: a line each.
const SKIPPED: &str = include_str!("../../../tests/suites/stress-ng.skip");

/// Stressors that are run: their names, and their options.
const STRESSORS: &[(&str, &str)] = &[
    // Directories of libraries and programs, mapped and read page by page.
    ("mmapfiles", "--mmapfiles 2 --mmapfiles-populate"),
    ("getdent", "--getdent 2"),
    ("fstat", "--fstat 2 --fstat-dir /usr/lib/x86_64-linux-gnu"),
    // All that can be asked of the disk's node.
    ("dev", "--dev 2 --dev-file /dev/vbd0"),
];

pub(super) fn run(place: &Place, step: &Step) -> Result<Count> {
    let layers = Layers::new(place, step, "stress-ng")?;
    let trees = file_systems::trees(place, &layers)?;
    let mut groups = Vec::new();
    for system in FILE_SYSTEMS {
        groups.push(Group {
            name: system.name.to_string(),
            layers: system.stack(place, &layers, step, &trees)?.0,
            before: format!(
                "set -e; mount -t {name} -o ro /dev/vbd0 {MOUNTED}; \
                 for name in dev proc sys; do mount --rbind /$name {MOUNTED}/$name; done; \
                 mount -t tmpfs none {MOUNTED}/tmp",
                name = system.name
            ),
            after: format!(
                "set -e; for name in dev proc sys tmp; do umount -R {MOUNTED}/$name; done; umount {MOUNTED}"
            ),
            checks: STRESSORS.iter().map(|(name, words)| check(name, words)).collect(),
        });
    }
    // The list of those left out holds for as long as they cannot be run.
    groups[0]
        .checks
        .extend(skipped().map(|(name, _)| cannot_run(name)));
    guest::run(place, &layers, step, Needs::default(), groups)
}

/// The stressors that are left out, with their reasons.
fn skipped() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = SKIPPED.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let (name, reason) = line.split_once(' ')?;
        Some((name, reason.trim()))
    })
}

/// A stressor that does nothing where it may only read.
fn cannot_run(name: &str) -> Check {
    Check {
        name: format!("{name} is left out"),
        text: format!(
            "chroot {MOUNTED} {READER} --{name} 1 --timeout 1s --temp-path /usr --metrics"
        ),
        judge: Box::new(|status, said| {
            let refused = said.contains("must be readable and writeable");
            ensure!(
                status != 0 && refused,
                "it can be run: status {status}: {said}"
            );
            Ok(())
        }),
    }
}

fn check(name: &'static str, words: &str) -> Check {
    let reads = "read reads rest < /sys/block/vbd0/stat; echo \"reads: $reads\"";
    // What is in the page cache is not read again.
    let text = format!(
        "sync; echo 3 > /proc/sys/vm/drop_caches; {reads}; \
         chroot {MOUNTED} {READER} {words} --timeout {SECONDS}s --temp-path /tmp --verify --metrics; \
         status=$?; {reads}; exit $status"
    );
    let judge: Judge = Box::new(move |status, said| {
        ensure!(status == 0, "stress-ng ended with status {status}: {said}");
        let operations = operations(said, name)?;
        ensure!(operations > 0.0, "stress-ng counted no operation");
        let (before, after) = reads_of(said)?;
        ensure!(after > before, "the disk was not read");
        Ok(())
    });
    Check {
        name: name.to_string(),
        text,
        judge,
    }
}

/// The operations that stress-ng has counted, from its table.
fn operations(said: &str, stressor: &str) -> Result<f64> {
    let mut rows = said.lines().filter_map(|line| {
        let (_, row) = line.split_once("] ")?;
        let mut words = row.split_whitespace();
        (words.next()? == stressor).then(|| words.next()?.parse().ok())?
    });
    rows.next()
        .with_context(|| format!("stress-ng's table has no {stressor}: {said}"))
}

/// How many reads the disk had served before and after.
fn reads_of(said: &str) -> Result<(u64, u64)> {
    let lines = said.lines().filter_map(|line| line.strip_prefix("reads: "));
    let numbers: Vec<u64> = lines.filter_map(|word| word.trim().parse().ok()).collect();
    match numbers[..] {
        [before, after] => Ok((before, after)),
        _ => anyhow::bail!("the disk's counters were not read twice"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "reads: 12\n\
        stress-ng: metrc: [59] stressor       bogo ops real time\n\
        stress-ng: metrc: [59] getdent             345     6.00\n\
        reads: 34\n";

    #[test]
    fn each_stressor_that_is_left_out_has_its_reason() {
        let lines = SKIPPED.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), skipped().count());
        for (name, reason) in skipped() {
            assert!(reason.contains(' '), "{name}");
            assert!(STRESSORS.iter().all(|(run, _)| *run != name), "{name}");
        }
    }

    #[test]
    fn counted_operations_are_found_in_the_table() {
        assert_eq!(operations(SAID, "getdent").unwrap(), 345.0);
        assert!(operations(SAID, "fstat").is_err());
    }

    #[test]
    fn a_run_that_left_the_disk_alone_is_seen() {
        let judge = check("getdent", "--getdent 2").judge;
        assert!(judge(0, SAID).is_ok());
        assert!(judge(0, &SAID.replace("34\n", "12\n")).is_err());
        assert!(judge(3, SAID).is_err());
        assert!(judge(0, &SAID.replace("345", "0")).is_err());
    }
}
