// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What disks of vbd and of its device-mapper targets answer, beside a loop device on the same image.
//!
//! Where they answer otherwise, `tests/suites/ioctls.differences` says how and why; any other difference is a
//! failure, and so is a line there that no longer holds. The questions are in `tests/suites/ioctls.pl`.

use super::guest::{self, Check, Group, Judge, Needs, TOOLS};
use super::layers::Layers;
use super::Place;
use crate::test::steps::{Count, Step};
use anyhow::{bail, ensure, Context, Result};
use std::collections::BTreeMap;
use std::fs;

const QUESTIONS: &str = include_str!("../../../tests/suites/ioctls.pl");
const DIFFERENCES: &str = include_str!("../../../tests/suites/ioctls.differences");

const PERL: &str = "/usr/bin/perl";
const SIZE: u64 = 16 << 20;

/// Disks that are asked, their nodes, and loop devices that nobody has asked before.
const DISKS: [(&str, &str, &str); 2] = [
    ("vbd", "/dev/vbd0", "/dev/loop0"),
    ("dm", "/dev/mapper/asked", "/dev/loop2"),
];

pub(super) fn run(place: &Place, step: &Step) -> Result<Count> {
    let layers = Layers::new(place, step, "ioctls")?;
    layers.image("share/image", SIZE)?;
    layers.create("share/image", "layer", &["-f", "plain"], &[])?;
    fs::write(layers.share().join("ioctls.pl"), QUESTIONS)?;
    let sectors = SIZE / 512;
    let group = Group {
        name: "beside loop".into(),
        layers: vec!["layer".into()],
        before: format!(
            "set -e; modprobe -a loop dm_mod; insmod /vbd_dm.ko; cp /share/ioctls.pl {TOOLS}/tmp; \
             for number in 0 2; do losetup --read-only /dev/loop$number /share/image; done; \
             losetup --read-only /dev/loop1 /share/layer; \
             dmsetup create asked --readonly --table \
             \"0 {sectors} lsmt_target /dev/loop1 $(stat -c %s /share/layer)\""
        ),
        after: "set -e; dmsetup remove asked; rmmod vbd_dm; losetup --detach-all".into(),
        checks: DISKS
            .map(|(name, node, beside)| check(name, node, beside))
            .into(),
    };
    let needs = Needs {
        programs: &[PERL],
        ..Needs::default()
    };
    guest::run(place, &layers, step, needs, vec![group])
}

fn check(name: &'static str, node: &str, beside: &str) -> Check {
    let ask = format!("chroot {TOOLS} {PERL} /tmp/ioctls.pl");
    let judge: Judge = Box::new(move |status, said| {
        ensure!(status == 0, "status {status}: {said}");
        let (ours, theirs) = said.split_once("== loop\n").context("no loop")?;
        let wrong = compare(&answers(ours), &answers(theirs), &rows(DIFFERENCES, name)?);
        ensure!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
        Ok(())
    });
    Check {
        name: name.to_string(),
        text: format!("{ask} {node} && echo '== loop' && {ask} {beside}"),
        judge,
    }
}

/// A difference that there has to be: what the disk answers, what the loop device does.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    ours: String,
    theirs: String,
}

/// The answer of a disk that was not asked, or has no such attribute.
const NONE: &str = "-";

/// The rows of a disk. A line is: disk, question, its answer, the loop device's, why.
fn rows(text: &str, disk: &str) -> Result<BTreeMap<String, Row>> {
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let words: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [of, question, ours, theirs, why] = words[..] else {
            bail!("a line without its five parts: {line}");
        };
        ensure!(why.contains(' '), "a line without a reason: {line}");
        ensure!(
            DISKS.iter().any(|(name, ..)| *name == of),
            "a line about an unknown disk: {line}"
        );
        let row = Row {
            ours: ours.to_string(),
            theirs: theirs.to_string(),
        };
        if of == disk && rows.insert(question.to_string(), row).is_some() {
            bail!("a second line about the same: {line}");
        }
    }
    Ok(rows)
}

/// The answers, by question.
fn answers(said: &str) -> BTreeMap<String, String> {
    let lines = said.lines().filter_map(|line| line.split_once(" = "));
    lines
        .map(|(question, answer)| (question.to_string(), answer.trim().to_string()))
        .collect()
}

/// What is not as it has to be, a line each.
fn compare(
    ours: &BTreeMap<String, String>,
    theirs: &BTreeMap<String, String>,
    rows: &BTreeMap<String, Row>,
) -> Vec<String> {
    let of = |answers: &BTreeMap<String, String>, question: &str| {
        answers.get(question).cloned().unwrap_or(NONE.to_string())
    };
    let mut questions: Vec<&String> = ours
        .keys()
        .chain(theirs.keys())
        .chain(rows.keys())
        .collect();
    questions.sort();
    questions.dedup();
    let mut wrong = Vec::new();
    for question in questions {
        let (our, their) = (of(ours, question), of(theirs, question));
        let good = match rows.get(question) {
            Some(row) => row.ours == our && row.theirs == their,
            None => our == their,
        };
        if !good {
            wrong.push(format!("{question} | {our} | {their}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_read() {
        for (name, ..) in DISKS {
            assert!(!rows(DIFFERENCES, name).unwrap().is_empty());
        }
        assert!(rows("vbd | a | 1 | 2\n", "vbd").is_err());
        assert!(rows("vbd | a | 1 | 2 | no\n", "vbd").is_err());
        assert!(rows("xyz | a | 1 | 2 | not a disk\n", "vbd").is_err());
    }

    #[test]
    fn every_difference_has_a_line_and_every_line_a_difference() {
        let table = rows(
            "vbd | a | 1 | 2 | it is so\nvbd | b | 7 | - | it is so\n",
            "vbd",
        )
        .unwrap();
        let theirs = answers("a = 2\nc = 3\n");
        assert_eq!(
            compare(&answers("a = 1\nb = 7\nc = 3\n"), &theirs, &table),
            [""; 0]
        );
        let wrong = compare(&answers("a = 2\nb = 7\nc = 4\n"), &theirs, &table);
        assert_eq!(wrong, ["a | 2 | 2", "c | 4 | 3"]);
        assert_eq!(
            compare(&answers("a = 1\nc = 3\n"), &theirs, &table),
            ["b | - | -"]
        );
    }
}
