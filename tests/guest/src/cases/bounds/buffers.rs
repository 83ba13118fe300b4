// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Memory of reads under way: who needs none takes none, and what was taken once is there the next time.

use crate::case::Case;
use crate::cases::support::device::{Module, DEVICE};
use crate::cases::support::dir::Dir;
use crate::cases::support::layers;
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};
use std::fs;
use std::thread;
use vbd_tests_host::rng::Rng;

pub(in crate::cases) const CASES: &[Case] =
    crate::cases::cases![plain_layers_take_none, compressed_layers_take_them_once];

/// Readers at the same time: many more than processors.
const READERS: u64 = 32;
const READS: u64 = 4000;
/// Sets of buffers that are there at most, and how often one of them becomes larger.
const SETS: usize = READERS as usize + 4;
const GROWTH: usize = 4;

const TRACING: &str = "/sys/kernel/tracing";

/// Large pieces of memory that anybody in the kernel asks its allocator for.
struct Allocations;

impl Allocations {
    fn watch() -> Allocations {
        if !std::path::Path::new(TRACING).join("events").exists() {
            mount("tracefs", TRACING, "tracefs", MountFlags::empty(), None).expect("tracefs");
        }
        let this = Allocations;
        this.write("events/kmem/kmalloc/filter", "bytes_req >= 32768");
        this.write("events/kmem/kmalloc/enable", "1");
        this
    }

    fn write(&self, file: &str, value: &str) {
        fs::write(format!("{TRACING}/{file}"), value).unwrap_or_else(|e| panic!("{file}: {e}"));
    }

    /// Those that there are while `work` runs.
    fn during(&self, work: impl FnOnce()) -> Vec<String> {
        self.write("trace", "");
        work();
        let trace = fs::read_to_string(format!("{TRACING}/trace")).expect("the trace");
        // The allocator below tells of the same ones.
        let lines = trace.lines().filter(|line| line.contains("kvrealloc"));
        lines.map(str::to_string).collect()
    }
}

impl Drop for Allocations {
    fn drop(&mut self) {
        self.write("events/kmem/kmalloc/enable", "0");
        self.write("events/kmem/kmalloc/filter", "0");
        let _ = unmount(TRACING, UnmountFlags::DETACH);
    }
}

/// Reads pages at random, many at a time.
fn reads(disk: &[u8], device: &str) {
    thread::scope(|scope| {
        for reader in 0..READERS {
            scope.spawn(move || {
                let file = read::direct(device);
                let mut rng = Rng(reader);
                for _ in 0..READS / READERS {
                    let page = rng.below(disk.len() as u64 / 4096);
                    read::check(&file, disk, page * 4096, 4096);
                }
            });
        }
    });
}

fn plain_layers_take_none() {
    let scratch = Scratch::new();
    let disk = Rng(91).texture(16 << 20);
    let layer = layers::create(&scratch, "layer", &disk, &["--format=plain"]);
    let module = Module::load("inline=0");
    for direct in ["0", "1"] {
        let dir = Dir::new("plain");
        dir.set("direct", direct).expect("direct");
        dir.layer(0, &layer).expect("a layer");
        dir.set("power", "1").expect("power on");
        read::drop_caches();
        let device = dir.disk();
        let allocations = Allocations::watch();
        let seen = allocations.during(|| reads(&disk, &device));
        drop(allocations);
        assert_eq!(seen, [""; 0], "direct={direct}");
        dir.detach();
    }
    module.unload();
}

fn compressed_layers_take_them_once() {
    let scratch = Scratch::new();
    let disk = Rng(92).texture(16 << 20);
    for (block, once) in [("4K", 0), ("64K", SETS * GROWTH)] {
        let options = ["--format=lz4", &format!("--block-size={block}")];
        let layer = layers::create(&scratch, block, &disk, &options);
        let module = Module::stack(&[layer], "inline=0 cache_mb=0");
        let allocations = Allocations::watch();
        let mut seen = Vec::new();
        for _ in 0..2 {
            read::drop_caches();
            seen.extend(allocations.during(|| reads(&disk, DEVICE)));
        }
        drop(allocations);
        assert!(
            seen.len() <= once,
            "blocks of {block}: {} {seen:#?}",
            seen.len()
        );
        module.unload();
    }
}
