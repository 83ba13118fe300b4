// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Files that somebody fills in while they are read: he is asked before each read (fanotify's pre-content
//! events), and has the bytes that are holes until then.

use crate::case::Case;
use crate::cases::support::device::{Faults, Module, DEVICE};
use crate::cases::support::scratch::Scratch;
use crate::cases::support::{layers, read};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use rustix::fs::{major, minor, stat};
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use vbd_tests_host::rng::Rng;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    holes_are_filled_before_they_are_read,
    readers_wait_for_permission,
];

/// `FAN_PRE_ACCESS`, which the crate does not know.
const PRE_ACCESS: u64 = 0x0010_0000;

/// Bytes that were read from the disk below `path` so far.
pub(super) fn bytes_read(path: &Path) -> u64 {
    let device = stat(path).expect("a file").st_dev;
    let place = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
    let text = fs::read_to_string(&place).unwrap_or_else(|error| panic!("{place}: {error}"));
    let sectors: Option<u64> = text.split_whitespace().nth(2).and_then(|w| w.parse().ok());
    sectors.expect("a number of sectors") * 512
}

/// Answers every question about the file at `path` while `f` runs, each after a call of `answer`.
fn watching<R>(path: &Path, mask: u64, answer: impl Fn() + Sync, f: impl FnOnce() -> R) -> R {
    let flags = InitFlags::FAN_CLASS_PRE_CONTENT | InitFlags::FAN_NONBLOCK | InitFlags::FAN_CLOEXEC;
    let watch = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE);
    let watch = watch.expect("fanotify_init");
    let mask = MaskFlags::from_bits_retain(mask);
    watch
        .mark(MarkFlags::FAN_MARK_ADD, mask, rustix::fs::CWD, Some(path))
        .expect("fanotify_mark");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let answering = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let events = match watch.read_events() {
                    Ok(events) => events,
                    Err(nix::errno::Errno::EAGAIN) => {
                        thread::sleep(Duration::from_micros(200));
                        continue;
                    }
                    Err(errno) => panic!("fanotify: {errno}"),
                };
                for event in events {
                    answer();
                    let file = event.fd().expect("a file");
                    watch
                        .write_response(FanotifyResponse::new(file, Response::FAN_ALLOW))
                        .expect("an answer");
                }
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        done.store(true, Ordering::Release);
        answering.join().expect("the answers");
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Every page of a plain layer is a hole when it is asked for; read-ahead makes zeroes of its neighbours
/// in the page cache, which are nobody's data.
fn holes_are_filled_before_they_are_read() {
    const PAGES: usize = 192;
    let scratch = Scratch::new();
    let disk = Rng(312).noise(PAGES * 4096);
    let full = layers::create(&scratch, "full", &disk, &["--format=plain"]);
    let full = fs::read(full).expect("the full layer");
    let data = 4096..4096 + disk.len();
    assert_eq!(&full[data.clone()], &disk[..], "where the data lie");

    for inline in ["inline=1", "inline=0"] {
        let path = scratch.file("lazy", &full);
        // Opened before it is watched, so that filling it raises no questions.
        let lazy = OpenOptions::new().write(true).open(&path).expect("lazy");
        lazy.set_len(4096).expect("truncate");
        lazy.set_len(full.len() as u64).expect("holes");
        lazy.write_all_at(&full[data.end..], data.end as u64)
            .expect("the index");
        lazy.sync_all().expect("fsync");
        read::drop_caches();

        let wanted = Mutex::new(Range::<usize>::default());
        let fill = || {
            let wanted = wanted.lock().unwrap().clone();
            lazy.write_all_at(&full[wanted.clone()], wanted.start as u64)
                .expect("the bytes");
        };
        let module = watching(&path, PRE_ACCESS, fill, || {
            let module = Module::stack(&[&path], inline);
            let device = read::direct(DEVICE);
            for page in 0..PAGES {
                let at = page * 4096;
                *wanted.lock().unwrap() = data.start + at..data.start + at + 4096;
                read::check(&device, &disk, at as u64, 4096);
            }
            drop(device);
            read::check_all(DEVICE, &disk);
            module
        });
        assert_eq!(module.faults(), Faults::default());
        module.unload();
    }
}

/// The older question, before any access: each read asks it, whatever is cached.
fn readers_wait_for_permission() {
    let scratch = Scratch::new();
    let disk = Rng(313).noise(64 << 10);
    let layer = layers::create(&scratch, "layer", &disk, &["--format=plain"]);
    let asked = AtomicU64::new(0);
    let ask = || {
        asked.fetch_add(1, Ordering::Relaxed);
    };
    let module = watching(&layer, MaskFlags::FAN_ACCESS_PERM.bits(), ask, || {
        let module = Module::stack(&[&layer], "");
        let device: File = read::direct(DEVICE);
        for page in (0..disk.len()).step_by(4096) {
            for _ in 0..2 {
                let before = asked.load(Ordering::Relaxed);
                read::check(&device, &disk, page as u64, 4096);
                let questions = asked.load(Ordering::Relaxed) - before;
                assert_eq!(questions, 1, "questions before a read at {page}");
            }
        }
        module
    });
    assert_eq!(module.faults(), Faults::default());
    module.unload();
}
