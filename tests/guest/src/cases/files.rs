// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! How the driver reads the files behind a device: as a good neighbour of all others who use them.

pub(super) mod charged;
pub(super) mod watched;

use super::support::damage::{Image, BLOCK};
use super::support::device::{Faults, Module, DEVICE};
use super::support::dir::Dir;
use super::support::scratch::Scratch;
use super::support::storage::{whole, Volume};
use super::support::tool::Loop;
use super::support::{content, layers, read};
use crate::case::Case;
use rustix::fs::{fcntl_getfl, fcntl_setfl, OFlags};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};
use vbd_tests_host::rng::Rng;

pub(crate) const CASES: &[Case] = super::cases![
    flags_of_a_descriptor_change_nothing,
    a_bad_block_costs_no_other_processor,
    a_page_that_is_mapped_is_read_again,
    no_worker_waits_for_pages,
];

/// Whoever gave the driver a descriptor can change its flags at any time.
fn flags_of_a_descriptor_change_nothing() {
    let scratch = Scratch::new();
    let disk = content::disk(310, 1 << 20);
    let module = Module::load("");
    for options in [&["--format=lz4"][..], &["--format=plain"]] {
        for direct in ["0", "1"] {
            let layer = layers::create(&scratch, "layer", &disk, options);
            for opened in [File::open(&layer).expect("the layer"), {
                let path = layer.display().to_string();
                read::direct(&path)
            }] {
                let dir = Dir::new("a");
                dir.make_below("0").expect("a layer");
                dir.set("0/fd", &opened.as_raw_fd().to_string())
                    .expect("a descriptor");
                // A compressed layer takes the value and ignores it.
                dir.set("direct", direct).expect("direct");
                dir.set("power", "1").expect("power");
                let before = fcntl_getfl(&opened).expect("F_GETFL");
                for flags in [before ^ OFlags::DIRECT, before, before | OFlags::NONBLOCK] {
                    fcntl_setfl(&opened, flags).expect("F_SETFL");
                    read::drop_caches();
                    read::check_all(&dir.disk(), &disk);
                    let file = read::direct(&dir.disk());
                    read::check(&file, &disk, 512, 1024);
                }
                let stat = dir.get("stat");
                for name in ["errors 0", "rereads 0"] {
                    assert!(stat.lines().any(|line| line == name), "{stat}");
                }
                dir.detach();
            }
            fs::remove_file(layer).expect("unlink");
        }
    }
    module.unload();
}

/// How often a function of the kernel is called, while this lives.
struct Calls(&'static str);

impl Calls {
    const EVENTS: &'static str = "/sys/kernel/debug/tracing/kprobe_events";

    fn of(function: &'static str) -> Calls {
        fs::write(Self::EVENTS, format!("p:vbd_case {function}")).expect("a probe");
        let calls = Calls(function);
        calls.switch("1");
        calls
    }

    fn switch(&self, on: &str) {
        let path = "/sys/kernel/debug/tracing/events/kprobes/vbd_case/enable";
        fs::write(path, on).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    fn count(&self) -> u64 {
        let text = fs::read_to_string("/sys/kernel/debug/tracing/kprobe_profile");
        let text = text.expect("kprobe_profile");
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("vbd_case"));
        let hits = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        hits.unwrap_or_else(|| panic!("no calls of {} in:\n{text}", self.0))
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.switch("0");
        let _ = fs::write(Self::EVENTS, "-:vbd_case");
    }
}

/// A layer of LZ4 blocks of which one is damaged.
fn damaged(bad: usize) -> (Image, Vec<u8>) {
    let image = Image::new(content::text(&mut Rng(311), 64 * BLOCK), 1);
    let mut bytes = image.build();
    bytes[image.stored_at(bad) + 9] ^= 1;
    (image, bytes)
}

/// All processors would have to empty their lists of pages that were read just now.
fn a_bad_block_costs_no_other_processor() {
    const READS: u64 = 50;
    let (image, bytes) = damaged(9);
    let layer = image.file(&bytes);
    let module = Module::stack(&[&layer], "");
    // A page that somebody maps stays where it is for those who are polite.
    let map = vmap::Map::with_options()
        .open(&layer)
        .expect("the mapped layer")
        .0;
    assert_eq!(&map[..], &bytes[..]);
    let file = read::direct(DEVICE);
    let calls = Calls::of("lru_add_drain_all");
    let before = calls.count();
    for _ in 0..READS {
        read::check_eio(&file, 9 * BLOCK as u64, BLOCK);
    }
    assert_eq!(
        calls.count() - before,
        0,
        "times that all lists were emptied"
    );
    drop(calls);
    assert_eq!(&map[..], &bytes[..]);
    let expected = Faults {
        crc: 2 * READS,
        decode: 0,
        rereads: READS,
        errors: READS,
    };
    assert_eq!(module.faults(), expected);
    drop(file);
    image.check(&[9]);
    module.unload();
}

/// The second attempt at a block asks the storage, whoever has its pages in use.
fn a_page_that_is_mapped_is_read_again() {
    let (image, bytes) = damaged(9);
    let layer = image.file(&bytes);
    rustix::fs::sync();
    let module = Module::stack(&[&layer], "");
    let map = vmap::Map::with_options()
        .open(&layer)
        .expect("the mapped layer")
        .0;
    assert_eq!(&map[..], &bytes[..]);
    let file = read::direct(DEVICE);
    read::check_eio(&file, 9 * BLOCK as u64, BLOCK);
    let before = watched::bytes_read(&layer);
    read::check_eio(&file, 9 * BLOCK as u64, BLOCK);
    let again = watched::bytes_read(&layer) - before;
    assert!(again >= 512, "{again} bytes were read from the storage");
    drop((file, map));
    module.unload();
}

/// Threads of the kernel's workqueues that wait and cannot be woken.
fn waiting_workers() -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let workers = stats.filter(|stat| stat.contains("(kworker/"));
    workers.filter(|stat| stat.contains(") D ")).collect()
}

/// Storage that takes its time keeps readers waiting, and no worker for each of them.
fn no_worker_waits_for_pages() {
    const READERS: usize = 32;
    let scratch = Scratch::new();
    let disk = Rng(314).noise(READERS << 16);
    let layer = layers::create(&scratch, "layer", &disk, &["--format=plain"]);
    let lower = Loop::new(&layer);
    let slow = Volume::new("case-slow", &whole(&lower.path(), "linear", ""));
    let module = Module::stack(&[slow.path()], "");
    read::drop_caches();
    assert!(crate::modules::probe(&["dm-delay"]), "modprobe dm-delay");
    slow.change(&whole(&lower.path(), "delay", "8000"));
    let before = module.stat("queued");
    thread::scope(|scope| {
        for number in 0..READERS {
            let disk = &disk;
            scope.spawn(move || {
                let file = read::direct(DEVICE);
                read::check(&file, disk, (number << 16) as u64, BLOCK);
            });
        }
        let end = Instant::now() + Duration::from_secs(30);
        while module.stat("queued") - before < READERS as u64 && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_secs(1));
        let waiting = waiting_workers();
        assert_eq!(module.stat("queued") - before, READERS as u64, "readers");
        assert!(waiting.len() <= 2, "{waiting:#?}");
    });
    slow.change(&whole(&lower.path(), "linear", ""));
    read::check_all(DEVICE, &disk);
    assert_eq!(module.faults(), Faults::default());
    module.unload();
}
