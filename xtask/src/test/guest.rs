// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The cases that run in the virtual machine.
//!
//! Which cases there are is asked of the guest's program on the host, so a case that the guest did
//! not come to is known, and counts as failed.

mod cases;
mod checks;
mod left_out;

use super::steps::{Count, Step, Steps};
use super::{fixtures, frames, hangs, lint};
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

/// The boots and their themes, those first that take longest: they run side by side, and the more there are
/// the less is one of them waited for at the end. The first one takes the themes that no other one names.
const BOOTS: [(&str, &[&str]); 7] = [
    ("cases of all other themes", &[]),
    (INJECTED, &["faults_injected"]),
    (FIXTURES, &["fixtures", "dm_fixtures"]),
    (
        "cases of errors, faults and lifecycle",
        &["errors", "faults", "lifecycle"],
    ),
    ("cases of device-mapper", &["dm"]),
    ("cases of reads and variants", &["reads", "variants"]),
    ("cases of damage", &["corrupt"]),
];
/// The boot whose cases make the kernel itself run out of memory.
const INJECTED: &str = "cases of injected faults";
/// What the kernel then says of itself through no fault of ours. `blk_mq_alloc_tag_set()` of 7.2 cleans
/// its SRCU up without waiting for the tags that it frees when requests find no memory, and warns of it
/// (block/blk-mq.c, `out_cleanup_tags_srcu`); the driver mends what that leaves.
const ALLOWED: &[&str] = &["kernel/rcu/srcutree.c:730 at cleanup_srcu_struct"];
/// The boot whose cases need the fixtures.
const FIXTURES: &str = "cases of fixtures";

/// Tells the guest's program, by its presence in the environment, that it is the long form.
const LONG: &str = "VBD_LONG";

/// Tells it parameters that the module shall have in every case.
const MODULE: &str = "VBD_MODULE";

/// One boot of the machine.
pub(super) struct Suite {
    pub(super) name: &'static str,
    spec: Spec,
    cases: Vec<String>,
    long: bool,
    module: Option<String>,
}

/// Builds our programs for the guest, which takes no kit.
pub(super) fn programs(_: &Step) -> Result<Count> {
    for name in ["vbdctl", "vbd-guest"] {
        program::build(name, name)?;
    }
    Ok(Count::default())
}

/// Builds what else the guest needs, and says what is to be run in it. `nothing` is an empty directory
/// that outlives the suites.
pub(super) fn suites(
    steps: &mut Steps,
    kit: Option<&Kit>,
    args: &super::Args,
    nothing: &Path,
) -> Result<Vec<Suite>> {
    let Some(kit) = kit else {
        steps.blocked("virtual machine", "the kernel kit");
        return Ok(Vec::new());
    };
    let module = lint::build_module(steps, kit)?;
    // What kernels of our own check takes room that nobody has to do without.
    if let (Some(module), None) = (&module, kit.own) {
        frames::check(steps, kit, module)?;
    }
    let mut files = Vec::new();
    let mut all = Vec::new();
    let ready = steps.step("files for the guest", |step| {
        if let Some(module) = &module {
            files.extend(stripped(step, kit, module)?);
        }
        let vbdctl = program::build("vbdctl", "vbdctl")?;
        files.push((vbdctl, "/usr/bin/vbdctl".to_string()));
        let guest = program::build("vbd-guest", "vbd-guest")?;
        let mut list = Command::new(guest);
        list.arg("list");
        if args.long {
            list.env(LONG, "1");
        }
        if kit.checks_itself() {
            list.arg("--debug");
        }
        let list = run::stdout(&mut list)?;
        all = list.lines().map(str::to_string).collect();
        Ok(Count::default())
    })?;
    if module.is_none() || !ready {
        steps.blocked("virtual machine", "the module and the guest's files");
        return Ok(Vec::new());
    }
    let left_out = left_out::take_out(&mut all, kit.own)?;
    let patterns = &args.cases;
    all.retain(|name| patterns.is_empty() || patterns.iter().any(|part| name.contains(part)));
    if all.is_empty() && !hangs::is_wanted(patterns) {
        bail!("no case matches {}", patterns.join(" "));
    }
    for line in left_out {
        steps.remark(line);
    }
    let mut suites = Vec::new();
    for (name, cases) in boots(all) {
        // An empty directory: the guest writes to its copy.
        let mut share = nothing.to_path_buf();
        if name == FIXTURES {
            match fixtures::find()? {
                Ok(found) => share = found,
                Err(reason) => {
                    steps.remark(format!("SKIPPED fixtures: {reason}"));
                    continue;
                }
            }
        }
        let allowed = if name == INJECTED { ALLOWED } else { &[] };
        let spec = Spec {
            // The kernel under User-Mode Linux that checks itself has room for one.
            processors: if kit.is_uml() { 1 } else { 2 },
            share: Some(share),
            allowed: allowed.iter().map(ToString::to_string).collect(),
            files: files.clone(),
            // Hours would do: a machine that is stuck is given up sooner.
            timeout: Duration::from_secs(3600) * kit.slowness(),
            append: kit.own.map_or("", |_| checks::APPEND).to_string(),
            ..Spec::default()
        };
        suites.push(Suite {
            name,
            spec,
            cases,
            long: args.long,
            module: args.module.clone(),
        });
    }
    Ok(suites)
}

