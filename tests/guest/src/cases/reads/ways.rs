// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The ways to read a device: in pieces, as memory, ahead, many at a time.

use super::super::support::device::{self, Module, DEVICE};
use super::super::support::read::{self, drop_caches};
use super::super::support::scratch::{Mounted, Scratch};
use super::super::support::{content, layers, tool};
use super::{attached, Stack, SIZE, STACK};
use crate::case::Case;
use rustix::fs::{fadvise, sendfile, Advice};
use std::fs::{self, File};
use std::io::IoSliceMut;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use vbd_tests_host::rng::Rng;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    vectors,
    large_reads,
    mapped,
    executed,
    readahead,
    sent,
    parallel,
    parallel_in_memory,
    without_verifying,
    unverified_layers_too,
];
/// One call into many pieces of memory, of one sector and more.
fn vectors() {
    attached("", |stack| {
        let mut rng = Rng(34);
        for direct in [true, false] {
            let file = if direct {
                read::direct(DEVICE)
            } else {
                read::buffered(DEVICE)
            };
            for pieces in [1, 2, 7, 100, 600] {
                let lengths: Vec<usize> = (0..pieces)
                    .map(|_| {
                        if direct {
                            512 * (1 + rng.below(3))
                        } else {
                            1 + rng.below(2000)
                        }
                    })
                    .map(|length| length as usize)
                    .collect();
                let total: usize = lengths.iter().sum();
                let offset = rng.below((SIZE - total) as u64 / 512) * 512;
                let mut memory = read::Memory::new(total, 0);
                let mut vectors = Vec::new();
                let mut rest = memory.bytes_mut();
                for length in lengths {
                    let (piece, after) = rest.split_at_mut(length);
                    vectors.push(IoSliceMut::new(piece));
                    rest = after;
                }
                let count = rustix::io::preadv(&file, &mut vectors, offset).expect("preadv");
                assert_eq!(count, total);
                read::same(
                    memory.bytes(),
                    read::expected(&stack.disk, offset, total),
                    offset,
                );
            }
        }
    });
}

fn large_reads() {
    attached("", |stack| {
        for file in [read::direct(DEVICE), read::buffered(DEVICE)] {
            for (offset, length) in [(0, 4 << 20), (512, 4 << 20), (1 << 20, 5 << 20), (0, SIZE)] {
                drop_caches();
                read::check(&file, &stack.disk, offset, length);
            }
        }
    });
}

/// A file of a file system on the device, as memory: page faults read it, in any order.
fn mapped() {
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    fs::create_dir(&tree).expect("the tree");
    let want = content::disk(35, 3 << 20);
    fs::write(tree.join("content"), &want).expect("a file of the tree");
    fs::copy("/usr/bin/busybox", tree.join("busybox")).expect("a program of the tree");
    let layer = layers::from_file(&scratch, "layer", &tree, &["--fs=ext4"]);
    let module = Module::stack(&[layer], "");
    let place = scratch.join("place");
    let mounted = Mounted::new(DEVICE, &place, "ext4", true);
    {
        let file = place.join("content");
        let options = vmap::Map::with_options();
        let (map, file) = options.open(file).expect("the mapped file");
        let mut rng = Rng(35);
        for _ in 0..800 {
            let at = rng.below(want.len() as u64) as usize;
            assert_eq!(map[at], want[at], "mapped byte {at}");
        }
        drop(map);
        drop_caches();
        let map = options.map(&file).expect("the mapped file");
        read::same(&map, &want, 0);
    }
    drop_caches();
    // A program is mapped as well, by the kernel.
    let program = place.join("busybox").display().to_string();
    let said = tool::run(&program, &["echo", "from", "a", "layer"]);
    assert_eq!(said, "from a layer");
    drop(mounted);
    assert_eq!(module.faults(), device::Faults::default());
    module.unload();
}

/// The device itself as memory: the loader maps a program that is all that the disk holds.
fn executed() {
    let scratch = Scratch::new();
    let program = fs::read("/usr/sbin/blockdev").expect("a program with shared libraries");
    let layer = layers::create(&scratch, "layer", &program, &["--format=zstd"]);
    let module = Module::stack(&[layer], "");
    let said = tool::run(
        "/lib64/ld-linux-x86-64.so.2",
        &[DEVICE, "--getsize64", DEVICE],
    );
    assert_eq!(said, program.len().next_multiple_of(512).to_string());
    assert_eq!(module.faults(), device::Faults::default());
    module.unload();
}

