// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What must not outlive the program: names of unfinished files, programs that it runs.
//!
//! Signals that ask to stop are taken by a thread, which clears that away and then lets the signal
//! end the program, as it would have done without it.

use crate::error::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::process::{pidfd_open, pidfd_send_signal, waitid, Pid, PidfdFlags, Signal};
use rustix::process::{WaitId, WaitIdOptions};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Signals that ask to stop.
const STOP: [i32; 5] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU];

static STARTED: Mutex<bool> = Mutex::new(false);
static LEFTOVERS: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());
static LIMITED: AtomicBool = AtomicBool::new(false);

enum Leftover {
    Name(PathBuf),
    Child(u32, OwnedFd),
}

fn leftovers() -> MutexGuard<'static, Vec<Leftover>> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a file that grows past the limit for its size an error of writing, not the program's end.
pub(super) fn outlive_size_limit() {
    if !LIMITED.swap(true, Ordering::Relaxed) {
        // If that cannot be had the program ends, which leaves no more behind than another end.
        let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    }
}

/// Starts the thread, once; what was ignored when the program began stays so.
fn watch() -> io::Result<()> {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if *started {
        return Ok(());
    }
    let ignored = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
            u64::from_str_radix(mask?.trim(), 16).ok()
        })
        .unwrap_or(0);
    let mut signals = Signals::new(
        STOP.iter()
            .filter(|&signal| ignored >> (signal - 1) & 1 == 0),
    )?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                // Held to the end: nothing gets its final name any more.
                let mut leftovers = leftovers();
                for leftover in leftovers.drain(..) {
                    leftover.clear();
                }
                let _ = emulate_default_handler(signal);
            }
        })?;
    *started = true;
    Ok(())
}

impl Leftover {
    /// Nothing more can be done about what does not go away.
    fn clear(self) {
        match self {
            Self::Name(name) => {
                let _ = fs::remove_file(name);
            }
            Self::Child(_, child) => {
                let _ = pidfd_send_signal(&child, Signal::KILL);
                // It is gone when this one is, and not a moment later.
                let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                let _ = waitid(WaitId::PidFd(child.as_fd()), ended);
            }
        }
    }
}

/// The name of an unfinished file, which goes away with this value or the program.
#[derive(Debug)]
pub(in crate::image) struct Unfinished(PathBuf);

impl Unfinished {
    /// Takes care of the name `path`, which is not there yet; `make` makes it.
    pub(super) fn make<T>(
        path: PathBuf,
        make: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<(T, Self)> {
        watch()?;
        // A signal finds the name made and listed, or neither.
        let mut list = leftovers();
        let made = make(&path)?;
        list.push(Leftover::Name(path.clone()));
        Ok((made, Self(path)))
    }

    /// The name.
    pub(in crate::image) fn path(&self) -> &Path {
        &self.0
    }

    /// Gives the file another name by `publish`, if that succeeds.
    pub(super) fn publish(self, publish: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let list = leftovers();
        let result = publish(&self.0);
        drop(list);
        // The old name is gone, or goes now.
        drop(self);
        result
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut list = leftovers();
        let _ = fs::remove_file(&self.0);
        list.retain(|leftover| !matches!(leftover, Leftover::Name(name) if *name == self.0));
    }
}

/// A program that ends with this one.
#[derive(Debug)]
pub(in crate::image) struct Bound(u32);

impl Bound {
    /// What has to be done before a program is started for `about`.
    pub(in crate::image) fn prepare(about: &Path) -> Result<()> {
        watch().map_err(Error::io(about, "cannot watch for signals"))
    }

    /// Takes care of `child`, which has not been waited for.
    pub(in crate::image) fn new(child: &Child) -> Self {
        // A kernel without such descriptors has no way to name it for sure.
        if let Ok(descriptor) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) {
            leftovers().push(Leftover::Child(child.id(), descriptor));
        }
        Self(child.id())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        leftovers().retain(|leftover| !matches!(leftover, Leftover::Child(id, _) if *id == self.0));
    }
}
