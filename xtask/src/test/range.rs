// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! That the Makefile refuses kernels outside the range of `kmod/kernels.mk`, and no others; and paths
//! that make cannot take.

use super::steps::{Count, Steps};
use crate::kit::Kit;
use anyhow::{ensure, Result};
use std::fs;
use std::path::Path;

/// Releases outside any range, and the series that has to be named.
const OUTSIDE: [(&str, &str); 3] = [
    ("6.12.1+deb13-amd64", "6.12"),
    ("7.1.99", "7.1"),
    ("99.0-rc1-cloud-amd64", "99.0"),
];

pub(super) fn check(steps: &mut Steps, kit: Option<&Kit>) -> Result<()> {
    let name = "kernels outside the range are refused";
    let Some(kit) = kit else {
        steps.blocked(name, "the kernel kit");
        return Ok(());
    };
    steps.step(name, |_| {
        for (release, series) in OUTSIDE {
            let said = make(kit, release, &[])?;
            let words = format!("is of series {series}, and the modules are made for ");
            ensure!(said.contains(&words), "{release}: make said {said}");
            ensure!(said.lines().count() == 1, "{release}: not one line: {said}");
            let said = make(kit, release, &["ANY_KERNEL=1"])?;
            ensure!(!said.contains("series"), "{release}, ANY_KERNEL: {said}");
        }
        let said = make(kit, &kit.release, &[])?;
        ensure!(!said.contains("series"), "{}: {said}", kit.release);
        let tree = tempfile::Builder::new().prefix("a space ").tempdir()?;
        let said = make_with(kit, tree.path(), &[])?;
        let words = format!(
            "a path with a space in it cannot be built in: \"{}\"",
            tree.path().display()
        );
        ensure!(said.contains(&words), "make said {said}");
        ensure!(said.lines().count() == 1, "not one line: {said}");
        Ok(Count {
            passed: 2 * OUTSIDE.len() as u64 + 2,
            failed: 0,
        })
    })?;
    Ok(())
}

/// What make says of a tree that has a kernel's name and nothing else, so that it must stop.
fn make(kit: &Kit, release: &str, words: &[&str]) -> Result<String> {
    let tree = tempfile::tempdir()?;
    let config = tree.path().join("include/config");
    fs::create_dir_all(&config)?;
    fs::write(tree.path().join("Makefile"), "")?;
    fs::write(config.join("auto.conf"), "CONFIG_RUST=y\n")?;
    fs::write(config.join("kernel.release"), format!("{release}\n"))?;
    make_with(kit, tree.path(), words)
}

/// What make says of a tree where it must stop.
fn make_with(kit: &Kit, tree: &Path, words: &[&str]) -> Result<String> {
    let top = crate::checkout()?;
    let binds: [&Path; 2] = [&top, tree];
    let mut make = kit.command(&binds, &top, "make");
    make.arg(format!("KDIR={}", tree.display()));
    let output = make.args(words).output()?;
    ensure!(!output.status.success(), "{}: make went on", tree.display());
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
