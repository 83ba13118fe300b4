// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Running a program inside the kit's root.
//!
//! `setpriv` has the kernel kill `unshare` when we die, and `unshare` has it kill everything in
//! the new process namespace when it dies: an interrupted run leaves neither processes nor mounts.

use anyhow::{Context, Result};
use rustix::mount::{mount, mount_bind_recursive, MountFlags};
use rustix::process::chroot;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that becomes /
    root: PathBuf,
    /// Directory to start in
    directory: PathBuf,
    /// Directory of the host that the program sees under the same path
    #[arg(long)]
    bind: Vec<PathBuf>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// A program with its own mount and process namespaces that ends with us.
pub(super) fn contained(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--fork", "--pid"]);
    command.args(["--kill-child", "--mount-proc", "--propagation", "private"]);
    command.arg(program);
    command
}

pub(crate) fn command(root: &Path, binds: &[&Path], directory: &Path, program: &OsStr) -> Command {
    // Our own binary through our process: its path may already hold another build of it. The
    // process number must be one of the host, so /proc is left as it is until we are inside.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--fork", "--pid"]);
    command.args(["--kill-child", "--mount", "--propagation", "private"]);
    command.arg(format!("/proc/{}/exe", std::process::id()));
    command.arg("enter").arg(root).arg(directory);
    for bind in binds {
        command.arg("--bind").arg(bind);
    }
    command.arg("--").arg(program);
    command
}

/// Mounts, enters the root and becomes the program; already in namespaces of its own.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let inside = |path: &Path| {
        let relative = path.strip_prefix("/").unwrap_or(path);
        args.root.join(relative)
    };
    for path in std::iter::once(Path::new("/dev")).chain(args.bind.iter().map(PathBuf::as_path)) {
        let target = inside(path);
        fs::create_dir_all(&target)
            .with_context(|| format!("cannot make the mount point {}", target.display()))?;
        mount_bind_recursive(path, &target)
            .with_context(|| format!("cannot mount {} in the kit", path.display()))?;
    }
    let proc = inside(Path::new("/proc"));
    mount("proc", &proc, "proc", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount {}", proc.display()))?;
    chroot(&args.root).with_context(|| format!("cannot enter {}", args.root.display()))?;
    std::env::set_current_dir(&args.directory)
        .with_context(|| format!("cannot change to {} in the kit", args.directory.display()))?;

    let (program, rest) = args.command.split_first().context("no program to run")?;
    let mut command = Command::new(program);
    command.args(rest).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("HOME", "/root").env("LC_ALL", "C.UTF-8");
    if let Some(terminal) = std::env::var_os("TERM") {
        command.env("TERM", terminal);
    }
    let program = program.to_string_lossy();
    Err(command.exec()).with_context(|| format!("cannot run {program} in the kit"))
}
