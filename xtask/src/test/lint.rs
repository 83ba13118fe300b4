// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The text of the sources: formatting, lints, and the project's own rules.

use super::audit;
use super::steps::{Count, Step, Steps, Work};
use crate::kit::Kit;
use crate::module;
use anyhow::{bail, Result};
use std::path::PathBuf;
use std::process::Command;

/// Everything about the cargo workspace, and the rules that hold for all of the tree.
pub(super) fn workspace() -> Vec<(&'static str, Work<'static>)> {
    vec![
        ("rules of the sources (unsafe, licences)", Box::new(rules)),
        ("rustfmt", Box::new(rustfmt)),
        ("clippy", Box::new(clippy)),
    ]
}

fn rules(step: &Step) -> Result<Count> {
    let findings = audit::tree(&crate::checkout()?)?;
    for finding in &findings {
        step.note(finding.to_string());
    }
    match findings.len() {
        0 => Ok(Count::default()),
        count => bail!("{count} places break a rule of the sources"),
    }
}

fn rustfmt(step: &Step) -> Result<Count> {
    component(step, "fmt", "rustfmt")?;
    step.run(cargo()?.args(["fmt", "--all", "--check"]))?;
    // The fuzzers' engine is a workspace of its own. It denies warnings when it is built.
    let engine = ["--manifest-path", "tests/fuzz/engine/Cargo.toml"];
    step.run(cargo()?.args(["fmt", "--check"]).args(engine))?;
    Ok(Count::default())
}

fn clippy(step: &Step) -> Result<Count> {
    component(step, "clippy", "clippy")?;
    let mut clippy = cargo()?;
    clippy.args(["clippy", "--locked", "--workspace", "--all-targets"]);
    step.run(clippy.args(["--", "--deny", "warnings"]))?;
    Ok(Count::default())
}

/// Formatting and lints of the modules, inside the kit.
pub(super) fn module(steps: &mut Steps, kit: Option<&Kit>) -> Result<()> {
    let names = ["rustfmt of the modules", "clippy of the modules"];
    let Some(kit) = kit else {
        for name in names {
            steps.blocked(name, "the kernel kit");
        }
        return Ok(());
    };
    steps.step(names[0], |step| {
        let place = module::Place::of(kit)?;
        let text = step.run(module::make(kit, &place.directory).arg("rustfmt-check"))?;
        deny_warnings(&text)
    })?;
    steps.step(names[1], |step| {
        // What clippy makes is no module for anybody, so it has a place of its own, where it stays:
        // it is made again when the sources change, or when it warned and was not made at all.
        let place = module::Place::aside("clippy")?;
        let mut make = module::make(kit, &place.directory);
        let text = step.run(make.args(["modules", "CLIPPY=1"]))?;
        deny_warnings(&text)
    })?;
    Ok(())
}

/// Builds the modules; hands back the path of `vbd.ko`, and `vbd_dm.ko` is beside it.
pub(super) fn build_module(steps: &mut Steps, kit: &Kit) -> Result<Option<PathBuf>> {
    let mut made = None;
    steps.step("build of the modules", |step| {
        let place = module::Place::of(kit)?;
        let text = step.run(&mut module::make(kit, &place.directory))?;
        let module = place.made()?;
        deny_warnings(&text)?;
        made = Some(module);
        Ok(Count::default())
    })?;
    Ok(made)
}

fn deny_warnings(log: &str) -> Result<Count> {
    let warnings = log.lines().filter(|line| module::is_warning(line)).count();
    if warnings > 0 {
        bail!("{warnings} warnings, and warnings are denied");
    }
    Ok(Count::default())
}

/// Cargo at the top of the checkout.
pub(super) fn cargo() -> Result<Command> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(crate::checkout()?);
    command.env("CARGO_TERM_COLOR", "never");
    Ok(command)
}

/// Makes sure that a part of the toolchain is there, which minimal installations leave out.
fn component(step: &Step, verb: &str, name: &str) -> Result<()> {
    if step.try_run(cargo()?.args([verb, "--version"]))?.0 {
        return Ok(());
    }
    println!("      this machine's cargo lacks {name}; adding it with rustup");
    let mut rustup = Command::new("rustup");
    rustup.current_dir(crate::checkout()?);
    step.run(rustup.args(["component", "add", name]))?;
    Ok(())
}
