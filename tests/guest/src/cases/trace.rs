// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Tracepoints: what whoever listens gets to know of reads, good and bad.

use super::dm::traced as device_mapper;
use super::support::damage::{Image, BLOCK};
use super::support::device::{Module, DEVICE};
use super::support::read;
use super::support::scratch::Scratch;
use crate::case::Case;
use rustix::io::Errno;
use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};
use std::fs;
use std::path::{Path, PathBuf};
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::rng::Rng;

pub(super) const CASES: &[Case] = crate::cases::cases![
    requests_of_a_disk,
    bios_of_device_mapper,
    module_that_is_listened_to
];

const PLACE: &str = "/sys/kernel/tracing";

/// The file system of tracing, with events of one system switched on; off and away with this value.
struct Events(PathBuf);

impl Events {
    /// Listens to `system`, whose module is loaded.
    fn on(system: &str) -> Events {
        let none = None::<&std::ffi::CStr>;
        match mount("tracefs", PLACE, "tracefs", MountFlags::empty(), none) {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(errno) => panic!("mount {PLACE}: {errno:?}"),
        }
        let events = Events(Path::new(PLACE).join("events").join(system));
        events.switch("1");
        events.clear();
        events
    }

    fn switch(&self, value: &str) {
        let path = self.0.join("enable");
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn clear(&self) {
        fs::write(Path::new(PLACE).join("trace"), "").expect("an empty trace");
    }

    /// What was traced since the last call, without what is different each time; all times have to be
    /// there.
    fn said(&self) -> Vec<String> {
        let text = fs::read_to_string(Path::new(PLACE).join("trace")).expect("the trace");
        self.clear();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let event = line.find(": vbd_").expect("an event of ours");
                let event = &line[event + 2..];
                match event.rsplit_once(" ns=") {
                    None => event.to_owned(),
                    Some((event, ns)) => {
                        let ns: u64 = ns.parse().expect("nanoseconds");
                        assert!(ns < 600_000_000_000, "{line}");
                        event.to_owned()
                    }
                }
            })
            .collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if self.0.exists() {
            self.switch("0");
        }
        let _ = unmount(PLACE, UnmountFlags::empty());
    }
}

/// The damaged block, and one that is not.
const BAD: usize = 21;
const GOOD: usize = 3;

/// A stack of two layers, of which the upper, compressed one has a bad block.
pub(super) struct Traced {
    scratch: Scratch,
    image: Image,
}

impl Traced {
    pub(super) fn new() -> Traced {
        Traced {
            scratch: Scratch::new(),
            image: Image::new(Rng(161).noise(64 * BLOCK), 1),
        }
    }

    /// The layers, bottom first.
    pub(super) fn files(&self) -> [Vec<u8>; 2] {
        let size = self.image.disk.len() as u64;
        let bottom = Spec::new(size, vec![1; 512], &[Record::data(0, 1, 8)]).build();
        let mut top = self.image.build();
        top[self.image.stored_at(BAD) + 100] ^= 4;
        [bottom, top]
    }

    pub(super) fn bytes(&self) -> u64 {
        self.image.disk.len() as u64
    }

    /// Reads one block past the page cache.
    fn read(&self, disk: &str, block: usize) {
        let file = read::direct(disk);
        let at = (block * BLOCK) as u64;
        match block {
            BAD => read::check_eio(&file, at, BLOCK),
            _ => read::check(&file, &self.image.disk, at, BLOCK),
        }
    }

    /// What is traced of reads of `node`, in a system of events.
    pub(super) fn check(&self, system: &str, node: &str, device: &str) {
        let events = Events::on(system);
        let stored = |block: usize| {
            let at = self.image.stored_at(block);
            (at, self.image.stored_at(block + 1) - at)
        };
        let fetch = |block: usize| {
            let (at, length) = stored(block);
            format!("vbd_fetch: device={device} layer=1 offset={at} bytes={length} error=0")
        };
        let decode = |block: usize, error: i32| {
            let (at, _) = stored(block);
            format!("vbd_decode: device={device} layer=1 offset={at} bytes=4096 error={error}")
        };
        let request = |block: usize, queued: u8, error: i32| {
            let at = block * BLOCK;
            format!(
                "vbd_request: device={device} offset={at} bytes=4096 queued={queued} error={error}"
            )
        };
        read::drop_caches();
        self.read(node, GOOD);
        assert_eq!(
            events.said(),
            [fetch(GOOD), decode(GOOD, 0), request(GOOD, 1, 0)]
        );
        // Once more, from the page cache of the layer's file.
        self.read(node, GOOD);
        assert_eq!(events.said(), [decode(GOOD, 0), request(GOOD, 0, 0)]);
        // EBADMSG, twice, and then EIO.
        read::drop_caches();
        self.read(node, BAD);
        let (at, _) = stored(BAD);
        assert_eq!(
            events.said(),
            [
                fetch(BAD),
                decode(BAD, -74),
                fetch(BAD),
                decode(BAD, -74),
                format!(
                    "vbd_error: device={device} start={} bytes=4096 layer=1 offset={at} error=-74 \
                     reason=\"block checksum does not match\"",
                    BAD * BLOCK
                ),
                request(BAD, 1, -5),
            ]
        );
        events.switch("0");
        self.read(node, GOOD);
        self.read(node, BAD);
        assert_eq!(events.said(), [""; 0]);
    }
}

fn requests_of_a_disk() {
    let traced = Traced::new();
    let files: Vec<PathBuf> = ["bottom", "top"]
        .into_iter()
        .zip(traced.files())
        .map(|(name, file)| traced.scratch.file(name, &file))
        .collect();
    let module = Module::stack(&files, "inline=1");
    traced.check("vbd", DEVICE, "vbd0");
    module.unload();
}

fn bios_of_device_mapper() {
    let traced = Traced::new();
    device_mapper(&traced);
}

/// The module goes while its events are on, with all that was traced of it, and comes again.
fn module_that_is_listened_to() {
    let traced = Traced::new();
    let [_, top] = traced.files();
    let layer = traced.scratch.file("layer", &top);
    for _ in 0..3 {
        let module = Module::stack(std::slice::from_ref(&layer), "");
        let events = Events::on("vbd");
        traced.read(DEVICE, GOOD);
        assert!(!events.said().is_empty());
        traced.read(DEVICE, BAD);
        module.unload();
        assert!(!events.0.exists(), "events without a module");
        // Nobody is left to say what was traced.
        fs::read_to_string(Path::new(PLACE).join("trace")).expect("the trace");
    }
}
