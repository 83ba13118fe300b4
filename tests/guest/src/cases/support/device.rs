// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The module under test, loaded for the time of a case.

use super::kmsg::Log;
use crate::modules;
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The device that `backfile=` makes.
pub(crate) const DEVICE: &str = "/dev/vbd0";
/// Longest time that the kernel may take to let go of a device that was closed.
const RELEASE: Duration = Duration::from_secs(10);

/// The loaded module; unloaded when this goes.
pub(crate) struct Module(());

impl Module {
    /// Loads the module, with parameters as `insmod` takes them.
    pub(crate) fn load(parameters: &str) -> Module {
        let log = Log::mark();
        Module::try_load(parameters).unwrap_or_else(|errno| {
            let said = log.lines();
            panic!("insmod vbd.ko {parameters}: {errno:?}\n{said:#?}")
        })
    }

    /// Loads the module with layers, bottom first, and perhaps further parameters.
    pub(crate) fn stack<P: AsRef<Path>>(layers: &[P], more: &str) -> Module {
        let module = Module::load(&format!("{} {more}", backfile(layers)));
        assert!(Path::new(DEVICE).exists(), "no {DEVICE} after insmod");
        module
    }

    pub(crate) fn try_load(parameters: &str) -> Result<Module, Errno> {
        assert!(
            !modules::is_loaded("vbd"),
            "another case has left the module loaded"
        );
        modules::load(modules::DRIVER, parameters).map(Module)
    }

    /// Tries to unload the module once.
    pub(crate) fn try_unload(self) -> Result<(), (Module, Errno)> {
        match modules::unload("vbd") {
            Ok(()) => {
                std::mem::forget(self);
                Ok(())
            }
            Err(errno) => Err((self, errno)),
        }
    }

    /// Unloads the module now, which has to succeed.
    pub(crate) fn unload(self) {
        drop(self);
        assert!(!modules::is_loaded("vbd"), "the module is still loaded");
        assert!(!Path::new(DEVICE).exists(), "{DEVICE} outlives the module");
    }

    /// A counter of the device.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let path = "/sys/kernel/debug/vbd/vbd0/stats";
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no counter {name} in:\n{text}"));
        value
            .parse()
            .unwrap_or_else(|_| panic!("counter {name} is {value}"))
    }

    /// The counters of faults: checksums, decoding, second reads, requests with an error.
    pub(crate) fn faults(&self) -> Faults {
        Faults {
            crc: self.stat("crc_errors"),
            decode: self.stat("decode_errors"),
            rereads: self.stat("rereads"),
            errors: self.stat("errors"),
        }
    }
}

/// What the device counted of things gone wrong.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Faults {
    pub(crate) crc: u64,
    pub(crate) decode: u64,
    pub(crate) rereads: u64,
    pub(crate) errors: u64,
}

impl Drop for Module {
    fn drop(&mut self) {
        // A file that was closed just now may be released a moment later.
        let end = Instant::now() + RELEASE;
        loop {
            match modules::unload("vbd") {
                Ok(()) => return,
                Err(Errno::WOULDBLOCK | Errno::BUSY) if Instant::now() < end => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(errno) if thread::panicking() => {
                    eprintln!("rmmod vbd: {errno:?}");
                    return;
                }
                Err(errno) => panic!("rmmod vbd: {errno:?}"),
            }
        }
    }
}

/// The `backfile=` parameter for layers, bottom first.
pub(crate) fn backfile<P: AsRef<Path>>(layers: &[P]) -> String {
    let paths: Vec<String> = layers
        .iter()
        .map(|path| path.as_ref().display().to_string())
        .collect();
    format!("backfile={}", paths.join(","))
}

/// An attribute of the device in sysfs, such as `queue/rotational`.
pub(crate) fn attribute(name: &str) -> String {
    let path = PathBuf::from("/sys/block/vbd0").join(name);
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().to_string()
}

/// Size of a file or device in bytes.
pub(crate) fn size(path: &str) -> u64 {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    file.seek(SeekFrom::End(0))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}
