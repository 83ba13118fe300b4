// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What each attribute takes and says, and when.

mod layers;

use crate::case::Case;
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, stack, Dir};
use crate::cases::support::kmsg::Log;
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use crate::modules;
use rustix::io::Errno;
use rustix::thread::{capabilities, set_capabilities, CapabilitySet};
use std::fs::{self};
use std::path::Path;

use layers::{
    a_descriptor_shows_its_file, attributes_are_no_layers, files_that_are_no_layers,
    layer_directories_may_go, layers_without_gaps, names_of_layers,
};

macro_rules! cases {
    ($($name:ident)*) => {
        pub(crate) const CASES: &[Case] = &[$(Case { name: stringify!($name), run: $name },)*];
    };
}

cases! {
    defaults
    bad_values
    names_of_layers
    files_that_are_no_layers
    attributes_are_no_layers
    read_only_attributes
    fixed_while_on
    layer_directories_may_go
    size_is_the_disks
    errors_name_the_layer
    layers_without_gaps
    busy_while_open
    a_descriptor_shows_its_file
    the_module_stays
    root_without_its_capability
}

/// The root user of a container has every file's mode on its side, and yet may not make disks.
fn root_without_its_capability() {
    let module = Module::load("");
    let scratch = Scratch::in_memory();
    let (_, layers) = stack(&scratch, 16 << 10);
    let dir = Dir::new("a");
    dir.layer(0, &layers[0]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sets = capabilities(None).expect("capabilities");
            sets.effective.remove(CapabilitySet::SYS_ADMIN);
            set_capabilities(None, sets).expect("fewer of them");
            let layer = layers[0].display().to_string();
            for (attribute, value) in [
                ("power", "1"),
                ("power", "0"),
                ("size", "512"),
                ("verify", "0"),
                ("logical_block_size", "4096"),
                ("partscan", "1"),
                ("read_only", "1"),
                ("0/path", &layer),
                ("0/fd", "0"),
            ] {
                assert_eq!(dir.set(attribute, value), Err(Errno::PERM), "{attribute}");
            }
            assert_eq!(dir.make_below("1"), Err(Errno::PERM));
            assert_eq!(Dir::named("b").make(), Err(Errno::PERM));
            // To look is allowed.
            assert_eq!(dir.get("power"), "0");
            assert_eq!(dir.get("0/path"), layer);
        });
    });
    assert_eq!(
        dir.get("size"),
        "0",
        "a size that nobody was allowed to set"
    );
    dir.set("power", "1").expect("with the capability");
    dir.detach();
    assert_nothing_left();
    module.unload();
}

fn defaults() {
    let module = Module::load("");
    let dir = Dir::new("a");
    for (attribute, value) in [
        ("size", "0"),
        ("verify", "1"),
        ("direct", "0"),
        ("logical_block_size", "512"),
        ("partscan", "0"),
        ("read_only", "1"),
        ("power", "0"),
        ("device", ""),
        ("state", "off"),
        ("error", ""),
        ("stat", ""),
    ] {
        assert_eq!(dir.get(attribute), value, "{attribute}");
    }
    dir.make_below("0").unwrap();
    for attribute in ["path", "fd", "inode"] {
        assert_eq!(dir.get(&format!("0/{attribute}")), "", "{attribute}");
    }
    assert_eq!(dir.set("power", "0"), Ok(()), "off is off");
    assert_eq!(dir.make(), Err(Errno::EXIST), "a name is taken once");
    dir.clear().unwrap();
    assert_nothing_left();
    module.unload();
}

fn bad_values() {
    let module = Module::load("");
    let dir = Dir::new("a");
    for (attribute, values, errno) in [
        (
            "size",
            &[
                "x",
                "\n",
                "-1",
                "513",
                "0x200",
                "1 2",
                "18446744073709551616",
            ][..],
            Errno::INVAL,
        ),
        // Above the largest disk there is, and in whole sectors.
        (
            "size",
            &["18446744073709551104", "576460752303423999"],
            Errno::INVAL,
        ),
        ("verify", &["2", "\n", "yes", "-1", "01"], Errno::INVAL),
        ("direct", &["2", "\n", "on"], Errno::INVAL),
        (
            "logical_block_size",
            &["0", "511", "1024", "8192", "4k", "-512", "\n", "4294967808"],
            Errno::INVAL,
        ),
        ("partscan", &["2", "\n", "on", "01"], Errno::INVAL),
        ("read_only", &["2", "\n", "no"], Errno::INVAL),
        ("read_only", &["0"], Errno::ROFS),
        ("power", &["2", "\n", "on", "11"], Errno::INVAL),
    ] {
        for value in values {
            assert_eq!(
                dir.set(attribute, value),
                Err(errno),
                "{attribute} {value:?}"
            );
        }
    }
    for (attribute, value) in [
        ("size", "0"),
        ("verify", "1"),
        ("direct", "0"),
        ("logical_block_size", "512"),
        ("partscan", "0"),
        ("read_only", "1"),
        ("power", "0"),
    ] {
        assert_eq!(dir.get(attribute), value, "{attribute} after bad values");
    }
    for (attribute, value, shown) in [
        ("size", " 1024\n", "1024"),
        ("size", "0", "0"),
        ("verify", "0\n", "0"),
        ("verify", "1", "1"),
        ("direct", "1\n", "1"),
        ("direct", "0", "0"),
        ("logical_block_size", "4096\n", "4096"),
        ("logical_block_size", "512", "512"),
        ("partscan", "1\n", "1"),
        ("partscan", "0", "0"),
        ("read_only", "1\n", "1"),
    ] {
        assert_eq!(dir.set(attribute, value), Ok(()), "{attribute} {value:?}");
        assert_eq!(dir.get(attribute), shown);
    }
    dir.clear().unwrap();
    module.unload();
}

