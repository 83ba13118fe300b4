// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Faults on demand, of a kernel that is built for them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

const DEBUGFS: &str = "/sys/kernel/debug";

/// What can be made to fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Allocations of objects.
    Slab,
    /// Allocations of pages.
    Pages,
    /// Requests to disks that are marked for it.
    Requests,
}

impl Kind {
    fn directory(self) -> PathBuf {
        let name = match self {
            Kind::Slab => "failslab",
            Kind::Pages => "fail_page_alloc",
            Kind::Requests => "fail_make_request",
        };
        PathBuf::from(DEBUGFS).join(name)
    }

    fn set(self, name: &str, value: &str) {
        let path = self.directory().join(name);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn get(self, name: &str) -> i64 {
        let path = self.directory().join(name);
        let text = fs::read_to_string(&path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().parse().expect("a number")
    }

    /// Has allocations fail that may wait, which are spared unless this is said.
    fn spare_none(self) {
        match self {
            Kind::Slab => self.set("ignore-gfp-wait", "N"),
            Kind::Pages => {
                self.set("ignore-gfp-wait", "N");
                self.set("ignore-gfp-highmem", "N");
                self.set("min-order", "0");
            }
            Kind::Requests => {}
        }
        // A line of the log for each fault, with 2 also the stack: for whoever looks for one.
        let verbose = std::env::var("VBD_FAULT_VERBOSE");
        self.set("verbose", verbose.as_deref().unwrap_or("0"));
    }
}

/// How often something fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Times {
    Once,
    Exactly(u32),
    Always,
}

impl Times {
    fn shown(self) -> String {
        match self {
            Times::Once => "1".into(),
            Times::Exactly(times) => times.to_string(),
            Times::Always => "-1".into(),
        }
    }
}

/// Something fails while this lives.
pub(crate) struct Failing {
    kind: Kind,
    space: i64,
}

impl Failing {
    /// Allocations of `kind` that `module` is the cause of, in any task, after `space` bytes or pages
    /// that still succeed.
    pub(crate) fn below(module: &str, kind: Kind, space: i64, times: Times) -> Failing {
        let (start, end) = text_of(module);
        kind.spare_none();
        kind.set("stacktrace-depth", "32");
        kind.set("require-start", &format!("{start:#x}"));
        kind.set("require-end", &format!("{end:#x}"));
        Failing::arm(kind, space, times)
    }

    /// Requests to a disk such as `loop0`.
    pub(crate) fn requests(disk: &str, times: Times) -> Failing {
        Kind::Requests.spare_none();
        mark(disk, "1");
        Failing::arm(Kind::Requests, 0, times)
    }

    fn arm(kind: Kind, space: i64, times: Times) -> Failing {
        kind.set("task-filter", "N");
        kind.set("interval", "1");
        kind.set("space", &space.to_string());
        kind.set("times", &times.shown());
        kind.set("probability", "100");
        Failing { kind, space }
    }

    /// How much of the space is used up.
    pub(crate) fn used(&self) -> i64 {
        self.space - self.kind.get("space")
    }

    /// Faults that are left of those that were ordered.
    pub(crate) fn left(&self) -> i64 {
        self.kind.get("times")
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        self.kind.set("probability", "0");
        if self.kind == Kind::Requests {
            for entry in fs::read_dir("/sys/block").expect("/sys/block") {
                mark(&entry.expect("a disk").file_name().to_string_lossy(), "0");
            }
        } else {
            self.kind.set("require-start", "0");
            self.kind.set("require-end", &u64::MAX.to_string());
        }
    }
}

/// Points at which memory fails, over what is asked for in all.
const POINTS: i64 = 24;

/// More than anything here takes, in bytes and in pages.
const PLENTY: i64 = 1 << 30;

/// A point at which memory begins to fail, or fails once.
pub(crate) struct Point {
    failing: Option<Failing>,
    times: Times,
}

impl Point {
    /// From here on nothing fails.
    pub(crate) fn over(&mut self) {
        self.failing = None;
    }

