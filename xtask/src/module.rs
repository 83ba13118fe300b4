// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Building the module: the checkout's own Makefile, run inside the kit.

use crate::kit::Kit;
use crate::run;
use anyhow::{bail, Context, Result};
use rustix::pipe::{pipe_with, PipeFlags};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

#[derive(clap::Args)]
pub(crate) struct MakeArgs {
    /// Directory whose Makefile is used instead of the checkout's
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Arguments of make; KDIR is set to the kit's kernel build tree
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

#[derive(clap::Args)]
pub(crate) struct BuildArgs {
    /// Fail when anything warns
    #[arg(long)]
    deny_warnings: bool,
    /// Show the compiler command lines
    #[arg(long, short)]
    verbose: bool,
}

/// `cargo xtask make`.
pub(crate) fn make_main(args: &MakeArgs) -> Result<ExitCode> {
    let kit = Kit::prepare(false)?;
    let directory = match &args.directory {
        Some(directory) => directory
            .canonicalize()
            .with_context(|| format!("cannot open {}", directory.display()))?,
        None => crate::checkout()?,
    };
    let status = run::status(make(&kit, &directory).args(&args.arguments))?;
    Ok(exit_code(status))
}

/// `cargo xtask build`.
pub(crate) fn build_main(args: &BuildArgs) -> Result<ExitCode> {
    let kit = Kit::prepare(false)?;
    let module = build(&kit, args.deny_warnings, args.verbose)?;
    println!("{}", module.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds `vbd.ko` at the top of the checkout and hands back its path.
pub(crate) fn build(kit: &Kit, deny_warnings: bool, verbose: bool) -> Result<PathBuf> {
    let top = crate::checkout()?;
    for name in ["Makefile", "Kbuild"] {
        if !top.join(name).is_file() {
            bail!(
                "{} has no {name}: the module cannot be built",
                top.display()
            );
        }
    }
    let mut command = make(kit, &top);
    if verbose {
        command.arg("V=1");
    }
    let warnings = run_watched(&mut command)?;
    if deny_warnings && warnings > 0 {
        bail!("the module's build warned {warnings} times, and warnings are denied");
    }
    let module = top.join("vbd.ko");
    if !module.is_file() {
        bail!("make succeeded without {}", module.display());
    }
    Ok(module)
}

/// A make inside the kit, on a directory of the host.
pub(crate) fn make(kit: &Kit, directory: &Path) -> Command {
    let mut command = kit.command(&[directory], directory, "make");
    command.arg("--no-print-directory").arg(run::jobs());
    // A named pipe would be named by process number, and every kit's programs are numbered from 1.
    command.arg("--jobserver-style=pipe");
    command.arg(format!("KDIR={}", kit.kdir()));
    command
}

/// Runs a build with its output passed on, and counts the warnings in it.
fn run_watched(command: &mut Command) -> Result<usize> {
    // One pipe for both streams keeps their lines in order.
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
    command.stdin(Stdio::null());
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = run::spawn(command)?;
    // The command holds our ends of the pipe, and the pipe must end with the child.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut warnings = 0;
    for line in BufReader::new(File::from(reader)).split(b'\n') {
        let line = line.context("cannot read make's output")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        warnings += usize::from(is_warning(&line));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("make of the module: {status}");
    }
    Ok(warnings)
}

/// Whether a line of a build's output begins a warning of rustc, gcc, modpost, ld or make.
pub(crate) fn is_warning(line: &str) -> bool {
    let lower = line.trim_start().to_ascii_lowercase();
    lower.starts_with("warning:") || lower.starts_with("warning[") || lower.contains(": warning:")
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_of_every_tool_are_seen() {
        for line in [
            "warning: unused variable: `x`",
            "  warning[E0133]: call to unsafe function",
            "kmod/sys/shim.c:3:5: warning: unused variable 'x' [-Wunused-variable]",
            "WARNING: modpost: missing MODULE_DESCRIPTION() in vbd.o",
            "make[3]: warning: jobserver unavailable",
            "ld: warning: vbd.o: missing .note.GNU-stack section",
        ] {
            assert!(is_warning(line), "{line}");
        }
        for line in [
            "  RUSTC [M] warning.o",
            "-Wno-warning",
            "   = note: `#[warn(dead_code)]`",
        ] {
            assert!(!is_warning(line), "{line}");
        }
    }
}
