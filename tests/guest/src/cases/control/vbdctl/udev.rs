// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The rule for udev, with udev itself.

use super::done;
use crate::cases::support::device::Module;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool::run;
use crate::cases::support::{content, layers, read};
use std::fs;
use std::path::Path;

const RULES: &str = include_str!("../../../../../../userspace/dist/60-vbd.rules");

/// A running udev that has our rule and no other.
struct Udev;

impl Udev {
    fn start() -> Udev {
        fs::create_dir_all("/etc/udev/rules.d").expect("the directory of rules");
        let rules = "/etc/udev/rules.d/60-vbd.rules";
        fs::write(rules, RULES).expect("the rules");
        run("udevadm", &["verify", rules]);
        run("systemd-udevd", &["--daemon", "--resolve-names=never"]);
        Udev
    }

    /// Waits until all that happened so far is done with.
    fn settle(&self) {
        run("udevadm", &["settle", "--timeout=30"]);
    }
}

impl Drop for Udev {
    fn drop(&mut self) {
        let _ = std::process::Command::new("udevadm")
            .args(["control", "--exit"])
            .status();
        let _ = fs::remove_dir_all("/run/udev");
    }
}

/// Names of a device and of its partition come with it and go with it.
pub(super) fn links() {
    const START: usize = 64;
    let module = Module::load("");
    let scratch = Scratch::new();
    let mut disk = content::disk(41, 1 << 20);
    let sectors = disk.len() / 512 - START;
    content::put_mbr(&mut disk, &[(START, sectors)]);
    let layer = layers::create(&scratch, "layer", &disk, &["--format=lz4"]);
    let layer = layer.display().to_string();

    let udev = Udev::start();
    let node = done(&["attach", "--name=web", &layer]);
    let other = done(&["attach", "--name=other", &layer]);
    for disk in [&node, &other] {
        run("partx", &["--add", disk]);
    }
    udev.settle();
    let by_name = |name: &str| Path::new("/dev/disk/by-vbd").join(name);
    for (name, disk) in [("web", &node), ("other", &other)] {
        let link = fs::canonicalize(by_name(name)).expect("the disk's link");
        assert_eq!(link, Path::new(disk));
        let part = fs::canonicalize(by_name(&format!("{name}-part1"))).expect("the part's link");
        assert_eq!(part, Path::new(&format!("{disk}p1")));
    }
    read::check_all(&by_name("web").display().to_string(), &disk);
    let part = by_name("web-part1").display().to_string();
    read::check_all(&part, &disk[START * 512..]);

    done(&["detach", "web"]);
    udev.settle();
    assert!(
        fs::symlink_metadata(by_name("web")).is_err(),
        "a link is left"
    );
    assert!(fs::symlink_metadata(part).is_err(), "a part's link is left");
    assert!(by_name("other").exists());
    done(&["detach", "other"]);
    udev.settle();
    drop(udev);
    module.unload();
}
