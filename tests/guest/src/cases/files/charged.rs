// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Who pays for reads of the files behind a device: the control groups of whoever reads it, as with loop.

use crate::case::Case;
use crate::cases::support::device::Module;
use crate::cases::support::dir::Dir;
use crate::cases::support::scratch::{Mounted, Scratch};
use crate::cases::support::storage::Volume;
use crate::cases::support::tool::Loop;
use crate::cases::support::{device, layers, read};
use rustix::fs::{major, minor, stat};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vbd_tests_host::rng::Rng;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    io_and_memory_are_the_reader_s,
    a_limit_of_bandwidth_holds,
    a_limit_of_memory_holds,
];

const MIB: u64 = 1 << 20;

/// Control groups of version 2, mounted while this lives.
struct Groups {
    _mounted: Mounted,
    place: PathBuf,
}

impl Groups {
    fn new(scratch: &Scratch) -> Groups {
        let place = scratch.join("groups");
        let mounted = Mounted::new("cgroup2", &place, "cgroup2", false);
        let control = place.join("cgroup.subtree_control");
        fs::write(control, "+io +memory").expect("controllers");
        Groups {
            _mounted: mounted,
            place,
        }
    }

    fn make(&self, name: &str) -> Group {
        let path = self.place.join(name);
        fs::create_dir(&path).expect("a group");
        Group(path)
    }
}

/// A group, removed with this value.
struct Group(PathBuf);

