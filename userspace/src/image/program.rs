// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Other programs that do a part of the work. They end when this one does, whatever ends it.
//!
//! A signal that asks to stop ends them first. For all else the kernel does it: between the two
//! programs stands this one a second time, which asks for that and then becomes the other.

use super::output::Bound;
use crate::error::{Error, Result};
use rustix::process::{getppid, set_parent_process_death_signal, Signal};
use std::env::{self, ArgsOs};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// The name under which this program is started to become another.
const NAME: &str = "vbdctl: starts a program";

/// Exit statuses if that fails, as of a shell.
const NOT_FOUND: i32 = 127;
const NOT_STARTED: i32 = 126;

/// Whether the running program knows [`NAME`].
static IN_BETWEEN: AtomicBool = AtomicBool::new(false);

/// Becomes another program if this one was started for that; the first thing that `main` does.
pub fn take_over() {
    let mut arguments = env::args_os();
    if arguments.next().is_none_or(|name| name != NAME) {
        IN_BETWEEN.store(true, Ordering::Relaxed);
        return;
    }
    let error = become_program(arguments);
    let _ = writeln!(io::stderr(), "{error}");
    process::exit(match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_STARTED,
    });
}

/// `arguments`: the number of the process that waits, a program, its arguments.
fn become_program(mut arguments: ArgsOs) -> io::Error {
    let (Some(caller), Some(program)) = (arguments.next(), arguments.next()) else {
        return io::ErrorKind::InvalidInput.into();
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // Who had ended before that is not noticed by the kernel.
    let parent = getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
    if caller != parent.to_string().as_str() {
        return io::Error::other("the caller has ended");
    }
    Command::new(program).args(arguments).exec()
}

/// Runs `command`, the program `name`, which makes something for the file `result` of `source`; its
/// messages become part of the error if it fails.
pub(super) fn run(command: &mut Command, name: &str, source: &Path, result: &Path) -> Result<()> {
    let missing = || Error::unfit(source, format!("needs {name}, which is not here"));
    Bound::prepare(source)?;
    let (child, in_between) = start(command).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => missing(),
        _ => Error::unfit(source, format!("cannot run {name}: {error}")),
    })?;
    let bound = Bound::new(&child);
    let output = child.wait_with_output();
    drop(bound);
    let output = output.map_err(Error::io(source, "cannot wait for a program"))?;
    if output.status.success() {
        return Ok(());
    }
    if in_between && output.status.code() == Some(NOT_FOUND) {
        return Err(missing());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let reason = format!(
        "{name} failed, making {}: {}: {}",
        result.display(),
        output.status,
        text.join("; ")
    );
    Err(Error::unfit(source, reason))
}

/// Starts `command` with this program in between, if that can be; says whether it was.
fn start(command: &mut Command) -> io::Result<(Child, bool)> {
    if IN_BETWEEN.load(Ordering::Relaxed) {
        let caller: OsString = process::id().to_string().into();
        let mut between = Command::new("/proc/self/exe");
        between
            .arg0(NAME)
            .arg(caller)
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => between.env(name, value),
                None => between.env_remove(name),
            };
        }
        match spawn(&mut between) {
            // /proc is not mounted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            child => return Ok((child?, true)),
        }
    }
    Ok((spawn(command)?, false))
}

fn spawn(command: &mut Command) -> io::Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}
