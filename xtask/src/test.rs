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
mod misuse;
mod range;
pub(crate) mod steps;

use crate::kit::Choice;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::process::ExitCode;
use std::sync::OnceLock;
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
    // The kit is made of what is fetched, which leaves a processor idle; cargo works meanwhile.
    let (kit, built) = (OnceLock::new(), OnceLock::new());
    let mut works: Vec<(&str, Work<'_>)> = Vec::new();
    if wanted(Kind::Lint) || wanted(Kind::Vm) {
        let make = |_: &Step| {
            let _ = kit.set(args.choice.kit()?);
            Ok(Count::default())
        };
        works.push(("kernel kit", Box::new(make)));
    }
    if wanted(Kind::Lint) {
        works.extend(lint::workspace());
    }
    if wanted(Kind::Vm) {
        works.push(("build of the guest's programs", Box::new(guest::programs)));
    }
    if wanted(Kind::Host) {
        let build = |step: &Step| {
            let count = host::build(step)?;
            let _ = built.set(());
            Ok(count)
        };
        works.push(("build of the host tests", Box::new(build)));
    }
    steps.side_by_side(works)?;
    let kit = kit.get();
    if wanted(Kind::Lint) {
        lint::module(&mut steps, kit)?;
        range::check(&mut steps, kit)?;
        misuse::check(&mut steps, kit)?;
    }
    // What takes long and needs nothing of each other runs side by side, the longest first.
    let mut works: Vec<(&str, Work<'_>)> = Vec::new();
    let nothing = tempfile::tempdir()?;
    if wanted(Kind::Vm) {
        let suites = guest::suites(&mut steps, kit, args, nothing.path())?;
        for suite in suites {
            let kit = kit.context("suites without a kit")?;
            let name = suite.name;
            let run = move |step: &Step| suite.run(step, kit, args.verbose);
            works.push((name, Box::new(run)));
        }
        if let (Some(kit), true) = (kit, hangs::is_wanted(&args.cases)) {
            let run = move |step: &Step| hangs::run(step, kit);
            works.push((hangs::NAME, Box::new(run)));
        }
    }
    if built.get().is_some() {
        works.push(("host tests", Box::new(host::tests)));
    } else if wanted(Kind::Host) {
        steps.blocked("host tests", "their build");
    }
    steps.side_by_side(works)?;
    Ok(steps.finish())
}
