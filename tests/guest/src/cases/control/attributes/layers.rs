// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The directories of layers: their names, their files, and how they come and go.

use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, stack, Dir, ROOT};
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{symlink, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(super) fn names_of_layers() {
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

pub(super) fn files_that_are_no_layers() {
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

/// Showing an attribute takes locks that are held while a device attaches: a layer that was one would
/// wait for itself.
///
/// The files are open before, so that they are found without a lock of their directory: whoever looks
/// them up while he writes to configfs takes that one and the writer's in the order opposite to `rmdir`,
/// in every driver that is given paths there, and lockdep says so.
pub(super) fn attributes_are_no_layers() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let dir = Dir::new("a");
    dir.make_below("0").unwrap();
    let other = Dir::attach("b", &layers);
    let link = scratch.join("link");
    symlink(Path::new(ROOT).join("a/power"), &link).unwrap();
    let attributes = ["a/power", "a/error", "a/0/path", "b/power", "b/stat"];
    let mut paths: Vec<PathBuf> = attributes.map(|name| Path::new(ROOT).join(name)).to_vec();
    paths.push(link);
    for path in paths {
        let shown = path.display().to_string();
        let file = File::open(&path).unwrap();
        assert_eq!(dir.set("0/path", &shown), Err(Errno::INVAL), "{shown}");
        let error = dir.get("error");
        assert!(
            error.starts_with(&format!("layer 0 ({shown}): ")),
            "{error}"
        );
        let fd = file.as_raw_fd().to_string();
        assert_eq!(dir.set("0/fd", &fd), Err(Errno::INVAL), "fd of {shown}");
        assert_eq!(dir.get("0/path"), "", "after {shown}");
        assert_eq!(dir.set("power", "1"), Err(Errno::INVAL), "no layer");
    }
    // Nobody waits, and nothing has changed.
    read::check_all(&other.disk(), &disk);
    other.detach();
    for (number, layer) in layers.iter().enumerate() {
        let path = layer.display().to_string();
        if number > 0 {
            dir.make_below(&number.to_string()).unwrap();
        }
        dir.set(&format!("{number}/path"), &path).unwrap();
    }
    dir.set("power", "1").unwrap();
    read::check_all(&dir.disk(), &disk);
    dir.detach();
    assert_nothing_left();
    module.unload();
}

pub(super) fn a_descriptor_shows_its_file() {
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
        let inode = format!(
            "{major}:{minor} {} {} {}.{:09} {}.{:09}",
            stat.ino(),
            stat.len(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec()
        );
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

pub(super) fn layer_directories_may_go() {
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

pub(super) fn layers_without_gaps() {
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
