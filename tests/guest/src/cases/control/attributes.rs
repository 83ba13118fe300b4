// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What each attribute takes and says, and when.

use super::dir::{assert_nothing_left, stack, Dir};
use crate::case::Case;
use crate::cases::support::device::Module;
use crate::cases::support::kmsg::Log;
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use crate::modules;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

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
    read_only_attributes
    fixed_while_on
    layer_directories_may_go
    size_is_the_disks
    errors_name_the_layer
    layers_without_gaps
    busy_while_open
    a_descriptor_shows_its_file
    the_module_stays
}

fn defaults() {
    let module = Module::load("");
    let dir = Dir::new("a");
    for (attribute, value) in [
        ("size", "0"),
        ("verify", "1"),
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
        ("read_only", "1\n", "1"),
    ] {
        assert_eq!(dir.set(attribute, value), Ok(()), "{attribute} {value:?}");
        assert_eq!(dir.get(attribute), shown);
    }
    dir.clear().unwrap();
    module.unload();
}

fn names_of_layers() {
    let module = Module::load("");
    let dir = Dir::new("a");
    for name in ["255", "256", "00", "01", "+1", "-1", "x", "1x", "1 ", "０"] {
        assert_eq!(dir.make_below(name), Err(Errno::INVAL), "mkdir {name:?}");
    }
    for name in ["0", "254"] {
        assert_eq!(dir.make_below(name), Ok(()), "mkdir {name}");
        assert_eq!(
            dir.make_below(name),
            Err(Errno::EXIST),
            "mkdir {name} again"
        );
        assert_eq!(dir.make_below(&format!("{name}/x")), Err(Errno::PERM));
    }
    assert_eq!(dir.remove(), Err(Errno::NOTEMPTY));
    dir.remove_below("254").unwrap();
    dir.remove_below("0").unwrap();
    // A number is free again.
    dir.make_below("254").unwrap();
    dir.remove_below("254").unwrap();
    dir.remove().unwrap();
    assert_nothing_left();
    module.unload();
}

fn files_that_are_no_layers() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let dir = Dir::new("a");
    dir.make_below("0").unwrap();
    let long = "x".repeat(300);
    for (path, errno) in [
        ("/does/not/exist", Errno::NOENT),
        ("", Errno::NOENT),
        ("/", Errno::ISDIR),
        ("/dev/null", Errno::INVAL),
        ("/etc/passwd/x", Errno::NOTDIR),
        (long.as_str(), Errno::NAMETOOLONG),
    ] {
        // An empty write never comes to the driver; an empty line does.
        assert_eq!(
            dir.set("0/path", &format!("{path}\n")),
            Err(errno),
            "{path:?}"
        );
        let error = dir.get("error");
        assert!(error.starts_with(&format!("layer 0 ({path}): ")), "{error}");
    }
    let fifo = scratch.join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let shown = fifo.display().to_string();
    assert_eq!(
        dir.set("0/path", &shown),
        Err(Errno::INVAL),
        "a FIFO, without waiting for it"
    );

    let file = scratch.file("f", b"x");
    let flag = |flags: OFlags| i32::try_from(flags.bits()).unwrap();
    let mut options = OpenOptions::new();
    let write_only = options.write(true).open(&file).unwrap();
    let mut options = OpenOptions::new();
    let path_only = options
        .read(true)
        .custom_flags(flag(OFlags::PATH))
        .open(&file)
        .unwrap();
    let directory = File::open(&*scratch).unwrap();
    let null = File::open("/dev/null").unwrap();
    let fd = |file: &File| file.as_raw_fd().to_string();
    for (value, errno) in [
        ("x".to_string(), Errno::INVAL),
        ("\n".to_string(), Errno::INVAL),
        ("-1".to_string(), Errno::INVAL),
        ("9999".to_string(), Errno::BADF),
        ("4294967296".to_string(), Errno::BADF),
        ("4294967295".to_string(), Errno::BADF),
        (fd(&write_only), Errno::BADF),
        (fd(&path_only), Errno::BADF),
        (fd(&directory), Errno::ISDIR),
        (fd(&null), Errno::INVAL),
    ] {
        assert_eq!(dir.set("0/fd", &value), Err(errno), "fd {value:?}");
        assert_eq!(dir.get("0/path"), "", "after fd {value:?}");
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

fn layer_directories_may_go() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let dir = Dir::attach("a", &layers);
    dir.remove_below("0").unwrap();
    dir.remove_below("1").unwrap();
    // The files may go, too: the device has them open.
    for layer in &layers {
        fs::remove_file(layer).unwrap();
    }
    assert_eq!(dir.remove(), Err(Errno::BUSY));
    read::check_all(&dir.disk(), &disk);
    dir.set("power", "0").unwrap();
    assert_eq!(
        dir.set("power", "1"),
        Err(Errno::INVAL),
        "there are no layers now"
    );
    assert_ne!(dir.get("error"), "");
    dir.remove().unwrap();
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

fn layers_without_gaps() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let dir = Dir::new("a");
    assert_eq!(dir.set("power", "1"), Err(Errno::INVAL), "no layers");
    assert_ne!(dir.get("error"), "");
    // In any order, but without a gap.
    dir.layer(2, &layers[1]).unwrap();
    dir.layer(0, &layers[0]).unwrap();
    assert_eq!(dir.set("power", "1"), Err(Errno::INVAL), "no layer 1");
    assert!(
        dir.get("error").starts_with("layer 1: "),
        "{}",
        dir.get("error")
    );
    dir.make_below("1").unwrap();
    assert_eq!(dir.set("power", "1"), Err(Errno::INVAL), "layer 1 is empty");
    dir.set("1/path", &layers[1].display().to_string()).unwrap();
    dir.set("power", "1").unwrap();
    read::check_all(&dir.disk(), &disk);
    dir.detach();
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

fn a_descriptor_shows_its_file() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let dir = Dir::new("a");
    for (number, layer) in layers.iter().enumerate() {
        dir.make_below(&number.to_string()).unwrap();
        let file = File::open(layer).unwrap();
        dir.set(&format!("{number}/fd"), &file.as_raw_fd().to_string())
            .unwrap();
        let stat = file.metadata().unwrap();
        let (major, minor) = (rustix::fs::major(stat.dev()), rustix::fs::minor(stat.dev()));
        let inode = format!("{major}:{minor} {} {}", stat.ino(), stat.len());
        assert_eq!(dir.get(&format!("{number}/inode")), inode);
        let path = layer.display().to_string();
        assert_eq!(dir.get(&format!("{number}/path")), path);
        assert_eq!(dir.get(&format!("{number}/fd")), path);
    }
    dir.set("power", "1").unwrap();
    read::check_all(&dir.disk(), &disk);
    dir.detach();
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
