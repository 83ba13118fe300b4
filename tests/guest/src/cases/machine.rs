// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The test machine itself is what the other cases take it for.

use crate::case::Case;
use crate::modules;
use rustix::io::Errno;
use std::fs;
use std::process::Command;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "two_processors",
        run: two_processors,
    },
    Case {
        name: "file_systems",
        run: file_systems,
    },
    Case {
        name: "stock_modules",
        run: stock_modules,
    },
    Case {
        name: "module_errors",
        run: module_errors,
    },
];

fn two_processors() {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    assert_ne!(online.trim(), "0", "races need at least two processors");
}

fn file_systems() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    for place in [
        "/proc",
        "/sys",
        "/dev",
        "/tmp",
        "/run",
        "/sys/kernel/debug",
        "/sys/kernel/config",
    ] {
        let mounted = mounts
            .lines()
            .any(|line| line.split(' ').nth(1) == Some(place));
        assert!(mounted, "{place} is not mounted:\n{mounts}");
    }
}

fn stock_modules() {
    for (module, file_system) in [
        ("erofs", "erofs"),
        ("squashfs", "squashfs"),
        ("overlay", "overlay"),
    ] {
        assert!(modules::probe(&[module]), "modprobe {module}");
        let known = fs::read_to_string("/proc/filesystems").unwrap();
        assert!(
            known
                .lines()
                .any(|line| line.ends_with(&format!("\t{file_system}"))),
            "{known}"
        );
    }
    assert!(modules::probe(&["loop", "dm-mod"]), "modprobe loop dm-mod");
    let version = Command::new("dmsetup").arg("version").output().unwrap();
    assert!(version.status.success(), "{version:?}");
}

fn module_errors() {
    assert_eq!(modules::load("/does/not/exist", ""), Err(Errno::NOENT));
    assert_eq!(modules::load("/bin/busybox", ""), Err(Errno::NOEXEC));
    assert_eq!(modules::unload("no_such_module"), Err(Errno::NOENT));
    assert!(!modules::is_loaded("no_such_module"));
}
