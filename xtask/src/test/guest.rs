// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The cases that run in the virtual machine.
//!
//! Which cases there are is asked of the guest's program on the host, so a case that the guest did
//! not come to is known, and counts as failed.

mod cases;
mod checks;

use super::steps::{Count, Step, Steps};
use super::{fixtures, lint};
use crate::kit::Kit;
use crate::run;
use crate::vm::{self, program, Ended, Spec};
use anyhow::{bail, Context, Result};
use cases::Results;
use std::cell::RefCell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The themes whose cases need the fixtures.
const FIXTURES: &[&str] = &["fixtures", "dm_fixtures"];

/// One boot of the machine.
struct Suite {
    name: &'static str,
    /// What the guest sees at `/share`.
    share: PathBuf,
    cases: Vec<String>,
}

/// Builds what the guest needs, boots it and runs the cases.
pub(super) fn run(
    steps: &mut Steps,
    kit: Option<&Kit>,
    patterns: &[String],
    verbose: bool,
) -> Result<()> {
    let Some(kit) = kit else {
        steps.blocked("virtual machine", "the kernel kit");
        return Ok(());
    };
    let module = lint::build_module(steps, kit)?;
    let mut files = Vec::new();
    let mut all = Vec::new();
    let programs = steps.step("build of the guest's programs", |step| {
        if let Some(module) = &module {
            files.extend(stripped(step, kit, module)?);
        }
        let vbdctl = program::build("vbdctl", "vbdctl")?;
        files.push((vbdctl, "/usr/bin/vbdctl".to_string()));
        let guest = program::build("vbd-guest", "vbd-guest")?;
        let list = run::stdout(Command::new(guest).arg("list"))?;
        all = list.lines().map(str::to_string).collect();
        Ok(Count::default())
    })?;
    if module.is_none() || !programs {
        steps.blocked("virtual machine", "the module and the guest's programs");
        return Ok(());
    }
    let wanted: Vec<String> = all
        .into_iter()
        .filter(|name| patterns.is_empty() || patterns.iter().any(|part| name.contains(part)))
        .collect();
    if wanted.is_empty() {
        bail!("no case matches {}", patterns.join(" "));
    }
    let own = |name: &String| {
        let theme = name.split("::").next();
        theme.is_some_and(|theme| FIXTURES.contains(&theme))
    };
    let (with, without) = wanted.into_iter().partition(own);
    suites(steps, kit, files, with, without, verbose)
}

/// The modules without debugging information, which an emulated machine takes long to load and
/// nobody there looks at. `module` is the path of `vbd.ko`.
fn stripped(step: &Step, kit: &Kit, module: &Path) -> Result<Vec<(PathBuf, String)>> {
    let from = module.parent().context("the module lies in no directory")?;
    let to = step
        .path()
        .parent()
        .context("the log lies in no directory")?;
    let mut files = Vec::new();
    for name in ["vbd.ko", "vbd_dm.ko"] {
        let mut strip = kit.command(&[from, to], from, "strip");
        strip.args(["--strip-debug", "-o"]).arg(to.join(name));
        step.run(strip.arg(name))?;
        files.push((to.join(name), format!("/{name}")));
    }
    Ok(files)
}

fn suites(
    steps: &mut Steps,
    kit: &Kit,
    files: Vec<(PathBuf, String)>,
    with_fixtures: Vec<String>,
    without: Vec<String>,
    verbose: bool,
) -> Result<()> {
    let mut suites = Vec::new();
    let nothing = tempfile::tempdir()?;
    if !with_fixtures.is_empty() {
        match fixtures::find()? {
            Ok(share) => suites.push(Suite {
                name: "fixtures in the virtual machine",
                share,
                cases: with_fixtures,
            }),
            Err(reason) => steps.remark(format!("SKIPPED fixtures: {reason}")),
        }
    }
    if !without.is_empty() {
        suites.push(Suite {
            name: "cases in the virtual machine",
            // An empty directory: the guest writes to its copy.
            share: nothing.path().to_path_buf(),
            cases: without,
        });
    }
    for suite in suites {
        let spec = Spec {
            share: Some(suite.share.clone()),
            files: files.clone(),
            timeout: Duration::from_secs(900) * kit.slowness(),
            ..Spec::default()
        };
        let mut shown = Vec::new();
        steps.step(suite.name, |step| {
            boot(step, kit, &spec, suite.cases, verbose, &mut shown)
        })?;
        for line in shown {
            println!("{line}");
        }
    }
    Ok(())
}

/// Boots a machine, runs the cases in it, and judges what they and the kernel said.
fn boot(
    step: &Step,
    kit: &Kit,
    spec: &Spec,
    cases: Vec<String>,
    verbose: bool,
    shown: &mut Vec<String>,
) -> Result<Count> {
    let words: Vec<String> = cases
        .iter()
        .map(|name| run::quoted(name.as_ref()))
        .collect();
    // One stream keeps a panic's words and the line of its case in order.
    let text = format!("exec vbd-guest run --exact {} 2>&1", words.join(" "));
    let output = RefCell::new(Output {
        log: step.log()?,
        results: Results::new(cases, verbose),
    });
    let mut vm = vm::boot(kit, spec)?;
    let ended = vm.exec(&text, &mut Sink(&output), &mut Sink(&output))?;
    let left = match kit.debug {
        Some(_) => checks::left(&mut vm)?,
        None => Vec::new(),
    };
    let report = vm.shut_down()?;
    let Output { results, .. } = output.into_inner();
    let mut count = results.finish(shown);
    if !left.is_empty() {
        println!("      what the kernel's own checks say at the end:");
        for line in &left {
            println!("      | {line}");
        }
        count.failed += 1;
    }
    if let Ended::Lost(reason) = &ended {
        println!("      the machine was lost: {reason}");
        count.failed += 1;
    }
    if !report.complaints.is_empty() {
        // Complaints are failures by themselves, whatever the cases say.
        report.show();
        count.failed += 1;
    }
    let agrees = ended == Ended::Status(i32::from(count.failed > 0));
    if count.failed == 0 && !agrees {
        bail!("all cases passed, and yet the guest's program ended as {ended:?}");
    }
    if count.failed > 0 {
        println!("      (whole log: {})", step.path().display());
    }
    Ok(count)
}

/// Takes what the guest prints.
struct Output {
    log: std::fs::File,
    results: Results,
}

struct Sink<'a>(&'a RefCell<Output>);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut output = self.0.borrow_mut();
        output.log.write_all(bytes)?;
        output.results.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
