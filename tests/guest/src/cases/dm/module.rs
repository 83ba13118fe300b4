// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The module of the targets: how it comes and goes, and who does without it.

use super::mapper::{self, Disk, Mapped, Targets, MODULE};
use super::model::{self, Form};
use crate::case::Case;
use crate::cases::support::device::{self, Module, DEVICE};
use crate::cases::support::scratch::Scratch;
use crate::cases::support::{read, tool};
use crate::modules;
use rustix::io::Errno;
use std::fs;

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "comes_with_the_first_table",
        run: comes_with_the_first_table,
    },
    Case {
        name: "stays_while_a_table_uses_it",
        run: stays_while_a_table_uses_it,
    },
    Case {
        name: "vbd_does_without_device_mapper",
        run: vbd_does_without_device_mapper,
    },
    Case {
        name: "both_modules_at_once",
        run: both_modules_at_once,
    },
];

const BYTES: usize = 256 << 10;

fn comes_with_the_first_table() {
    for target in ["zfile_target", "lsmt_target"] {
        let targets = Targets::begin();
        let scratch = Scratch::in_memory();
        let stack = model::stack(111, BYTES, &[Form::Lz4]);
        let disks = Disk::all(&scratch, &stack.files);
        let table = mapper::line(0, 4096, target, &mapper::parts(&disks));
        assert!(!modules::is_loaded(MODULE));
        let mapped = Mapped::new("dm", &table);
        assert!(modules::is_loaded(MODULE));
        drop((mapped, disks, targets));
        assert!(!modules::is_loaded(MODULE));
    }
    // By hand too, by the name of a target or by its own.
    for name in ["dm-zfile_target", "dm-lsmt_target", "vbd_dm"] {
        assert!(modules::probe(&[name]), "modprobe {name}");
        assert!(modules::is_loaded(MODULE), "{name}");
        mapper::unload().expect("rmmod of a module that nobody uses");
    }
}

fn stays_while_a_table_uses_it() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(112, BYTES, &[Form::Lz4]);
    let disks = Disk::all(&scratch, &stack.files);
    let table = mapper::lsmt(BYTES as u64, &mapper::parts(&disks));
    let mapped = Mapped::new("dm", &table);
    assert_eq!(modules::unload(MODULE), Err(Errno::WOULDBLOCK));
    // A table that is only loaded counts as well.
    mapped.load(&table);
    mapped.dmsetup("clear", &[]);
    assert_eq!(modules::unload(MODULE), Err(Errno::WOULDBLOCK));
    read::check_all(&mapped.path(), &stack.disk);
    drop(mapped);
    let empty = tool::run("dmsetup", &["create", "dm", "--notable"]);
    assert_eq!(empty, "");
    tool::run("dmsetup", &["load", "--readonly", "dm", "--table", &table]);
    assert_eq!(modules::unload(MODULE), Err(Errno::WOULDBLOCK));
    tool::run("dmsetup", &["remove", "dm"]);
    assert_eq!(mapper::unload(), Ok(()));
    drop((disks, targets));
}

/// Unloads device-mapper and all that stands on it.
fn unload_device_mapper() {
    for _ in 0..5 {
        let list = fs::read_to_string("/proc/modules").expect("/proc/modules");
        let names = list.lines().filter_map(|line| line.split(' ').next());
        let above = ["dm_mod", "dm_bufio", MODULE];
        for name in names.filter(|name| name.starts_with("dm_") || above.contains(name)) {
            // In the order of the list those come first that others do not need.
            let _ = modules::unload(name);
        }
    }
}

fn vbd_does_without_device_mapper() {
    unload_device_mapper();
    assert!(!modules::is_loaded("dm_mod"), "dm_mod is still needed");
    let scratch = Scratch::in_memory();
    let stack = model::stack(113, BYTES, &[Form::Lz4, Form::Zstd]);
    let files = stack.files.iter().enumerate();
    let files: Vec<_> = files
        .map(|(number, file)| scratch.file(&format!("layer{number}"), file))
        .collect();
    let module = Module::stack(&files, "");
    read::check_all(DEVICE, &stack.disk);
    assert_eq!(module.faults(), device::Faults::default());
    assert!(!modules::is_loaded("dm_mod"), "vbd.ko needs dm_mod");
    module.unload();
}

fn both_modules_at_once() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(114, BYTES, &[Form::Lz4, Form::Plain]);
    let mut disks = Disk::all(&scratch, &stack.files);
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &mapper::parts(&disks)));
    // A mapped device that is as long as a layer is a backing file like any other.
    let layer = model::whole(&stack.disk);
    disks.push(Disk::new(&scratch, "whole", &layer));
    let table = format!("0 {} linear {} 0", layer.len() / 512, disks[2].path());
    let linear = Mapped::new("linear", &table);
    let module = Module::stack(&[linear.path()], "");
    read::check_all(DEVICE, &stack.disk);
    read::check_all(&mapped.path(), &stack.disk);
    assert_eq!(module.faults(), device::Faults::default());
    module.unload();
    drop((linear, mapped, disks, targets));
}
