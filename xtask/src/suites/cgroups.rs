// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Control groups: what a reader of a disk of vbd is charged and held to, beside a reader of a loop device on a
//! file of the same bytes. The readers are in `tests/suites/cgroups.sh`.

use super::fio;
use super::guest::{self, Check, Group, Judge, Needs};
use super::layers::Layers;
use super::Place;
use crate::test::steps::{Count, Step};
use anyhow::{bail, ensure, Context, Result};
use std::fs;

const SCRIPT: &str = include_str!("../../../tests/suites/cgroups.sh");

/// What is charged has to be at least so many tenths of what it is with loop.
const TENTHS: u64 = 9;

pub(super) fn run(place: &Place, step: &Step) -> Result<Count> {
    let layers = Layers::new(place, step, "cgroups")?;
    fio::write_text(place, &layers, step, "share/image")?;
    layers.create("share/image", "layer", &["-f", "plain"], &[])?;
    fs::write(layers.share().join("cgroups.sh"), SCRIPT)?;
    let read = "sh /share/cgroups.sh";
    let group = Group {
        name: "plain".into(),
        layers: vec!["layer".into()],
        before: "modprobe loop && losetup --read-only /dev/loop0 /share/image".into(),
        after: "losetup --detach /dev/loop0".into(),
        checks: vec![Check {
            name: "beside loop".into(),
            text: format!(
                "{read} /dev/vbd0 /share/layer && echo '== loop' && {read} /dev/loop0 /share/image"
            ),
            judge: judge(),
        }],
    };
    let needs = Needs {
        programs: &[fio::PROGRAM],
        ..Needs::default()
    };
    guest::run(place, &layers, step, needs, vec![group])
}

fn judge() -> Judge {
    Box::new(|status, said| {
        ensure!(status == 0, "status {status}: {said}");
        if let Some(line) = said.lines().find(|line| line.starts_with("failed")) {
            bail!("a reader {line}: {said}");
        }
        let (ours, theirs) = said.split_once("== loop\n").context("no loop")?;
        for name in [
            "read of the disk below, in bytes",
            "hundredths of a second at three MiB a second",
            "cached, in bytes",
        ] {
            let (our, their) = (figure(ours, name)?, figure(theirs, name)?);
            ensure!(their > 0, "{name}: loop has none");
            ensure!(our * 10 >= their * TENTHS, "{name}: {our}, loop {their}");
        }
        let most = figure(ours, "most memory within 32 MiB, in bytes")?;
        ensure!(most <= 32 << 20, "a group of 32 MiB had {most} bytes");
        Ok(())
    })
}

/// A figure of the script's.
fn figure(said: &str, name: &str) -> Result<u64> {
    let mut lines = said.lines().filter_map(|line| line.split_once(" = "));
    let found = lines.find(|(found, _)| *found == name);
    let (_, figure) = found.with_context(|| format!("no line about: {name}"))?;
    figure
        .trim()
        .parse()
        .with_context(|| format!("{name} = {figure}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str =
        "read of the disk below, in bytes = 100\nhundredths of a second at three MiB a second = 800\n\
        cached, in bytes = 100\nmost memory within 32 MiB, in bytes = 5\n";

    #[test]
    fn less_than_with_loop_is_found() {
        let said = |ours: &str| format!("{ours}== loop\n{SAID}");
        assert!(judge()(0, &said(SAID)).is_ok());
        assert!(judge()(0, &said(&SAID.replacen("100", "80", 1))).is_err());
        assert!(judge()(0, &said(&SAID.replace("= 8", "= 1"))).is_err());
        assert!(judge()(0, &said(&SAID.replace("= 5", "= 33554433"))).is_err());
        assert!(judge()(0, &said(&format!("failed = 1\n{SAID}"))).is_err());
        assert!(judge()(1, &said(SAID)).is_err());
    }
}