impl Group {
    fn set(&self, name: &str, value: &str) {
        fs::write(self.0.join(name), value).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    fn get(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Has a program of the group read a device from its begin, past its page cache.
    fn read(&self, device: &str, bytes: u64) {
        let done = self.reader(device, bytes).wait_with_output();
        let done = done.expect("a reader");
        assert!(done.status.success(), "{done:?}");
    }

    /// Starts such a program.
    fn reader(&self, device: &str, bytes: u64) -> Child {
        let script = format!(
            "echo $$ > {}/cgroup.procs && exec dd if={device} of=/dev/null bs=64k count={} iflag=direct",
            self.0.display(),
            bytes >> 16
        );
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).stderr(Stdio::piped());
        command.spawn().expect("a reader")
    }

    /// Bytes that the group has read from a disk.
    fn bytes_read(&self, disk: &str) -> u64 {
        let text = self.get("io.stat");
        let line = text.lines().find_map(|line| line.strip_prefix(disk));
        let word = line.and_then(|line| line.split(' ').find_map(|w| w.strip_prefix("rbytes=")));
        word.map_or(0, |number| number.parse().expect("rbytes"))
    }

    /// Bytes of page cache that the group is charged for.
    fn cached(&self) -> u64 {
        let text = self.get("memory.stat");
        let number = text.lines().find_map(|line| line.strip_prefix("file "));
        number.expect("file").parse().expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What a reader has left is let go of a moment later.
        let end = Instant::now() + Duration::from_secs(10);
        while let Err(error) = fs::remove_dir(&self.0) {
            if Instant::now() > end {
                assert!(std::thread::panicking(), "{}: {error}", self.0.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Bytes in the page cache of the machine.
fn cached() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("Cached:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = word.expect("Cached").parse().expect("a number");
    kib << 10
}

/// The disk below a file, as control groups name it.
fn disk_below(file: &Path) -> String {
    let device = stat(file).expect("a file").st_dev;
    format!("{}:{}", major(device), minor(device))
}

/// Disks over files that cannot be compressed: of the driver in each form of the layer, of device mapper
/// over loop, and of loop.
struct Disks {
    scratch: Scratch,
    disk: Vec<u8>,
}

impl Disks {
    fn new(bytes: usize) -> Disks {
        Disks {
            scratch: Scratch::new(),
            disk: Rng(320).noise(bytes),
        }
    }

    /// Runs `f` with each of them, and with the number of the disk that all of them lie on.
    fn each(&self, f: impl Fn(&str, &str, &str)) {
        let bytes = self.disk.len() as u64;
        let raw = self.scratch.file("raw", &self.disk);
        let below = disk_below(&raw);
        let forms = [
            ("plain", &["--format=plain"][..], "0"),
            ("plain, direct", &["--format=plain"], "1"),
            ("lz4", &["--format=lz4"], "0"),
        ];
        let module = Module::load("");
        for (name, options, direct) in forms {
            let layer = layers::from_file(&self.scratch, "layer", &raw, options);
            let dir = Dir::new("a");
            dir.layer(0, &layer).expect("a layer");
            dir.set("direct", direct).expect("direct");
            dir.set("power", "1").expect("power");
            read::drop_caches();
            f(name, &dir.disk(), &below);
            read::check_all(&dir.disk(), &self.disk);
            let stat = dir.get("stat");
            assert!(stat.lines().any(|line| line == "errors 0"), "{stat}");
            dir.detach();
            fs::remove_file(layer).expect("unlink");
        }
        assert_eq!(device::size(&raw.display().to_string()), bytes);
        module.unload();
        let layer = layers::from_file(&self.scratch, "layer", &raw, &["--format=plain"]);
        {
            let stored = fs::metadata(&layer).expect("the layer").len();
            let lower = Loop::new(&layer);
            let lower = lower.path().display().to_string();
            let table = format!("0 {} lsmt_target {lower} {stored}", bytes / 512);
            assert!(crate::modules::probe(&["vbd_dm"]), "modprobe vbd_dm");
            {
                let target = Volume::read_only("case-charged", &table);
                read::drop_caches();
                f("lsmt_target", &target.path(), &below);
            }
            crate::modules::unload("vbd_dm").expect("rmmod vbd_dm");
        }
        fs::remove_file(layer).expect("unlink");
        let plain = Loop::new(&raw);
        read::drop_caches();
        f("loop", &plain.path().display().to_string(), &below);
    }
}

fn io_and_memory_are_the_reader_s() {
    const BYTES: u64 = 6 * MIB;
    let disks = Disks::new(BYTES as usize);
    let groups = Groups::new(&disks.scratch);
    disks.each(|name, device, below| {
        let reader = groups.make("reader");
        reader.read(device, BYTES);
        let (read, cached) = (reader.bytes_read(below), reader.cached());
        // Metadata of the file system, and read-ahead, may be anyone's.
        assert!(
            (BYTES - MIB..BYTES + MIB).contains(&read),
            "{name}: {read} bytes in io.stat"
        );
        if name != "plain, direct" {
            assert!(
                cached >= BYTES - MIB,
                "{name}: {cached} bytes in memory.stat"
            );
        }
        read::drop_caches();
    });
}

/// A reader at a snail's pace is not through after a while, and is when he may hurry.
fn a_limit_of_bandwidth_holds() {
    const BYTES: u64 = 4 * MIB;
    const SNAIL: u64 = 64 << 10;
    let disks = Disks::new(BYTES as usize);
    let groups = Groups::new(&disks.scratch);
    disks.each(|name, device, below| {
        let group = groups.make("reader");
        group.set("io.max", &format!("{below} rbps={SNAIL}"));
        let begin = Instant::now();
        let mut reader = group.reader(device, BYTES);
        while begin.elapsed() < Duration::from_secs(3) {
            let ended = reader.try_wait().expect("a reader");
            assert!(
                ended.is_none(),
                "{name}: through after {:?}",
                begin.elapsed()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        let read = group.bytes_read(below);
        // What is asked for at once is let through at once.
        assert!(read <= 2 * MIB, "{name}: {read} bytes in io.stat");
        group.set("io.max", &format!("{below} rbps=max"));
        let done = reader.wait_with_output().expect("a reader");
        assert!(done.status.success(), "{name}: {done:?}");
        read::drop_caches();
    });
}

fn a_limit_of_memory_holds() {
    const BYTES: u64 = 20 * MIB;
    const LIMIT: u64 = 8 * MIB;
    let disks = Disks::new(BYTES as usize);
    let groups = Groups::new(&disks.scratch);
    disks.each(|name, device, _| {
        let reader = groups.make("reader");
        let before = cached();
        reader.set("memory.max", &LIMIT.to_string());
        reader.read(device, BYTES);
        let peak: u64 = reader.get("memory.peak").trim().parse().expect("a number");
        let most = LIMIT + MIB;
        assert!(peak <= most, "{name}: {peak} bytes at most");
        if name != "plain, direct" {
            assert!(peak >= LIMIT / 2, "{name}: {peak} bytes at most");
        }
        // And nobody else has what the reader could not keep.
        let kept = cached().saturating_sub(before);
        assert!(kept <= LIMIT + 4 * MIB, "{name}: {kept} bytes are cached");
        read::drop_caches();
    });
}
