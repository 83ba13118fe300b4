// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Man pages and shell completions of vbdctl.
//!
//! vbdctl makes them itself, out of the tree that parses its command line; the crates for that are
//! built into it only here.

use crate::run;
use anyhow::{bail, Result};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that gets man/ and completions/ [default: target]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// `cargo xtask man`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let output = match &args.output {
        Some(output) => std::path::absolute(output)?,
        None => crate::checkout()?.join("target"),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(crate::checkout()?);
    command.args(["run", "--quiet", "--locked", "--package", "vbdctl"]);
    command
        .args(["--features", "docs", "--", "docs"])
        .arg(&output);
    let status = run::status(&mut command)?;
    if !status.success() {
        bail!("vbdctl did not write its pages: {status}");
    }
    for name in ["man", "completions"] {
        println!("{}", output.join(name).display());
    }
    Ok(ExitCode::SUCCESS)
}
