// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The text of the sources: formatting, lints, and the project's own rules.

use super::audit;
use super::steps::{Count, Step, Steps};
use crate::kit::Kit;
use crate::module;
use anyhow::{bail, Result};
use std::path::PathBuf;
use std::process::Command;

/// Everything about the cargo workspace, and the rules that hold for all of the tree.
pub(super) fn workspace(steps: &mut Steps) -> Result<()> {
    steps.step("rules of the sources (unsafe, licences)", |_| {
        let findings = audit::tree(&crate::checkout()?)?;
        for finding in &findings {
            println!("      {finding}");
        }
        match findings.len() {
            0 => Ok(Count::default()),
            count => bail!("{count} places break a rule of the sources"),
        }
    })?;
    steps.step("rustfmt", |step| {
        component(step, "fmt", "rustfmt")?;
        step.run(cargo()?.args(["fmt", "--all", "--check"]))?;
        Ok(Count::default())
    })?;
    steps.step("clippy", |step| {
        component(step, "clippy", "clippy")?;
        let mut clippy = cargo()?;
        clippy.args(["clippy", "--locked", "--workspace", "--all-targets"]);
        step.run(clippy.args(["--", "--deny", "warnings"]))?;
        Ok(Count::default())
    })?;
    Ok(())
}

/// Formatting, lints and build of the module, inside the kit.
pub(super) fn module(steps: &mut Steps, kit: Option<&Kit>) -> Result<()> {
    for (name, goal) in [
        ("rustfmt of the module", "rustfmt-check"),
        ("clippy of the module", "clippy"),
    ] {
        let Some(kit) = kit else {
            steps.blocked(name, "the kernel kit");
            continue;
        };
        steps.step(name, |step| {
            let place = module::Place::of(kit)?;
            let text = step.run(module::make(kit, &place.directory).arg(goal))?;
            deny_warnings(&text)
        })?;
    }
    Ok(())
}

/// Builds the modules; hands back the path of `vbd.ko`, and `vbd_dm.ko` is beside it.
pub(super) fn build_module(steps: &mut Steps, kit: &Kit) -> Result<Option<PathBuf>> {
    let mut made = None;
    steps.step("build of the module", |step| {
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
