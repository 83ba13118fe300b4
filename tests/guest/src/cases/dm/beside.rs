// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A device of device-mapper beside a disk of `vbd.ko` that shows the same layers: whoever uses them
//! finds no difference.

use super::mapper::{self, Disk, Mapped, Targets};
use super::model::{self, Form};
use crate::case::Case;
use crate::cases::support::device::{Module, DEVICE};
use crate::cases::support::read::{self, Memory};
use crate::cases::support::scratch::Scratch;
use crate::cases::support::storage::{whole, Volume};
use rustix::io::{preadv2, Errno, ReadWriteFlags};
use std::fs::{self, File};
use std::io::IoSliceMut;
use std::path::Path;
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::thread;
use std::time::Duration;

pub(in crate::cases) const CASES: &[Case] =
    crate::cases::cases![queue_attributes, reads_that_must_not_wait];

const BYTES: usize = 1 << 20;

/// Longest time for what does not wait.
const PATIENCE: Duration = Duration::from_secs(60);

fn queue_attributes() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(301, BYTES, &[Form::Plain, Form::Lz4]);
    let files: Vec<_> = ["layer0", "layer1"]
        .into_iter()
        .zip(&stack.files)
        .map(|(name, file)| scratch.file(name, file))
        .collect();
    let disks = Disk::all(&scratch, &stack.files);
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &mapper::parts(&disks)));
    let module = Module::stack(&files, "");
    let ours = mapped.disk();
    let attribute = |disk: &str, name: &str| -> String {
        let path = format!("/sys/block/{disk}/{name}");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.trim().to_owned()
    };
    for (name, value) in [
        ("ro", "1"),
        ("size", "2048"),
        ("queue/io_poll", "0"),
        ("queue/optimal_io_size", "131072"),
        ("queue/read_ahead_kb", "256"),
        ("queue/minimum_io_size", "4096"),
        ("queue/physical_block_size", "4096"),
        ("queue/logical_block_size", "512"),
        ("queue/hw_sector_size", "512"),
        ("queue/rotational", "0"),
        ("queue/write_cache", "write through"),
        ("queue/fua", "0"),
        ("queue/dax", "0"),
        ("queue/discard_max_bytes", "0"),
        ("queue/write_zeroes_max_bytes", "0"),
        ("queue/stable_writes", "0"),
        ("queue/zoned", "none"),
        ("queue/chunk_sectors", "0"),
    ] {
        assert_eq!(attribute("vbd0", name), value, "vbd0: {name}");
        assert_eq!(attribute(&ours, name), value, "device-mapper: {name}");
    }
    module.unload();
    drop(mapped);
    drop((disks, targets));
}

/// One read that asks not to wait: all of it, or [`None`] if it would have to.
fn at_once(file: &File, offset: usize, length: usize) -> Option<Vec<u8>> {
    let mut memory = Memory::new(length, 0);
    let slice = &mut [IoSliceMut::new(memory.bytes_mut())];
    match preadv2(file, slice, offset as u64, ReadWriteFlags::NOWAIT) {
        Ok(got) => {
            assert_eq!(got, length, "{offset}");
            Some(memory.bytes().to_vec())
        }
        Err(Errno::AGAIN) => None,
        Err(errno) => panic!("a read at {offset} that may not wait: {errno:?}"),
    }
}

/// `RWF_NOWAIT` brings data or `EAGAIN`, and never waits for the storage.
fn reads_that_must_not_wait() {
    let targets = Targets::begin();
    let scratch = Scratch::new();
    let stack = model::stack(302, BYTES, &[Form::Lz4]);
    let layer = Disk::new(&scratch, "layer", &stack.files[0]);
    let bytes = layer.part().bytes;
    let path = layer.path();
    // Waits when it is told to. A disk of vbd.ko takes a layer that ends where its device does.
    let file = scratch.file("file", &stack.files[0]);
    let slow = Volume::read_only("slow", &whole(Path::new(&path), "linear", ""));
    let part = mapper::Part {
        device: slow.path(),
        bytes,
    };
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &[part]));
    let module = Module::stack(&[file], "");
    for disk in [DEVICE.to_owned(), mapped.path()] {
        let same = |got: &[u8], offset: usize| {
            read::same(got, &stack.disk[offset..][..8192], offset as u64)
        };
        // Past the page cache: a read is under way at once, and waited for like any other.
        let direct = read::direct(&disk);
        for offset in (0..BYTES).step_by(8192) {
            if let Some(got) = at_once(&direct, offset, 8192) {
                same(&got, offset);
            }
        }
        // Through it: what is there is had, and what is not there later.
        read::drop_caches();
        let buffered = read::buffered(&disk);
        for offset in (0..BYTES).step_by(8192) {
            let got = at_once(&buffered, offset, 8192).unwrap_or_else(|| {
                read::pread(&buffered, offset as u64, 8192).expect("a read that may wait")
            });
            same(&got, offset);
            same(
                &at_once(&buffered, offset, 8192).expect("cached data"),
                offset,
            );
        }
    }

    // Storage that does not answer.
    read::drop_caches();
    let buffered = read::buffered(&mapped.path());
    slow.suspend();
    let (sender, receiver) = channel();
    let answer = thread::scope(|scope| {
        scope.spawn(|| sender.send(at_once(&buffered, BYTES / 2, 8192)));
        let answer = receiver.recv_timeout(PATIENCE);
        slow.resume();
        answer
    });
    match answer {
        Ok(None) => {}
        Ok(Some(got)) => read::same(&got, &stack.disk[BYTES / 2..][..8192], 0),
        Err(RecvTimeoutError::Timeout) => panic!("a read that may not wait has waited"),
        Err(error) => panic!("{error}"),
    }
    read::check(&buffered, &stack.disk, BYTES as u64 / 2, 8192);
    drop(buffered);
    module.unload();
    drop(mapped);
    drop((slow, layer, targets));
}