/// The cases of each boot that has some.
fn boots(all: Vec<String>) -> Vec<(&'static str, Vec<String>)> {
    let mut boots = BOOTS.map(|(name, _)| (name, Vec::new())).to_vec();
    for case in all {
        let theme = case.split("::").next().unwrap_or_default();
        let named = BOOTS.iter().position(|(_, themes)| themes.contains(&theme));
        boots[named.unwrap_or(0)].1.push(case);
    }
    boots.retain(|(_, cases)| !cases.is_empty());
    boots
}

/// The modules without debugging information and without that of BPF, which an emulated machine takes
/// long to load and nobody there looks at. `module` is the path of `vbd.ko`.
fn stripped(step: &Step, kit: &Kit, module: &Path) -> Result<Vec<(PathBuf, String)>> {
    let from = module.parent().context("the module lies in no directory")?;
    let to = step
        .path()
        .parent()
        .context("the log lies in no directory")?;
    let mut files = Vec::new();
    for name in ["vbd.ko", "vbd_dm.ko"] {
        let mut strip = kit.command(&[from, to], from, "strip");
        strip
            .args(["--strip-debug", "--remove-section=.BTF*", "-o"])
            .arg(to.join(name));
        step.run(strip.arg(name))?;
        files.push((to.join(name), format!("/{name}")));
    }
    Ok(files)
}

impl Suite {
    /// Boots a machine, runs the cases in it, and judges what they and the kernel said.
    pub(super) fn run(self, step: &Step, kit: &Kit, verbose: bool) -> Result<Count> {
        let words: Vec<String> = self
            .cases
            .iter()
            .map(|name| run::quoted(name.as_ref()))
            .collect();
        let mut form = String::new();
        if self.long {
            form += &format!("export {LONG}=1; ");
        }
        if let Some(module) = &self.module {
            form += &format!("export {MODULE}={}; ", run::quoted(module.as_ref()));
        }
        // One stream keeps a panic's words and the line of its case in order.
        let words = words.join(" ");
        let debug = if kit.checks_itself() { "--debug" } else { "" };
        let text = format!("{form}exec vbd-guest run {debug} --exact {words} 2>&1");
        boot(
            step,
            kit,
            &self.spec,
            &text,
            Results::new(self.cases, verbose),
        )
    }
}

fn boot(step: &Step, kit: &Kit, spec: &Spec, text: &str, results: Results) -> Result<Count> {
    let output = RefCell::new(Output {
        log: step.log()?,
        results,
    });
    let mut vm = vm::boot(kit, spec)?;
    let ended = vm.exec(text, &mut Sink(&output), &mut Sink(&output))?;
    let left = match kit.own {
        Some(own) => checks::left(&mut vm, own)?,
        None => Vec::new(),
    };
    let report = vm.shut_down()?;
    let Output { results, .. } = output.into_inner();
    let mut count = results.finish(step);
    if let Some((bytes, task)) = checks::least_stack(&report.console) {
        println!("      of {task}'s stack {bytes} bytes were left, the least of all");
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_boot() {
        let all = [
            "errors::a",
            "fixtures::b",
            "new::c",
            "lifecycle::d",
            "dm_fixtures::e",
            "faults_injected::f",
            "dm::g",
            "reads::h",
            "corrupt::i",
        ];
        let boots = boots(all.map(str::to_string).to_vec());
        let found: Vec<_> = boots
            .iter()
            .map(|(name, cases)| (*name, cases.len()))
            .collect();
        let expected = BOOTS
            .map(|(name, _)| name)
            .into_iter()
            .zip([1, 1, 2, 2, 1, 1, 1]);
        let expected: Vec<_> = expected.collect();
        assert_eq!(found, expected);
    }
}
