// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Our own programs for the guest: built without shared libraries, since the guest has only
//! those of the few tools it was given.

use anyhow::{bail, Context, Result};
use std::path::PathBuf;
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the program `name` of the workspace's package `package` and hands back its path.
pub(crate) fn build(package: &str, name: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(crate::checkout()?);
    command.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--target",
        TARGET,
    ]);
    command.args(["--package", package, "--bin", name]);
    // With a target named, the flag does not reach build scripts and procedural macros, which
    // cannot be static.
    command.env(
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
        "-C target-feature=+crt-static",
    );
    command.args(["--message-format", "json-render-diagnostics"]);
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().find(|line| line.starts_with("error"));
        let first = first.unwrap_or("error: cargo did not say why");
        bail!("{first} (cargo build --package {package} shows all)");
    }
    match executable(&String::from_utf8_lossy(&output.stdout), name) {
        Some(path) => Ok(path),
        None => bail!("cargo built {package} without saying where {name} is"),
    }
}

/// The path of a program in cargo's messages, one JSON object a line.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let objects = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let mut paths = objects.filter_map(|object: serde_json::Value| {
        let ours = object.get("target")?.get("name")? == name;
        let path = object.get("executable")?.as_str()?;
        ours.then(|| PathBuf::from(path))
    });
    paths.next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"dep"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"vbd-guest"},"executable":"/t/vbd-guest"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(
            executable(messages, "vbd-guest"),
            Some(PathBuf::from("/t/vbd-guest"))
        );
        assert_eq!(executable(messages, "dep"), None);
    }
}
