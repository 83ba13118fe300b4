// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Free pages that nothing counts as free.

use std::fs;

/// KiB of free pages that processors keep at hand: tens of megabytes, which come and go, and which
/// `/proc/meminfo` does not tell from pages in use.
pub(crate) fn kept_by_processors() -> i64 {
    let text = fs::read_to_string("/proc/zoneinfo").expect("/proc/zoneinfo");
    let counts = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("count:"))
        .map(|count| count.trim().parse::<i64>().expect("a number of pages"));
    counts.sum::<i64>() * 4
}
