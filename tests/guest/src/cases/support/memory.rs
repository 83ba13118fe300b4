// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Memory of the kernel, as it tells of it, and what has to be left out to see what somebody took. All
//! in KiB.

use std::fs;

/// What `/proc/meminfo` says.
pub(crate) struct Meminfo(String);

impl Meminfo {
    pub(crate) fn read() -> Meminfo {
        Meminfo(fs::read_to_string("/proc/meminfo").expect("/proc/meminfo"))
    }

    /// KiB of a kind, by its name there.
    pub(crate) fn kib(&self, name: &str) -> i64 {
        let value = self.0.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim().trim_end_matches(" kB"))
        });
        let value = value.unwrap_or_else(|| panic!("no {name} in {}", self.0));
        value.parse().expect("a number of /proc/meminfo")
    }

    /// Free, or with what is in files.
    pub(crate) fn free(&self) -> i64 {
        let files = self.kib("Cached") + self.kib("Buffers");
        self.kib("MemFree") + kept_by_processors() + files
    }

    /// All the rest.
    pub(crate) fn in_use(&self) -> i64 {
        self.kib("MemTotal") - self.free()
    }
}

/// Has the kernel give up what nobody uses: pages of files, dentries and inodes, what caches of objects
/// keep for the next time, and what KASAN keeps after it was freed so that its use is found out.
pub(crate) fn give_up_unused() {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").expect("drop_caches");
    let caches = fs::read_dir("/sys/kernel/slab").expect("/sys/kernel/slab");
    for cache in caches.map(|cache| cache.expect("a cache").path()) {
        // One name of several may be gone by now.
        let _ = fs::write(cache.join("shrink"), "1");
    }
}

/// Objects of the kernel's allocator.
pub(crate) struct Slabs {
    /// In use, without the checkers' own.
    pub(crate) used: i64,
    /// Slabs in which kernels that check themselves note down what they have seen, as many as they are.
    /// Some of it is lost whatever runs: in User-Mode Linux, each program that ends leaves some 180
    /// notes of 88 bytes.
    pub(crate) checkers: i64,
}

impl Slabs {
    pub(crate) fn read() -> Slabs {
        let text = fs::read_to_string("/proc/slabinfo").expect("/proc/slabinfo");
        let (mut used, mut checkers) = (0, 0);
        // Under a version and a heading.
        for line in text.lines().skip(2) {
            // Name, objects in use, objects, bytes of one, objects and pages of a slab, and more; slabs
            // come last but one.
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words[at].parse::<i64>().expect("a number of slabinfo");
            if let "debug_objects_cache" | "kmemleak_object" = words[0] {
                checkers += number(words.len() - 2) * number(5) * 4;
            } else {
                used += number(1) * number(3);
            }
        }
        Slabs {
            used: used / 1024,
            checkers,
        }
    }
}

/// Free pages that processors keep at hand: tens of megabytes, which come and go, and which
/// `/proc/meminfo` does not tell from pages in use.
fn kept_by_processors() -> i64 {
    let text = fs::read_to_string("/proc/zoneinfo").expect("/proc/zoneinfo");
    let counts = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("count:"))
        .map(|count| count.trim().parse::<i64>().expect("a number of pages"));
    counts.sum::<i64>() * 4
}