fn read_only_attributes() {
    let module = Module::load("");
    let dir = Dir::new("a");
    dir.make_below("0").unwrap();
    for attribute in ["device", "state", "error", "stat", "0/inode"] {
        let result = dir.set(attribute, "x");
        assert!(
            matches!(result, Err(Errno::ACCESS | Errno::PERM)),
            "{attribute}: {result:?}"
        );
    }
    dir.clear().unwrap();
    module.unload();
}

fn fixed_while_on() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let dir = Dir::attach("a", &layers);
    for (attribute, value) in [
        ("size", "1024"),
        ("verify", "0"),
        ("direct", "1"),
        ("logical_block_size", "4096"),
        ("partscan", "1"),
        ("read_only", "1"),
        ("0/path", "/etc/passwd"),
        ("0/fd", "0"),
    ] {
        assert_eq!(dir.set(attribute, value), Err(Errno::BUSY), "{attribute}");
    }
    // What is no value at all is told first.
    assert_eq!(dir.set("size", "x"), Err(Errno::INVAL));
    assert_eq!(dir.make_below("2"), Err(Errno::BUSY), "mkdir of a layer");
    assert_eq!(
        dir.remove(),
        Err(Errno::BUSY),
        "rmdir of a device that is on"
    );
    assert_eq!(dir.set("power", "1"), Ok(()), "on is on");
    assert_eq!(dir.get("state"), "on");
    assert_eq!(dir.get("error"), "");
    read::check_all(&dir.disk(), &disk);
    assert!(dir.get("stat").contains("requests "), "{}", dir.get("stat"));
    dir.set("power", "0").unwrap();
    assert_eq!(dir.get("device"), "");
    assert_eq!(dir.get("stat"), "");
    for (attribute, value) in [("size", "1024"), ("verify", "0"), ("read_only", "1")] {
        assert_eq!(dir.set(attribute, value), Ok(()), "{attribute}, off again");
    }
    dir.clear().unwrap();
    assert_nothing_left();
    module.unload();
}

fn size_is_the_disks() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    for size in [512, 1 << 19, (1 << 20) + 512, 1 << 30] {
        let dir = Dir::new("a");
        for (number, layer) in layers.iter().enumerate() {
            dir.layer(number, layer).unwrap();
        }
        dir.set("size", &size.to_string()).unwrap();
        dir.set("power", "1").unwrap();
        let node = dir.disk();
        assert_eq!(crate::cases::support::device::size(&node), size as u64);
        let common = disk.len().min(size);
        let file = read::buffered(&node);
        read::check(&file, &disk[..common], 0, common);
        if size > disk.len() {
            let rest = read::pread(&file, disk.len() as u64, 512).unwrap();
            assert_eq!(rest, [0; 512]);
        }
        drop(file);
        dir.detach();
    }
    module.unload();
}

fn errors_name_the_layer() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let mut damaged = fs::read(&layers[1]).unwrap();
    damaged[40] ^= 1;
    let bad = scratch.file("with space", &damaged);
    let dir = Dir::new("a");
    dir.layer(0, &layers[0]).unwrap();
    dir.layer(1, &bad).unwrap();
    let log = Log::mark();
    let errno = dir.set("power", "1").unwrap_err();
    assert_eq!(errno, Errno::BADMSG);
    let error = dir.get("error");
    assert!(
        error.starts_with(&format!("layer 1 ({}): zfile offset ", bad.display())),
        "{error}"
    );
    assert_eq!(
        log.vbd_errors(),
        [error],
        "the log and the attribute say the same"
    );
    assert_eq!(dir.get("state"), "off");
    assert_eq!(dir.get("device"), "");
    // The device can be put right, and forgets the failure then.
    dir.set("1/path", &layers[1].display().to_string()).unwrap();
    dir.set("power", "1").unwrap();
    assert_eq!(dir.get("error"), "");
    read::check_all(&dir.disk(), &disk);
    dir.detach();
    assert_nothing_left();
    module.unload();
}

fn busy_while_open() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let dir = Dir::attach("a", &layers);
    let node = dir.disk();
    let open = read::buffered(&node);
    for _ in 0..3 {
        assert_eq!(dir.set("power", "0"), Err(Errno::BUSY));
        assert_eq!(dir.get("state"), "on");
        read::check(&open, &disk, 4096, 8192);
    }
    // Others may open it still.
    drop(read::direct(&node));
    drop(open);
    dir.detach();
    assert!(!Path::new(&node).exists());
    assert_nothing_left();
    module.unload();
}

fn the_module_stays() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (_, layers) = stack(&scratch, 1 << 20);
    let refused = |module: Module, when: &str| -> Module {
        match module.try_unload() {
            Err((module, Errno::WOULDBLOCK | Errno::BUSY)) => module,
            Err((_, errno)) => panic!("rmmod {when}: {errno:?}"),
            Ok(()) => panic!("rmmod {when} succeeded"),
        }
    };
    let dir = Dir::new("a");
    let module = refused(module, "with a device that is off");
    for (number, layer) in layers.iter().enumerate() {
        dir.layer(number, layer).unwrap();
    }
    dir.set("power", "1").unwrap();
    let module = refused(module, "with a device that is on");
    let open = read::buffered(&dir.disk());
    let module = refused(module, "with a device that is open");
    drop(open);
    dir.detach();
    module.unload();
    assert!(!modules::is_loaded("vbd"));
}
