// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reads that a driver above joins and passes on as one request: none of them may come back as a
//! success without its bytes.
//!
//! That driver is device-mapper's multipath, the only one that stacks requests on requests. While it
//! is suspended its scheduler joins what waits, so the reads become one request whatever the timing.

use super::super::support::content;
use super::super::support::damage::{Image, BLOCK};
use super::super::support::read::{self, Memory};
use super::super::support::storage::Volume;
use crate::case::Case;
use crate::modules;
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![requests_of_device_mapper];

/// Blocks that are read at a time, each by a reader of its own.
const READERS: usize = 8;

/// A multipath device with one path, the device under test.
struct Multipath {
    volume: Volume,
    path: String,
}

impl Multipath {
    fn new(bytes: usize) -> Multipath {
        let modules = ["dm-multipath", "dm-round-robin", "mq-deadline"];
        assert!(modules::probe(&modules), "modprobe {modules:?}");
        let path = fs::read_to_string("/sys/block/vbd0/dev").expect("the number");
        let path = path.trim().to_string();
        let sectors = bytes / 512;
        let table = format!("0 {sectors} multipath 0 0 1 1 round-robin 0 1 1 {path} 1000");
        let volume = Volume::read_only("case-multipath", &table);
        let scheduler = format!("/sys/block/{}/queue/scheduler", volume.disk());
        fs::write(scheduler, "mq-deadline").expect("the scheduler");
        Multipath { volume, path }
    }

    /// Reads that were joined to another one, so far.
    fn joined(&self) -> usize {
        let path = format!("/sys/block/{}/stat", self.volume.disk());
        let text = fs::read_to_string(path).expect("the statistics");
        let joined = text.split_whitespace().nth(1);
        joined.and_then(|word| word.parse().ok()).expect("a number")
    }

    /// What becomes of reads of so many blocks from `first` on, which wait together. They come one
    /// after the other, so that each finds the one before it and is joined to it.
    fn read(&self, first: usize) -> Vec<(Result<usize, Errno>, Vec<u8>)> {
        let file = read::direct(&self.volume.path());
        self.volume.suspend();
        thread::scope(|scope| {
            let mut readers = Vec::new();
            for number in 0..READERS {
                let file = &file;
                readers.push(scope.spawn(move || {
                    let mut memory = Memory::new(BLOCK, 0);
                    let at = ((first + number) * BLOCK) as u64;
                    let done = file.read_at(memory.bytes_mut(), at);
                    let done =
                        done.map_err(|error| Errno::from_io_error(&error).expect("an errno"));
                    (done, memory.bytes().to_vec())
                }));
                while waiting() <= number {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            self.volume.resume();
            let results = readers.into_iter().map(|reader| reader.join());
            results.map(|result| result.expect("a reader")).collect()
        })
    }

    /// Has the path tried again, which counts as broken once a read of it has failed.
    fn mend(&self) {
        self.volume.message(&["reinstate_path", &self.path]);
    }
}

/// Threads of this process that wait for a disk.
fn waiting() -> usize {
    let threads = fs::read_dir("/proc/self/task").expect("the threads");
    let waits = |task: &fs::DirEntry| {
        // One that has ended meanwhile does not wait.
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The name, in brackets, may hold anything.
        let state = stat.rsplit(") ").next().unwrap_or_default().chars().next();
        state == Some('D')
    };
    threads
        .filter(|task| waits(task.as_ref().expect("a thread")))
        .count()
}

fn requests_of_device_mapper() {
    let image = Image::new(content::disk(140, 64 * BLOCK), 1);
    let first = 16;
    for place in [None, Some(0), Some(3), Some(READERS - 1)] {
        let mut bytes = image.build();
        if let Some(place) = place {
            bytes[image.stored_at(first + place)] ^= 1;
        }
        let module = image.attach(&bytes, "");
        let multipath = Multipath::new(image.disk.len());
        let before = multipath.joined();
        let results = multipath.read(first);
        // Without this the case would not be about what it says.
        assert_eq!(multipath.joined() - before, READERS - 1);
        for (number, (result, memory)) in results.into_iter().enumerate() {
            let at = (first + number) * BLOCK;
            match result {
                Ok(count) => {
                    assert_eq!(count, BLOCK);
                    read::same(&memory, &image.disk[at..at + BLOCK], at as u64);
                    assert_ne!(place, Some(number), "a bad block was read");
                }
                // What comes after a bad block in the request is not told from it.
                Err(errno) => {
                    assert_eq!(errno, Errno::IO);
                    assert!(place.is_some_and(|place| place <= number), "{number}");
                }
            }
        }
        multipath.mend();
        let file = read::direct(&multipath.volume.path());
        for block in (0..image.blocks()).filter(|block| place != block.checked_sub(first)) {
            read::check(&file, &image.disk, (block * BLOCK) as u64, BLOCK);
        }
        drop((file, multipath));
        assert_eq!(module.stat("errors"), u64::from(place.is_some()));
        module.unload();
    }
}
