// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What a case must not leave behind, and the end of it, so that one case that fails does not take
//! all that come after it along.

use crate::modules;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Modules under test, those first that stand on others.
const MODULES: [&str; 2] = ["vbd_dm", "vbd"];

/// Names what is left, after trying to get rid of it.
pub(crate) fn remove() -> Vec<String> {
    let loaded = |name: &&str| modules::is_loaded(name);
    let left: Vec<&str> = MODULES.into_iter().filter(loaded).collect();
    if left.is_empty() {
        return Vec::new();
    }
    // Whatever stands on a device, then the devices, then their module.
    for place in mounts() {
        run("umount", &["-l", &place]);
    }
    run("dmsetup", &["remove_all", "--force"]);
    run("losetup", &["--detach-all"]);
    detach_all();
    for name in &left {
        let _ = modules::unload(name);
    }
    let said = |name: &&str| match modules::is_loaded(name) {
        false => format!("module {name}"),
        true => format!("module {name}, which cannot be unloaded"),
    };
    left.iter().map(said).collect()
}

/// Mount points of devices under test and of those made of them, the innermost first.
fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let devices = ["/dev/vbd", "/dev/mapper/", "/dev/dm-", "/dev/loop"];
    let lines = text.lines().rev();
    let ours = lines.filter(|line| devices.iter().any(|device| line.starts_with(device)));
    ours.filter_map(|line| Some(line.split(' ').nth(1)?.to_string()))
        .collect()
}

/// Takes all devices of configfs apart.
fn detach_all() {
    for device in directories(Path::new("/sys/kernel/config/vbd")) {
        let _ = fs::write(device.join("power"), "0");
        for layer in directories(&device) {
            let _ = fs::remove_dir(layer);
        }
        let _ = fs::remove_dir(device);
    }
}

fn directories(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_dir()).collect()
}

/// Runs a program; whether it succeeds shows in what is left.
fn run(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}