    pub(crate) fn times(&self) -> Times {
        self.times
    }
}

/// Does `act` with memory of each kind failing below a module, once and for good, from many points on.
pub(crate) fn everywhere(module: &str, mut act: impl FnMut(&mut Point)) {
    for kind in [Kind::Slab, Kind::Pages] {
        let times = Times::Once;
        let all = {
            let failing = Failing::below(module, kind, PLENTY, times);
            act(&mut Point {
                failing: None,
                times,
            });
            failing.used()
        };
        println!("{kind:?}: {all} in all");
        let points = POINTS.min(all);
        for times in [Times::Once, Times::Always] {
            for point in 0..points {
                let failing = Failing::below(module, kind, all * point / points, times);
                act(&mut Point {
                    failing: Some(failing),
                    times,
                });
            }
        }
    }
}

/// Says whether requests to a disk may be made to fail.
fn mark(disk: &str, value: &str) {
    let path = format!("/sys/block/{disk}/make-it-fail");
    fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Where the code of a loaded module is.
fn text_of(module: &str) -> (u64, u64) {
    let text = fs::read_to_string("/proc/modules").expect("/proc/modules");
    let line = text
        .lines()
        .find(|line| line.split(' ').next() == Some(module));
    let mut words = line
        .unwrap_or_else(|| panic!("{module} is not loaded"))
        .split(' ');
    let size: u64 = words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let start = words.nth(3).and_then(|word| word.strip_prefix("0x"));
    let start = start.and_then(|word| u64::from_str_radix(word, 16).ok());
    let start = start.filter(|start| *start != 0 && size != 0);
    let start = start.unwrap_or_else(|| panic!("no address of {module} in {text}"));
    (start, start + size)
}

/// Does `attempt` with the first allocation of this thread in it failing, then anew with the second,
/// and so on, until there are fewer; returns how many have failed.
///
/// `attempt` is given a [`Nth`] for the part in which the allocation is to fail; whatever else it does
/// is undisturbed.
pub(crate) fn each_allocation(attempt: impl FnMut(&mut Nth)) -> u32 {
    each_allocation_after(0, attempt)
}

/// As [`each_allocation`], but without the first `spared`.
pub(crate) fn each_allocation_after(spared: u32, mut attempt: impl FnMut(&mut Nth)) -> u32 {
    Kind::Slab.spare_none();
    Kind::Pages.spare_none();
    let mut failed = 0;
    for number in spared + 1.. {
        let mut nth = Nth::new(number);
        attempt(&mut nth);
        match nth.failed {
            Some(true) => failed += 1,
            Some(false) => return failed,
            None => panic!("nothing was tried"),
        }
        // A loop of retries would never come to an end.
        assert!(number < 20_000, "allocations without end");
    }
    unreachable!()
}

/// How many allocations of this thread `act` takes, none of which fails.
pub(crate) fn count_allocations(act: impl FnOnce()) -> u32 {
    /// More than anything takes.
    const MANY: u32 = 1 << 24;

    Kind::Slab.spare_none();
    Kind::Pages.spare_none();
    let mut nth = Nth::new(MANY);
    nth.run(act);
    MANY - nth.left
}

/// One allocation to fail.
pub(crate) struct Nth {
    number: u32,
    file: File,
    failed: Option<bool>,
    /// How many more there would have to be.
    left: u32,
}

impl Nth {
    fn new(number: u32) -> Nth {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .open("/proc/thread-self/fail-nth");
        Nth {
            number,
            file: file.expect("fail-nth"),
            failed: None,
            left: number,
        }
    }

    /// Which one it is, from 1 on.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Whether the allocation came.
    pub(crate) fn failed(&self) -> bool {
        self.failed == Some(true)
    }

    /// Does something in which that allocation fails.
    pub(crate) fn run<R>(&mut self, act: impl FnOnce() -> R) -> R {
        let number = self.number.to_string();
        self.file.write_at(number.as_bytes(), 0).expect("fail-nth");
        let result = act();
        let mut left = [0; 16];
        let length = self.file.read_at(&mut left, 0).expect("fail-nth");
        self.file.write_at(b"0", 0).expect("fail-nth");
        let left = String::from_utf8_lossy(&left[..length]);
        self.left = left.trim().parse().expect("a number of fail-nth");
        self.failed = Some(self.left == 0);
        result
    }
}
