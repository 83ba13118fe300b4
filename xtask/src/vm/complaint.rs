// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the kernel complains about on its console.

/// Lines of a console after a complaint that are shown with it.
const EXCERPT: usize = 30;

/// Words by which a kernel announces that something does not go on; those of the guest's first process, which
/// looks for what the kernel leaves out, are the last.
const STUCK: &[&str] = &[
    "Kernel panic",
    // Tasks that nothing can wake; the words after it differ with what they wait for, and with the kernel.
    "INFO: task ",
    "waiting for writeback completion for more than",
    "refusing to freeze",
    // Processors, and what they owe each other.
    "soft lockup",
    "hard LOCKUP",
    "workqueue lockup",
    "non-responsive CSD lock",
    "detected stall",
    "detected expedited stall",
    "kthread starved for",
    "kthread timer wakeup didn't happen",
    "has not gone on for",
];

/// Words by which it announces that something is wrong with itself.
const SIGNS: &[&str] = &[
    "BUG: ",
    "BUG at ",
    "Oops: ",
    "ODEBUG: ",
    "Object already free",
    "Objects remaining",
    "Poison overwritten",
    "Redzone overwritten",
    "UBSAN: ",
    "WARNING: ",
    "------------[ cut here ]------------",
    "Invalid wait context",
    "bad unlock balance",
    "held lock freed",
    "inconsistent lock state",
    "irq lock inversion dependency",
    "list_add corruption",
    "list_del corruption",
    "lock held when returning to user space",
    "nobody cared",
    "possible circular locking dependency",
    "possible recursive locking",
    "refcount_t: ",
    "rust_kernel: panicked",
    "scheduling while atomic",
    "sleeping function called from invalid context",
    "still has locks held",
    "suspected memory leak",
    "suspicious RCU usage",
    "sysfs: cannot create duplicate",
    "trying to register non-static key",
    "turning off the locking correctness validator",
    "unable to handle",
    "unregister_netdevice: waiting",
];

/// One complaint: the line that announces it, and those after it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Complaint {
    pub(crate) title: String,
    pub(crate) excerpt: Vec<String>,
}

impl Complaint {
    /// Whether the kernel says that something does not go on. After a panic it may run in a circle and not
    /// end: so does User-Mode Linux as the first process of a namespace, which no signal can abort.
    pub(super) fn is_stuck(&self) -> bool {
        holds(&self.title, STUCK)
    }
}

/// Whether a line announces a complaint.
pub(crate) fn is_sign(line: &str) -> bool {
    holds(line, STUCK) || holds(line, SIGNS)
}

fn holds(line: &str, signs: &[&str]) -> bool {
    signs.iter().any(|sign| line.contains(sign))
}

/// Finds the complaints in the text of a console. One report may hold several signs: those within
/// the excerpt of the first belong to it.
///
/// `allowed` are parts of lines that a test expects, such as the name of an injected fault.
pub(crate) fn find(console: &str, allowed: &[String]) -> Vec<Complaint> {
    let lines: Vec<&str> = console
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .collect();
    let mut complaints = Vec::new();
    let mut next = 0;
    for (number, line) in lines.iter().enumerate() {
        // The line after a cut mark says what it is about.
        let cut = line.contains("[ cut here ]");
        let title = match lines.get(number + 1) {
            Some(next) if cut => next,
            _ => line,
        };
        let is_allowed = allowed.iter().any(|part| title.contains(part.as_str()));
        if number < next || !is_sign(line) || is_allowed {
            continue;
        }
        let excerpt: Vec<String> = lines
            .iter()
            .skip(number)
            .take(EXCERPT)
            .map(ToString::to_string)
            .collect();
        complaints.push(Complaint {
            title: without_time(title).to_string(),
            excerpt,
        });
        next = number + EXCERPT;
    }
    complaints
}