fn readahead() {
    attached("", |stack| {
        for kib in [0, 4, 128, 8192] {
            read::read_ahead("vbd0", kib);
            drop_caches();
            let file = read::buffered(DEVICE);
            for (number, want) in stack.disk.chunks(5000).enumerate() {
                read::check(&file, &stack.disk, number as u64 * 5000, want.len());
            }
        }
        drop_caches();
        let file = read::buffered(DEVICE);
        fadvise(&file, 0, None, Advice::WillNeed).expect("fadvise");
        for (number, want) in stack.disk.chunks(100_000).enumerate() {
            read::check(&file, &stack.disk, number as u64 * 100_000, want.len());
        }
    });
}

/// Pages of the device's cache that go to a file without a copy in between.
fn sent() {
    attached("", |stack| {
        let scratch = Scratch::in_memory();
        let path = scratch.join("sent");
        let file = read::buffered(DEVICE);
        let copy = File::create(&path).expect("the file to send to");
        let mut done = 0;
        while done < SIZE {
            let count = sendfile(&copy, &file, None, SIZE - done).expect("sendfile");
            assert_ne!(count, 0, "sendfile stops at {done}");
            done += count;
        }
        read::same(&fs::read(&path).expect("the sent file"), &stack.disk, 0);
    });
}

/// Readers of all kinds side by side, while the cache is dropped under them.
fn side_by_side(stack: &Stack, rounds: usize) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let dropper = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                drop_caches();
                thread::sleep(std::time::Duration::from_millis(40));
            }
        });
        let readers: Vec<_> = (0..8)
            .map(|number| {
                scope.spawn(move || {
                    let direct = number % 2 == 0;
                    let file = if direct {
                        read::direct(DEVICE)
                    } else {
                        read::buffered(DEVICE)
                    };
                    let mut rng = Rng(40 + number);
                    for _ in 0..rounds {
                        let unit = if direct { 512 } else { 1 };
                        let most = [4096, 65_536, 300_000][rng.below(3) as usize] / unit;
                        let length = (1 + rng.below(most)) * unit;
                        let offset = rng.below(SIZE as u64 / unit) * unit;
                        read::check(&file, &stack.disk, offset, length as usize);
                    }
                })
            })
            .collect();
        // The dropper has to be told even when a reader panics.
        let results: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        over.store(true, Ordering::Relaxed);
        dropper.join().expect("the thread that drops caches");
        for result in results {
            result.expect("a reader");
        }
    });
}

fn parallel() {
    attached("", |stack| side_by_side(stack, 60));
}

/// The same with layers whose files never have to be waited for.
fn parallel_in_memory() {
    let stack = &*STACK;
    let scratch = Scratch::in_memory();
    let copies: Vec<PathBuf> = (stack.layers.iter().enumerate())
        .map(|(number, layer)| {
            let copy = scratch.join(number.to_string());
            fs::copy(layer, &copy).expect("a copy of a layer");
            copy
        })
        .collect();
    let module = Module::stack(&copies, "");
    side_by_side(stack, 60);
    assert_eq!(module.faults(), device::Faults::default());
    module.unload();
}

fn without_verifying() {
    attached("verify=0", |stack| {
        read::check_all(DEVICE, &stack.disk);
        side_by_side(stack, 20);
    });
}

/// Layers without block checksums, read with and without verifying.
fn unverified_layers_too() {
    let scratch = Scratch::new();
    let disk = content::disk(36, 1 << 20);
    for format in ["--format=lz4", "--format=zstd"] {
        let layer = layers::create(&scratch, "layer", &disk, &[format, "--no-crc"]);
        for verify in ["verify=0", "verify=1"] {
            let module = Module::stack(std::slice::from_ref(&layer), verify);
            read::check_all(DEVICE, &disk);
            assert_eq!(module.faults(), device::Faults::default());
            module.unload();
        }
        fs::remove_file(layer).expect("the layer goes");
    }
}
