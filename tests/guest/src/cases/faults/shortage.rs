// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Allocations that fail wherever the driver's code is the cause of them: on its workers, in the block
//! layer and in file systems below it; one alone, or all from some point on.

use super::mixed;
use crate::case::Case;
use crate::cases::support::device::{Faults, Module, DEVICE};
use crate::cases::support::dir::{assert_nothing_left, Dir};
use crate::cases::support::injection::{everywhere, Failing, Kind, Times};
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use rustix::io::Errno;
use std::fs::File;
use std::thread;

pub(in crate::cases) const CASES: &[Case] =
    crate::cases::cases![reads_of_workers, attaching, reads_need_no_memory,];

const BYTES: usize = 512 << 10;

fn is_exact_or_eio(file: &File, disk: &[u8], offset: u64, length: usize) -> bool {
    match read::pread(file, offset, length) {
        Ok(got) => {
            read::same(&got, read::expected(disk, offset, length), offset);
            true
        }
        Err(error) => {
            let io = Some(Errno::IO.raw_os_error());
            assert_eq!(error.raw_os_error(), io, "read at {offset}");
            false
        }
    }
}

/// Nothing is cached, so files are read and blocks decoded on workers, for several readers at a time.
fn reads_of_workers() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = mixed(&scratch, 320, BYTES);
    let dir = Dir::attach("a", &layers);
    let file = read::direct(&dir.disk());
    let (mut exact, mut failed) = (0, 0);
    everywhere("vbd", |point| {
        read::drop_caches();
        let good = thread::scope(|scope| {
            let readers: Vec<_> = (0..4)
                .map(|reader| {
                    let (file, disk) = (&file, &disk);
                    let piece = disk.len() / 4;
                    scope.spawn(move || is_exact_or_eio(file, disk, (reader * piece) as u64, piece))
                })
                .collect();
            readers
                .into_iter()
                .map(|reader| reader.join().expect("a reader"))
                .filter(|good| *good)
                .count()
        });
        exact += good;
        failed += 4 - good;
        // Nothing is remembered of it.
        point.over();
        read::check(&file, &disk, 0, BYTES);
    });
    println!("note reads without memory on workers: {exact} exact, {failed} EIO");
    assert!(exact > 0 && failed > 0);
    drop(file);
    dir.detach();
    assert_nothing_left();
    module.unload();
}

fn attaching() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = mixed(&scratch, 323, BYTES);
    let dir = Dir::new("a");
    for (number, layer) in layers.iter().enumerate() {
        dir.layer(number, layer).expect("a layer");
    }
    let (mut good, mut refused) = (0, 0);
    everywhere("vbd", |point| {
        read::drop_caches();
        let on = dir.set("power", "1");
        match on {
            Ok(()) => good += 1,
            Err(errno) => {
                assert_eq!(errno, Errno::NOMEM, "{:?}", point.times());
                refused += 1;
            }
        }
        point.over();
        if on.is_err() {
            dir.set("power", "1").expect("power on afterwards");
        }
        read::check_all(&dir.disk(), &disk);
        dir.set("power", "0").expect("power off");
    });
    println!("note attaches without memory: {good} good, {refused} ENOMEM");
    assert!(good > 0 && refused > 0);
    dir.clear().unwrap();
    assert_nothing_left();
    module.unload();
}

/// What a device has from the start is enough for any number of readers, as long as the files below
/// it need no memory either.
fn reads_need_no_memory() {
    let scratch = Scratch::in_memory();
    let (disk, layers) = mixed(&scratch, 326, BYTES);
    for more in ["", "cache_mb=0"] {
        let module = Module::stack(&layers, more);
        let file = read::direct(DEVICE);
        read::check(&file, &disk, 0, BYTES);
        let failing =
            [Kind::Slab, Kind::Pages].map(|kind| Failing::below("vbd", kind, 0, Times::Always));
        thread::scope(|scope| {
            for reader in 0..8 {
                let (file, disk) = (&file, &disk);
                scope.spawn(move || {
                    let mut offset = reader * 4096;
                    while offset < disk.len() {
                        read::check(file, disk, offset as u64, 48 << 10);
                        offset += 64 << 10;
                    }
                    read::check(file, disk, 0, disk.len());
                });
            }
        });
        drop(failing);
        assert_eq!(module.faults(), Faults::default());
        drop(file);
        module.unload();
    }
}
