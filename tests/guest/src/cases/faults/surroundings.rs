// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A reader with little memory, and processors that come and go.

use super::mixed;
use crate::case::Case;
use crate::cases::support::device::{Faults, Module, DEVICE};
use crate::cases::support::scratch::{Mounted, Scratch};
use crate::cases::support::{digest, read, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::rng::Rng;

pub(in crate::cases) const CASES: &[Case] =
    crate::cases::cases![little_memory_for_the_reader, processors_come_and_go];

/// A group of processes with 16 MiB, gone with this value.
struct Group {
    place: PathBuf,
    _mounted: Mounted,
}

impl Group {
    const BYTES: usize = 16 << 20;

    fn new() -> Group {
        let root = Path::new("/run/cgroup");
        let mounted = Mounted::new("cgroup2", root, "cgroup2", false);
        fs::write(root.join("cgroup.subtree_control"), "+memory").expect("+memory");
        let place = root.join("case");
        fs::create_dir(&place).expect("a group");
        fs::write(place.join("memory.max"), Self::BYTES.to_string()).expect("memory.max");
        Group {
            place,
            _mounted: mounted,
        }
    }

    /// Runs shell text in the group and hands back what it printed.
    fn run(&self, text: &str) -> String {
        let enter = format!("echo $$ >{}", self.place.join("cgroup.procs").display());
        tool::run("sh", &["-c", &format!("{enter} && {text}")])
    }

    /// A number that the kernel counts under this name.
    fn event(&self, name: &str) -> u64 {
        let text = fs::read_to_string(self.place.join("memory.events")).expect("memory.events");
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let value = lines.find(|(found, _)| *found == name);
        value.expect(name).1.parse().expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.place) {
            assert!(thread::panicking(), "rmdir of the group: {error}");
        }
    }
}

/// The disk is larger than the reader's memory: pages are given back while it reads, and what the
/// driver needs is not the reader's to pay.
fn little_memory_for_the_reader() {
    let scratch = Scratch::new();
    let disk = Rng(360).noise(1 << 20).repeat(20);
    let mut records = Vec::new();
    let sectors = disk.len() as u64 / 512;
    for first in (0..sectors).step_by(16_376) {
        records.push(Record::data(
            first,
            (sectors - first).min(16_376),
            8 + first,
        ));
    }
    let digest = digest::of(&disk);
    let layer = Spec::new(disk.len() as u64, disk, &records).build();
    let layer = scratch.file("layer", &layer);
    let module = Module::stack(&[layer], "");
    let group = Group::new();
    for how in ["", "iflag=direct"] {
        read::drop_caches();
        let said = group.run(&format!(
            "dd if={DEVICE} bs=256k {how} 2>/dev/null | sha256sum"
        ));
        assert_eq!(said.split(' ').next(), Some(digest.as_str()), "{how}");
    }
    assert!(group.event("max") > 0, "the limit was never met");
    assert_eq!((group.event("oom"), group.event("oom_kill")), (0, 0));
    assert_eq!(module.faults(), Faults::default());
    drop(group);
    module.unload();
}

/// A processor goes off and on while readers are on both and workers anywhere.
fn processors_come_and_go() {
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";

    let scratch = Scratch::new();
    let (disk, layers) = mixed(&scratch, 361, 1 << 20);
    let module = Module::stack(&layers, "");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..3 {
            let (disk, over) = (&disk, &over);
            scope.spawn(move || {
                let mut rng = Rng(362 + reader);
                while !over.load(Ordering::Relaxed) {
                    let file = match reader {
                        0 => read::direct(DEVICE),
                        _ => read::buffered(DEVICE),
                    };
                    if reader == 2 {
                        read::drop_caches();
                    }
                    let length = 4096 * (1 + rng.below(64)) as usize;
                    let offset = rng.below((disk.len() - length) as u64 / 512) * 512;
                    read::check(&file, disk, offset, length);
                }
            });
        }
        for _ in 0..4 {
            for state in ["0", "1"] {
                fs::write(SWITCH, state).expect(SWITCH);
                thread::sleep(Duration::from_millis(50));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(module.faults(), Faults::default());
    module.unload();
    // One that was off while the device came is as good as any.
    fs::write(SWITCH, "0").expect(SWITCH);
    let module = Module::stack(&layers, "");
    fs::write(SWITCH, "1").expect(SWITCH);
    read::check_all(DEVICE, &disk);
    module.unload();
}
