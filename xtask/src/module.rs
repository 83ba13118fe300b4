// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Building the module: the checkout's own Makefile, run inside the kit.
//!
//! For the stock kernel it runs in the checkout, for each kernel of our own in a copy of it.

mod copy;

use crate::cache::{self, Lock};
use crate::kit::{KernelChoice, Kit};
use crate::run::{self, Log};
use anyhow::{bail, Context, Result};
use rustix::pipe::{pipe_with, PipeFlags};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

#[derive(clap::Args)]
pub(crate) struct MakeArgs {
    #[command(flatten)]
    kernel: KernelChoice,
    /// Directory whose Makefile is used instead of the checkout's
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Arguments of make; KDIR is set to the kit's kernel build tree
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

#[derive(clap::Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    kernel: KernelChoice,
    /// Show the compiler command lines
    #[arg(long, short)]
    verbose: bool,
}

/// `cargo xtask make`.
pub(crate) fn make_main(args: &MakeArgs) -> Result<ExitCode> {
    let kit = Kit::choose(args.kernel.chosen())?;
    let place = match &args.directory {
        Some(directory) => {
            let whole = directory
                .canonicalize()
                .with_context(|| format!("cannot open {}", directory.display()))?;
            Place::lock(whole)?
        }
        None => Place::of(&kit)?,
    };
    let status = run::status(make(&kit, &place.directory).args(&args.arguments))?;
    Ok(exit_code(status))
}

/// `cargo xtask build`.
pub(crate) fn build_main(args: &BuildArgs) -> Result<ExitCode> {
    let kit = Kit::choose(args.kernel.chosen())?;
    let place = Place::of(&kit)?;
    let mut command = make(&kit, &place.directory);
    if args.verbose {
        command.arg("V=1");
    }
    let warnings = run_watched(&mut command)?;
    if warnings > 0 {
        bail!("the module's build warned {warnings} times, and warnings are denied");
    }
    println!("{}", place.made()?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the modules, silently unless something is wrong, and hands back the path of `vbd.ko`;
/// `vbd_dm.ko` is beside it.
pub(crate) fn build(kit: &Kit) -> Result<PathBuf> {
    let place = Place::of(kit)?;
    let mut command = make(kit, &place.directory);
    let output = command.output().context("cannot start make")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() || stderr.lines().any(is_warning) {
        eprint!("{stdout}{stderr}");
    }
    if !output.status.success() {
        bail!("make of the module: {}", output.status);
    }
    place.made()
}

/// Builds the modules as a step of something longer.
pub(crate) fn build_logged(kit: &Kit, log: &Log) -> Result<PathBuf> {
    let place = Place::of(kit)?;
    log.run(&mut make(kit, &place.directory))?;
    place.made()
}

/// A directory in which the modules are built, ours alone as long as this is held: builds side by
/// side would write the same files.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    _lock: Lock,
}

impl Place {
    /// The directory for a kernel, with the present sources in it.
    pub(crate) fn of(kit: &Kit) -> Result<Place> {
        let top = crate::checkout()?;
        for name in ["Makefile", "Kbuild"] {
            if !top.join(name).is_file() {
                let top = top.display();
                bail!("{top} has no {name}: the module cannot be built");
            }
        }
        match kit.own {
            None => Place::lock(top),
            Some(own) => Place::aside(own.name()),
        }
    }

    /// A directory of that name, for a build whose results are not those of the others.
    pub(crate) fn aside(name: &str) -> Result<Place> {
        let top = crate::checkout()?;
        let place = Place::lock(top.join("target/module").join(name))?;
        copy::update(&top, &place.directory)?;
        Ok(place)
    }

    fn lock(directory: PathBuf) -> Result<Place> {
        let locks = cache::directory()?.join("locks");
        fs::create_dir_all(&locks)?;
        let name = directory.to_string_lossy().replace('/', "-");
        Ok(Place {
            directory,
            _lock: Lock::take(&locks.join(name), "builds the module")?,
        })
    }

    /// The module that make has made.
    pub(crate) fn made(&self) -> Result<PathBuf> {
        let module = self.directory.join("vbd.ko");
        if !module.is_file() {
            bail!("make succeeded without {}", module.display());
        }
        Ok(module)
    }
}

/// A make inside the kit, on a directory of the host.
pub(crate) fn make(kit: &Kit, directory: &Path) -> Command {
    let mut command = kit.command(&[directory], directory, "make");
    command.arg("--no-print-directory").arg(run::jobs());
    // A named pipe would be named by process number, and every kit's programs are numbered from 1.
    command.arg("--jobserver-style=pipe");
    command.arg(format!("KDIR={}", kit.kdir()));
    // What warns is not made at all, so it warns again the next time.
    command.arg("W=e");
    command.args(kit.make_arguments());
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
