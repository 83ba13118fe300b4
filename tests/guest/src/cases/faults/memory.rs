// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Allocations that fail, one after the other, in whoever asks for something: it is done or refused
//! with a fitting errno, and can be done afterwards.

use super::mixed;
use crate::case::Case;
use crate::cases::support::device::{backfile, Module, DEVICE};
use crate::cases::support::dir::{assert_nothing_left, plain, Dir, Done, ROOT};
use crate::cases::support::injection::{
    count_allocations, each_allocation, each_allocation_after, Nth,
};
use crate::cases::support::read::{self, Memory};
use crate::cases::support::scratch::Scratch;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(in crate::cases) const CASES: &[Case] = crate::cases::cases![
    power_on,
    power_off,
    directories,
    files_of_layers,
    cached_reads,
    direct_reads,
    loading,
];

const BYTES: usize = 128 << 10;

/// Writes to an attribute that is open already, with one allocation failing meanwhile.
fn write(nth: &mut Nth, dir: &str, attribute: &str, value: &str) -> Done {
    let path = Path::new(ROOT).join(dir).join(attribute);
    let mut file = OpenOptions::new().write(true).open(path).expect(attribute);
    let result = nth.run(|| file.write_all(value.as_bytes()));
    plain(result)
}

/// A device of layers that is off.
fn prepared(name: &str, layers: &[PathBuf]) -> Dir {
    let dir = Dir::new(name);
    for (number, layer) in layers.iter().enumerate() {
        dir.layer(number, layer).expect("a layer");
    }
    dir
}

/// What failed for want of memory says so.
#[track_caller]
fn for_want_of_memory(nth: &Nth, result: Done) -> bool {
    match result {
        Ok(()) => true,
        Err(errno) => {
            assert_eq!(errno, Errno::NOMEM, "allocation {}", nth.number());
            assert!(nth.failed(), "allocation {} did not come", nth.number());
            false
        }
    }
}

/// The layers' files are in memory: what it takes to read them is another case's
/// (`shortage::attaching`).
fn power_on() {
    let module = Module::load("");
    let scratch = Scratch::in_memory();
    let (disk, layers) = mixed(&scratch, 300, BYTES);
    let dir = prepared("a", &layers);
    let mut refused = 0;
    let count = each_allocation(|nth| {
        let written = write(nth, "a", "power", "1");
        let on = for_want_of_memory(nth, written);
        if !on {
            refused += 1;
            assert_eq!(
                (dir.get("state"), dir.get("device")),
                ("off".into(), "".into())
            );
            dir.set("power", "1").expect("power on afterwards");
        }
        assert_eq!(dir.get("error"), "");
        read::check_all(&dir.disk(), &disk);
        dir.set("power", "0").expect("power off");
    });
    println!("note power on: {refused} of {count} failed allocations refuse it");
    assert!(refused > 20, "{refused}");
    dir.clear().unwrap();
    assert_nothing_left();
    module.unload();
}

/// Nothing that detaching does can fail, so all that may is the way of the word to the driver.
fn power_off() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = mixed(&scratch, 303, BYTES);
    let dir = prepared("a", &layers);
    let count = each_allocation(|nth| {
        dir.set("power", "1").expect("power on");
        read::check_all(&dir.disk(), &disk);
        let written = write(nth, "a", "power", "0");
        let off = for_want_of_memory(nth, written);
        if !off {
            assert_eq!(dir.get("state"), "on");
            read::check_all(&dir.disk(), &disk);
            dir.set("power", "0").expect("power off afterwards");
        }
        assert_eq!(
            (dir.get("state"), dir.get("device")),
            ("off".into(), "".into())
        );
    });
    println!("note power off: {count} failed allocations");
    dir.clear().unwrap();
    assert_nothing_left();
    module.unload();
}

