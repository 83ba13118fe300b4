// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Loading and unloading kernel modules, with the kernel's own error numbers.

use rustix::fs::{open, Mode, OFlags};
use rustix::io::Errno;
use rustix::system::{delete_module, finit_module};
use std::ffi::CString;
use std::process::{Command, Stdio};

/// The driver's file.
pub(crate) const DRIVER: &str = "/vbd.ko";

/// Parameters that the driver shall have in every case (`cargo xtask test --module`), but where a case
/// gives them itself.
const FORCED: &str = "VBD_MODULE";

/// Loads the module file at `path` with parameters such as `backfile=/share/a verify=1`.
pub(crate) fn load(path: &str, parameters: &str) -> Result<(), Errno> {
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut all = parameters.to_string();
    if path == DRIVER {
        all += &missing(&std::env::var(FORCED).unwrap_or_default(), parameters);
    }
    let parameters = CString::new(all).map_err(|_| Errno::INVAL)?;
    finit_module(&file, &parameters, 0)
}

/// Those of the parameters `forced` whose names are not among `given`: none may be given twice.
fn missing(forced: &str, given: &str) -> String {
    let name = |parameter: &str| parameter.split('=').next().map(str::to_string);
    let given: Vec<_> = given.split_whitespace().map(name).collect();
    let missing = forced.split_whitespace();
    let missing = missing.filter(|parameter| !given.contains(&name(parameter)));
    missing.map(|parameter| format!(" {parameter}")).collect()
}

/// Unloads a module by its name; fails with `WOULDBLOCK` (`EAGAIN`) while it is in use.
pub(crate) fn unload(name: &str) -> Result<(), Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).map_err(|_| Errno::INVAL)?;
    delete_module(&name, nonblock)
}

/// Whether a module is loaded.
pub(crate) fn is_loaded(name: &str) -> bool {
    std::path::Path::new("/sys/module")
        .join(name)
        .join("initstate")
        .exists()
}

/// Loads stock modules by name, with what they depend on.
pub(crate) fn probe(names: &[&str]) -> bool {
    let mut command = Command::new("/sbin/modprobe");
    command.arg("-a").args(names).stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
