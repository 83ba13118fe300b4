// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Many devices at once, what they cost, and that nothing of them is left.

use crate::case::Case;
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, stack, Dir};
use crate::cases::support::memory::{self, Meminfo, Slabs};
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool::{self, Loop};
use crate::cases::support::{read, tool::run};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "five_hundred",
        run: five_hundred,
    },
    Case {
        name: "time_of_an_attach",
        run: time_of_an_attach,
    },
];

/// Devices of the first case.
const DEVICES: usize = 500;

/// Threads that attach and detach them: more than processors, since they mostly wait.
const THREADS: usize = 16;

/// Bytes of each disk.
const BYTES: usize = 1 << 20;

/// Memory that may be gone after as many devices as had been there before. Pages come and go by megabytes,
/// and a processor's own caches of objects count as in use; but a device has some 100 KiB of objects and
/// no part without any.
const LEAK_KIB: Memory = Memory {
    available: DEVICES as i64 * 32,
    objects: DEVICES as i64 * 4,
};

/// Whether grace periods of RCU are to be short: detaching waits for several of them. A kernel that has room
/// for one processor has nothing to wait for, and no such file.
fn hurry(value: &str) {
    let file = Path::new("/sys/kernel/rcu_expedited");
    if file.exists() {
        fs::write(file, value).unwrap();
    }
}

fn five_hundred() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, BYTES);
    hurry("1");
    let round = || -> (Memory, f64, f64) {
        let before = Memory::now();
        let begin = Instant::now();
        let dirs = attach_all(DEVICES, &layers);
        let attached = begin.elapsed().as_secs_f64();
        let live = before.minus(&Memory::now());
        read_all(&dirs, &disk);
        let begin = Instant::now();
        detach_all(dirs);
        (live, attached, begin.elapsed().as_secs_f64())
    };
    // The first ones leave slabs behind that the kernel keeps, and are the ones that take all of theirs.
    let (live, _, _) = round();
    let before = Memory::now();
    let (_, attached, detached) = round();
    assert_nothing_left();
    let lost = lost_since(&before, &LEAK_KIB);
    hurry("0");
    println!(
        "note {DEVICES} devices: {} KiB each, {THREADS} threads attach one every {:.1} ms, \
         detach one every {:.1} ms",
        live.available / DEVICES as i64,
        attached * 1000.0 / DEVICES as f64,
        detached * 1000.0 / DEVICES as f64,
    );
    println!(
        "note memory after {DEVICES} devices: {} KiB less than before, {} of objects",
        lost.available, lost.objects
    );
    assert!(lost.is_below(&LEAK_KIB), "{lost:?} are gone of {before:?}");
    module.unload();
}

/// Attaches `count` devices, by several threads.
fn attach_all(count: usize, layers: &[PathBuf]) -> Vec<Dir> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let numbers = (0..count).skip(thread).step_by(THREADS);
                    let dirs = numbers.map(|number| Dir::attach(&format!("d{number}"), layers));
                    dirs.collect::<Vec<_>>()
                })
            })
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread"));
        joined.flatten().collect()
    })
}

fn detach_all(mut dirs: Vec<Dir>) {
    thread::scope(|scope| {
        while !dirs.is_empty() {
            let part = dirs.split_off(dirs.len().saturating_sub(DEVICES.div_ceil(THREADS)));
            scope.spawn(|| part.into_iter().for_each(Dir::detach));
        }
    });
}

/// Reads from all devices, by several threads, and compares.
fn read_all(dirs: &[Dir], disk: &[u8]) {
    let nodes: Vec<String> = dirs.iter().map(Dir::disk).collect();
    thread::scope(|scope| {
        for part in nodes.chunks(nodes.len().div_ceil(THREADS)) {
            scope.spawn(move || {
                for (number, node) in part.iter().enumerate() {
                    let file = read::buffered(node);
                    let offset = number * 4096 % (BYTES - 65536);
                    read::check(&file, disk, offset as u64, 65536);
                }
            });
        }
    });
}

/// Memory in KiB.
#[derive(Debug)]
struct Memory {
    /// Free, or in caches that can be dropped.
    available: i64,
    /// Not in use for objects of the kernel's allocator: negative, so that less is less in both fields.
    objects: i64,
}

impl Memory {
    fn now() -> Memory {
        memory::give_up_unused();
        let (meminfo, slabs) = (Meminfo::read(), Slabs::read());
        Memory {
            available: meminfo.free() + meminfo.kib("SReclaimable") - meminfo.kib("Shmem")
                + slabs.checkers,
            objects: -slabs.used,
        }
    }

    fn minus(&self, other: &Memory) -> Memory {
        Memory {
            available: self.available - other.available,
            objects: self.objects - other.objects,
        }
    }

    fn is_below(&self, other: &Memory) -> bool {
        self.available < other.available && self.objects < other.objects
    }
}

/// What is gone when all that is freed later, after grace periods, has been freed.
fn lost_since(before: &Memory, limit: &Memory) -> Memory {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let lost = before.minus(&Memory::now());
        if lost.is_below(limit) || Instant::now() > end {
            return lost;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// How long an attach takes, against a loop device over the raw image. A number for people: there is
/// nothing to assert about time in an emulated machine.
fn time_of_an_attach() {
    const ROUNDS: u32 = 10;
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 16 << 20);
    let raw = scratch.file("raw", &disk);
    let words: Vec<String> = layers
        .iter()
        .map(|path: &PathBuf| path.display().to_string())
        .collect();
    let mut times = [Duration::ZERO; 3];
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let dir = Dir::attach("a", &layers);
        read::check(&read::buffered(&dir.disk()), &disk, 0, 4096);
        times[0] += begin.elapsed();
        dir.detach();

        let begin = Instant::now();
        let mut attach = vec!["attach", "--name", "a"];
        attach.extend(words.iter().map(String::as_str));
        let node = run("vbdctl", &attach);
        read::check(&read::buffered(&node), &disk, 0, 4096);
        times[1] += begin.elapsed();
        tool::run("vbdctl", &["detach", "a"]);

        let begin = Instant::now();
        let raw = Loop::new(&raw);
        read::check(
            &read::buffered(&raw.path().display().to_string()),
            &disk,
            0,
            4096,
        );
        times[2] += begin.elapsed();
    }
    let ms = times.map(|time| time.as_secs_f64() * 1000.0 / f64::from(ROUNDS));
    println!(
        "note attach of two layers and a first read: {:.1} ms through configfs, {:.1} ms with vbdctl; \
         losetup of the raw image: {:.1} ms",
        ms[0], ms[1], ms[2]
    );
    assert_nothing_left();
    module.unload();
}