/// `mkdir` and `rmdir` of devices and layers. A directory that was not made leaves no trace in the
/// device, and one that was made works.
fn directories() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = mixed(&scratch, 315, BYTES);
    let place = |name: &str| Path::new(ROOT).join(name);
    let dir = prepared("a", &layers);
    let top = format!("a/{}", layers.len() - 1);
    let path = layers[layers.len() - 1].display().to_string();
    let remake = |name: &str, make: &mut dyn FnMut(&Path) -> bool| {
        if !make(&place(name)) {
            assert!(!place(name).exists());
            fs::create_dir(place(name)).expect("mkdir afterwards");
        }
    };
    let count = each_allocation(|nth| {
        dir.remove_below(&top[2..]).expect("rmdir");
        remake(&top, &mut |path| {
            let made = nth.run(|| fs::create_dir(path));
            for_want_of_memory(nth, plain(made))
        });
        dir.set(&format!("{}/path", &top[2..]), &path)
            .expect("the layer");
        dir.set("power", "1").expect("power on");
        read::check_all(&dir.disk(), &disk);
        dir.set("power", "0").expect("power off");
    });
    assert!(count > 5, "{count}");
    each_allocation(|nth| {
        remake("b", &mut |path| {
            let made = nth.run(|| fs::create_dir(path));
            for_want_of_memory(nth, plain(made))
        });
        fs::remove_dir(place("b")).expect("rmdir");
    });
    for name in ["b/0", "b"] {
        fs::create_dir_all(place(name)).expect("mkdir");
        each_allocation(|nth| {
            let gone = nth.run(|| fs::remove_dir(place(name)));
            if !for_want_of_memory(nth, plain(gone)) {
                fs::remove_dir(place(name)).expect("rmdir afterwards");
            }
            fs::create_dir(place(name)).expect("mkdir");
        });
        fs::remove_dir(place(name)).expect("rmdir");
    }
    dir.clear().unwrap();
    assert_nothing_left();
    module.unload();
}

fn files_of_layers() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = mixed(&scratch, 306, BYTES);
    let dir = prepared("a", &layers);
    let top = layers.len() - 1;
    let path = layers[top].display().to_string();
    let file = File::open(&layers[top]).expect("the layer");
    let fd = file.as_raw_fd().to_string();
    for (attribute, value) in [("path", &path), ("fd", &fd)] {
        each_allocation(|nth| {
            let set = write(nth, "a", &format!("{top}/{attribute}"), value);
            if !for_want_of_memory(nth, set) {
                // What was there before is still there.
                assert_eq!(dir.get(&format!("{top}/path")), path);
            }
        });
        dir.set("power", "1").expect("power on");
        read::check_all(&dir.disk(), &disk);
        dir.set("power", "0").expect("power off");
    }
    dir.clear().unwrap();
    assert_nothing_left();
    module.unload();
}

/// Reads through the page cache with nothing of it cached, a device at a time.
fn cached_reads() {
    reads(read::buffered);
}

fn direct_reads() {
    reads(read::direct);
}

fn reads(open: impl Fn(&str) -> File) {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = mixed(&scratch, 309, BYTES);
    let dir = Dir::attach("a", &layers);
    let node = dir.disk();
    // With the layers' files cached, the submitter serves it; else workers do.
    for cached in [true, false] {
        for (offset, length) in [(0, 4096), (65536 - 4096, 65536), (0, BYTES)] {
            each_allocation(|nth| {
                read::drop_caches();
                if cached {
                    read::check_all(&node, &disk);
                }
                let file = open(&node);
                let mut memory = Memory::new(length, 0);
                let result = nth.run(|| file.read_at(memory.bytes_mut(), offset));
                match result {
                    Ok(count) => {
                        let want = read::expected(&disk, offset, length);
                        // Part of a read is a success where the rest found no memory.
                        assert!(count == want.len() || nth.failed() && count > 0, "{count}");
                        read::same(&memory.bytes()[..count], &want[..count], offset);
                    }
                    Err(error) => {
                        let fits =
                            [Errno::NOMEM, Errno::IO].map(|errno| Some(errno.raw_os_error()));
                        assert!(
                            nth.failed() && fits.contains(&error.raw_os_error()),
                            "{error}"
                        );
                        read::check(&file, &disk, offset, length);
                    }
                }
            });
        }
    }
    dir.detach();
    assert_nothing_left();
    module.unload();
}

/// The module itself, with a device: every allocation once the kernel has parsed its arguments, which
/// is before any of its code runs.
fn loading() {
    let scratch = Scratch::new();
    let (disk, layers) = mixed(&scratch, 312, BYTES);
    let parameters = backfile(&layers);
    let mut refused = 0;
    let kernels_own = count_allocations(|| {
        let refused = Module::try_load("size=none").err();
        assert_eq!(refused, Some(Errno::INVAL));
    });
    let count = each_allocation_after(kernels_own, |nth| {
        let result = nth.run(|| Module::try_load(&parameters));
        let module = match result {
            Ok(module) => module,
            Err(errno) => {
                assert!(nth.failed(), "{errno:?}");
                assert_eq!(errno, Errno::NOMEM, "allocation {}", nth.number());
                refused += 1;
                return;
            }
        };
        read::check_all(DEVICE, &disk);
        module.unload();
    });
    println!("note insmod: {refused} of {count} failed allocations refuse it");
    assert!(refused > 5, "{refused}");
}
