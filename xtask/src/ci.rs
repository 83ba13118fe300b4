// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `cargo xtask ci`: lanes, each a command of xtask, one after another, whatever becomes of the others.
//!
//! Each has a process of its own, so that a lane that panics or runs out of memory ends alone, and a
//! log of its own in `target/ci`.

use crate::fuzz;
use crate::kit::{Kit, Own, Series};
use crate::not_had::NotHad;
use crate::test::steps::{Count, Step, Steps};
use anyhow::{bail, Result};
use std::collections::BTreeSet;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The long form, which takes hours
    #[arg(long)]
    full: bool,
    /// Leave out a lane, such as one that has just been run by itself
    #[arg(long, value_name = "LANE")]
    except: Vec<String>,
    /// Run no lane, but make what takes long and the lanes of the short form stand on: to be run at a
    /// low priority beside the test command, which leaves processors idle now and then
    #[arg(long, conflicts_with_all = ["full", "except"])]
    prepare: bool,
}

/// Longest wait for the test command to make the stock kernel's kit, which is first in everybody's way.
const STOCK_KIT: Duration = Duration::from_secs(1200);

/// In which form a lane runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Both,
    Short,
    Full,
}

/// All lanes, in their order: name, form, words of the command.
const LANES: &[(&str, Form, &[&str])] = &[
    ("test", Form::Both, &["test"]),
    (
        "damaged images",
        Form::Full,
        &["test", "--long", "corrupt::"],
    ),
    (
        "kernel with KASAN, as a program",
        Form::Both,
        &["test", "--debug=uml"],
    ),
    ("self-checking kernel", Form::Full, &["test", "--debug"]),
    ("fuzz", Form::Short, &["fuzz", "--seconds", "60"]),
    ("fuzz", Form::Full, &["fuzz", "--seconds", "900"]),
    ("suites", Form::Full, &["suites"]),
    ("next kernel: build", Form::Full, &["build", "--next"]),
    ("next kernel: test", Form::Full, &["test", "--next"]),
    ("bench", Form::Full, &["bench", "--quick"]),
];

/// `cargo xtask ci`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if args.prepare {
        prepare()?;
        return Ok(ExitCode::SUCCESS);
    }
    let lanes = chosen(args.full, &args.except)?;
    let mut steps = Steps::new("ci")?;
    for (name, words) in lanes {
        let mut remarks = Vec::new();
        steps.step(name, |step| lane(step, words, &mut remarks))?;
        for remark in remarks {
            steps.remark(remark);
        }
    }
    Ok(steps.finish())
}

/// Makes the fuzzers' program, and the kernel with KASAN. What cannot be made is told by the lane that needs
/// it, which tries again.
fn prepare() -> Result<()> {
    let fuzzers = fuzz::prepare();
    let limit = Instant::now() + STOCK_KIT;
    while !Kit::is_there(Series::Kit)? && Instant::now() < limit {
        thread::sleep(Duration::from_secs(1));
    }
    Kit::choose(Some(Own::UmlKasan))?;
    fuzzers
}

/// Runs a lane. What was left out in it goes to `remarks`.
fn lane(step: &Step, words: &[&str], remarks: &mut Vec<String>) -> Result<Count> {
    // Our own binary through our process: its path may already hold another build of it.
    let mut command = Command::new(format!("/proc/{}/exe", std::process::id()));
    let (status, said) = step.status(command.args(words))?;
    let left_out = left_out(&said);
    match status.code() {
        Some(0) => remarks.extend(left_out),
        Some(code) if code == i32::from(NotHad::STATUS) => {
            let reason = left_out.into_iter().next_back().unwrap_or_default();
            let reason = reason.trim_start_matches("NOT HAD: ");
            return Err(NotHad(reason.to_string()).into());
        }
        _ => bail!("cargo xtask {}: {status}", words.join(" ")),
    }
    Ok(Count {
        passed: 1,
        failed: 0,
    })
}

/// The lines by which a command says that something was left out, each once.
fn left_out(said: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in said.lines().map(str::trim) {
        let begins = ["NOT HAD", "SKIPPED"];
        if begins.iter().any(|word| line.starts_with(word)) && !lines.iter().any(|l| l == line) {
            lines.push(line.to_string());
        }
    }
    lines
}

/// The lanes of a form without those that are left out.
fn chosen(full: bool, except: &[String]) -> Result<Vec<(&'static str, &'static [&'static str])>> {
    if let Some(name) = except
        .iter()
        .find(|name| LANES.iter().all(|lane| lane.0 != **name))
    {
        let names: BTreeSet<&str> = LANES.iter().map(|lane| lane.0).collect();
        let names: Vec<&str> = names.into_iter().collect();
        bail!("no lane {name}; there are {}", names.join(", "));
    }
    let other = if full { Form::Short } else { Form::Full };
    let lanes = LANES
        .iter()
        .filter(|(name, form, _)| *form != other && except.iter().all(|left| left != name));
    Ok(lanes.map(|(name, _, words)| (*name, *words)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_lanes_under_names_of_their_own() {
        for (full, few) in [(false, 3), (true, 9)] {
            let lanes = chosen(full, &[]).unwrap();
            assert_eq!(lanes[0].0, "test");
            assert!(lanes.len() >= few);
            // Logs are called by them.
            let names: BTreeSet<&str> = lanes.iter().map(|(name, _)| *name).collect();
            assert_eq!(names.len(), lanes.len());
        }
        let rest = chosen(false, &["test".to_string()]).unwrap();
        assert!(rest.iter().all(|(name, _)| *name != "test"));
        assert!(chosen(false, &["tests".to_string()]).is_err());
    }

    #[test]
    fn what_a_lane_leaves_out_is_told_once() {
        let said = "ok    fio\nNOT HAD blktests: x\n\nNOT HAD blktests: x\nSKIPPED fixtures: y\n";
        assert_eq!(
            left_out(said),
            ["NOT HAD blktests: x", "SKIPPED fixtures: y"]
        );
    }
}
