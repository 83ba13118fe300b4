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
