// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `cargo xtask test`: everything that has to hold, in one run.
//!
//! The order is from cheap to dear: the source text, the lints, the tests on the host, the tests
//! in the virtual machine. A step that fails does not keep the others from running, unless they
//! need what it makes; those then count as failures too, so that nothing is left out silently.

mod audit;
pub(crate) mod fixtures;
mod frames;
mod guest;
mod hangs;
mod host;
mod lint;
mod range;
pub(crate) mod steps;

use crate::kit::Choice;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::process::ExitCode;
use steps::{Count, Step, Steps, Work};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Only one kind of tests
    #[arg(long, value_enum)]
    only: Option<Kind>,
    /// Show every case of the virtual machine, not only those that fail
    #[arg(long, short)]
    verbose: bool,
    /// The long form: everything where a sample would do, and cases that take minutes
    #[arg(long)]
    long: bool,
    /// Parameters that vbd.ko has in every case, to force a path through the driver: inline=0 leaves
    /// all reads to workers, cache_mb=0 keeps nothing decoded
    #[arg(long, value_name = "PARAMETERS")]
    module: Option<String>,
    /// Only cases of the virtual machine whose name contains one of these
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Kind {
    /// Source text, formatting and lints.
    Lint,
    /// Tests that need no virtual machine.
    Host,
    /// Cases in the virtual machine.
    Vm,
}

/// `cargo xtask test`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if args.choice.next {
        // A series that is not there yet is no failed test.
        args.choice.kit()?;
    }
    // Names of cases ask for cases, and only cases depend on the kernel and the module's parameters.
    let name = args.choice.name();
    let cases = !args.cases.is_empty() || name.is_some() || args.module.is_some();
    let only = args.only.or(cases.then_some(Kind::Vm));
    let wanted = |kind| only.is_none_or(|only| only == kind);
    let logs = name.map_or(String::from("test"), |name| format!("test-{name}"));
    let mut steps = Steps::new(&logs)?;
    if wanted(Kind::Lint) {
        lint::workspace(&mut steps)?;
    }
    let needs_kit = wanted(Kind::Lint) || wanted(Kind::Vm);
    let kit = if needs_kit {
        let mut kit = None;
        steps.step("kernel kit", |_| {
            kit = Some(args.choice.kit()?);
            Ok(Count::default())
        })?;
        kit
    } else {
        None
    };
    if wanted(Kind::Lint) {
        lint::module(&mut steps, kit.as_ref())?;
        range::check(&mut steps, kit.as_ref())?;
    }
    // What takes long and needs nothing of each other runs side by side, the longest first.
    let mut works: Vec<(&str, Work<'_>)> = Vec::new();
    let nothing = tempfile::tempdir()?;
    let host = wanted(Kind::Host) && host::build(&mut steps)?;
    if wanted(Kind::Vm) {
        let suites = guest::suites(&mut steps, kit.as_ref(), args, nothing.path())?;
        for suite in suites {
            let kit = kit.as_ref().context("suites without a kit")?;
            let name = suite.name;
            let run = move |step: &Step| suite.run(step, kit, args.verbose);
            works.push((name, Box::new(run)));
        }
        if let (Some(kit), true) = (kit.as_ref(), hangs::is_wanted(&args.cases)) {
            let run = move |step: &Step| hangs::run(step, kit);
            works.push((hangs::NAME, Box::new(run)));
        }
    }
    if host {
        works.push(("host tests", Box::new(host::tests)));
    }
    steps.side_by_side(works)?;
    Ok(steps.finish())
}