/// A line without the time stamp that the kernel puts in front.
fn without_time(line: &str) -> &str {
    let rest = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    match rest {
        Some((time, text)) if time.trim().parse::<f64>().is_ok() => text,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_console_has_none() {
        let console = "[    0.000000] Linux version 7.2.12+deb13-cloud-amd64\r\n\
                       [    0.5] Spectre V2 : Vulnerable\r\n\
                       [    1.0] vbd: loading out-of-tree module taints kernel.\r\n\
                       [    1.1] vbd: module verification failed: signature and/or key missing\r\n\
                       [    1.1] kmemleak: Kernel memory leak detector initialized\r\n\
                       [    1.1] FAULT_INJECTION: forcing a failure.\r\n\
                       [    1.2] vbd: layer 1: CRC of block 7 is wrong\r\n\
                       [    1.3] I/O error, dev vbd0, sector 8 op 0x0:(READ) flags 0x80700\r\n";
        assert_eq!(find(console, &[]), []);
    }

    #[test]
    fn each_kind_of_complaint_is_seen_with_its_title() {
        for (line, title) in [
            (
                "[    2.1] BUG: kernel NULL pointer dereference, address: 0",
                "BUG: kernel NULL pointer dereference, address: 0",
            ),
            (
                "[   65.0] INFO: task sh:70 blocked for more than 60 seconds.",
                "INFO: task sh:70 blocked for more than 60 seconds.",
            ),
            (
                "[   65.0] INFO: task sh:70 blocked in I/O wait for more than 60 seconds.",
                "INFO: task sh:70 blocked in I/O wait for more than 60 seconds.",
            ),
            (
                "[   65.0] INFO: task sh:70 is blocked on a mutex likely owned by task cat:71.",
                "INFO: task sh:70 is blocked on a mutex likely owned by task cat:71.",
            ),
            (
                "[   65.0] INFO: The task sh:70 has been waiting for writeback completion for more than 41 seconds.",
                "INFO: The task sh:70 has been waiting for writeback completion for more than 41 seconds.",
            ),
            (
                "[   20.1] Freezing user space processes failed after 20.004 seconds (1 tasks refusing to freeze, wq_busy=0):",
                "Freezing user space processes failed after 20.004 seconds (1 tasks refusing to freeze, wq_busy=0):",
            ),
            (
                "[   10.2] watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 0",
                "watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 0",
            ),
            (
                "[   31.7] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!",
                "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!",
            ),
            (
                "[   31.7] csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 5000 ns for CPU#01 f+0x0(f).",
                "csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 5000 ns for CPU#01 f+0x0(f).",
            ),
            (
                "[   21.9] rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-...D }",
                "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-...D }",
            ),
            (
                "[   21.9] rcu: rcu_preempt kthread starved for 5251 jiffies! g1 f0x0 RCU_GP_WAIT_FQS(5)",
                "rcu: rcu_preempt kthread starved for 5251 jiffies! g1 f0x0 RCU_GP_WAIT_FQS(5)",
            ),
            (
                "[   21.9] rcu: rcu_preempt kthread timer wakeup didn't happen for 5250 jiffies! g1 f0x0",
                "rcu: rcu_preempt kthread timer wakeup didn't happen for 5250 jiffies! g1 f0x0",
            ),
            (
                "[   51.0] vbd-guest: task cat:77 has not gone on for 41 s",
                "vbd-guest: task cat:77 has not gone on for 41 s",
            ),
            (
                "[   30.5] rcu: INFO: rcu_preempt self-detected stall on CPU",
                "rcu: INFO: rcu_preempt self-detected stall on CPU",
            ),
            (
                "[   30.5] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
                "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            ),
            (
                "WARNING: possible circular locking dependency detected",
                "WARNING: possible circular locking dependency detected",
            ),
            (
                "[    3.3] rust_kernel: panicked at kmod/vbd.rs:3:1:",
                "rust_kernel: panicked at kmod/vbd.rs:3:1:",
            ),
            (
                "[    3.3] watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
                "watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
            ),
            (
                "[    9.9] Kernel panic - not syncing: Fatal exception",
                "Kernel panic - not syncing: Fatal exception",
            ),
        ] {
            let found = find(&format!("before\n{line}\nafter\n"), &[]);
            assert_eq!(found.len(), 1, "{line}");
            assert_eq!(found[0].title, title);
            assert_eq!(found[0].excerpt, [line, "after"]);
            let goes_on = ["NULL pointer", "circular locking", "rust_kernel"];
            let goes_on = goes_on.iter().any(|sign| line.contains(sign));
            assert_eq!(found[0].is_stuck(), !goes_on, "{line}");
        }
    }

    #[test]
    fn reports_of_a_kernel_that_checks_itself_are_seen() {
        for line in [
            "WARNING: possible circular locking dependency detected",
            "WARNING: possible recursive locking detected",
            "WARNING: inconsistent lock state",
            "WARNING: possible irq lock inversion dependency detected",
            "WARNING: bad unlock balance detected!",
            "WARNING: held lock freed!",
            "WARNING: suspicious RCU usage",
            "[ BUG: Invalid wait context ]",
            "INFO: trying to register non-static key.",
            "turning off the locking correctness validator.",
            "INFO: lockdep: sh/71 still has locks held!",
            "BUG: sleeping function called from invalid context at mm/page_alloc.c:4890",
            "BUG: scheduling while atomic: sh/70/0x00000002",
            "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!",
            "BUG: MAX_LOCKDEP_CHAINS too low!",
            "ODEBUG: free active (active state 0) object: 0 object type: work_struct hint: f+0x0",
            "UBSAN: array-index-out-of-bounds in drivers/md/dm.c:1:1",
            "BUG: KASAN: slab-use-after-free in vbd_run+0x1/0x2 [vbd]",
            "BUG: KFENCE: out-of-bounds read in vbd_run+0x1/0x2",
            "BUG kmalloc-64 (Tainted: G           O): Poison overwritten",
            "BUG kmalloc-64 (Tainted: G           O): Right Redzone overwritten",
            "BUG kmalloc-64 (Tainted: G           O): Object already free",
            "BUG vbd (Tainted: G  O): Objects remaining on __kmem_cache_shutdown()",
            "kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        ] {
            for console in [format!("{line}\n"), format!("[   12.345678] {line}\r\n")] {
                let found = find(&console, &[]);
                assert_eq!(found.len(), 1, "{line}");
                assert_eq!(found[0].title, line);
            }
        }
    }

    #[test]
    fn one_report_is_one_complaint_and_names_its_subject() {
        let console = "[    1.0] ------------[ cut here ]------------\n\
                       [    1.0] WARNING: CPU: 0 PID: 1 at block/blk.c:3 blk_x+0x1/0x2\n\
                       [    1.0] Modules linked in: vbd\n\
                       [    1.0] ---[ end trace 0 ]---\n";
        let found = find(console, &[]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].title,
            "WARNING: CPU: 0 PID: 1 at block/blk.c:3 blk_x+0x1/0x2"
        );
        let far = format!("{console}{}BUG: late\n", "line\n".repeat(EXCERPT));
        assert_eq!(find(&far, &[]).len(), 2);
    }

    #[test]
    fn an_expected_complaint_is_left_out() {
        let console = "------------[ cut here ]------------\n\
                       WARNING: CPU: 0 at should_fail_ex\nBUG: other\n";
        let found = find(console, &["should_fail_ex".to_string()]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title, "BUG: other");
    }
}
