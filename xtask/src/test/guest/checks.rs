// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What a kernel that checks itself has to say once the cases are over.

use crate::kit::Own;
use crate::vm::{Ended, Vm};
use anyhow::Result;

/// Words for the command line of a kernel that can do it: search for leaks from the start.
pub(super) const APPEND: &str = "kmemleak=on";

/// Lock checks switch themselves off for good when something is amiss, and a report that scrolled
/// past must not pass for a suite that was watched to its end.
const LOCKS: &str = "\
    grep -q 'debug_locks: *1$' /proc/lockdep_stats || echo 'the lock checks are off'; ";

/// So does the search for leaks. They are searched twice, since an object is suspected only when it
/// was already there some seconds before.
const LEAKS: &str = "\
    for module in vbd_dm vbd; do \
        test ! -d /sys/module/$module || rmmod $module || echo \"$module stays loaded\"; \
    done; \
    leaks=/sys/kernel/debug/kmemleak; \
    if echo scan >$leaks; then sleep 6; echo scan >$leaks; cat $leaks; \
    else echo 'the search for leaks is off'; fi";

/// Whose kernel stack came nearest to its end, and how many bytes of it were left: what a kernel says that
/// looks at each stack when its task ends (`CONFIG_DEBUG_STACK_USAGE`).
pub(super) fn least_stack(console: &str) -> Option<(u64, &str)> {
    let said = console.lines().filter_map(|line| {
        let (task, rest) = line.split_once(" used greatest stack depth: ")?;
        let bytes = rest.trim_end().strip_suffix(" bytes left")?.parse().ok()?;
        Some((bytes, task.rsplit_once("] ").map_or(task, |(_, task)| task)))
    });
    said.min_by_key(|(bytes, _)| *bytes)
}

/// Lines about what is wrong at the end; none if all is well. A guest that was lost says nothing
/// here: that counts elsewhere.
pub(super) fn left(vm: &mut Vm, kernel: Own) -> Result<Vec<String>> {
    let locks = if kernel.checks_locks() { LOCKS } else { "" };
    let mut said = Vec::new();
    let mut errors = Vec::new();
    let ended = vm.exec(&format!("{locks}{LEAKS}"), &mut said, &mut errors)?;
    let text = String::from_utf8_lossy(&said).into_owned() + &String::from_utf8_lossy(&errors);
    let lines = text.lines().map(str::to_string);
    Ok(match ended {
        Ended::Lost(_) => Vec::new(),
        Ended::Status(_) => lines.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_stack_is_told() {
        let console = "[    2.3] blockdev (45) used greatest stack depth: 11624 bytes left\r\n\
                       [   99.8] vbd-guest (41) used greatest stack depth: 1888 bytes left\r\n\
                       [  100.1] vbd: layer 1: CRC of block 7 is wrong\r\n";
        assert_eq!(least_stack(console), Some((1888, "vbd-guest (41)")));
        assert_eq!(least_stack("[    0.0] Linux version 7.2.12\n"), None);
    }
}
