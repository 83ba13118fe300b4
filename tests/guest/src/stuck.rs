// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Says on the console what does not go on.
//!
//! The kernel has a watchdog for tasks that hang, but tells only of those that nothing can wake: whoever
//! reads through the page cache can be killed meanwhile, whoever reads past it is woken in time on purpose, and
//! whoever waits for asynchronous reads sleeps like everybody else. So tasks and disks are looked at here as well.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Looks in the time after which a wait is too long. The kernel wakes who reads past the page cache twice in
/// that time, so no look sees more than one such wake-up.
const LOOKS: u32 = 4;
/// Frames of a stack that are shown.
const FRAMES: usize = 12;

/// What is the same for as long as nothing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    /// Since when.
    since: Instant,
    /// How often the task was switched away from, or how many requests the disk has ended.
    count: u64,
    told: bool,
}

/// Looks for ever. What has waited for longer than `patience` is told once.
pub(crate) fn watch(patience: Duration) {
    let mut tasks = HashMap::new();
    let mut disks = HashMap::new();
    loop {
        let now = Instant::now();
        look(
            &mut tasks,
            waiting_tasks(),
            1,
            now,
            patience,
            |task, waits| {
                tell_task(task, waits);
            },
        );
        look(&mut disks, busy_disks(), 0, now, patience, |disk, waits| {
            say(&format!(
                "disk {} {NOT_GONE_ON} {} s with requests in flight",
                name(disk),
                waits.as_secs()
            ));
        });
        thread::sleep(patience / LOOKS);
    }
}

/// The words by which the host knows such a line.
const NOT_GONE_ON: &str = "has not gone on for";

/// Compares what is `seen` waiting with what was `known`; `few` is by how much a count may grow from one look
/// to the next for something that does not go on.
fn look(
    known: &mut HashMap<PathBuf, Wait>,
    seen: Vec<(PathBuf, u64)>,
    few: u64,
    now: Instant,
    patience: Duration,
    mut tell: impl FnMut(&Path, Duration),
) {
    let mut next = HashMap::new();
    for (place, count) in seen {
        let mut wait = match known.get(&place) {
            Some(wait) if count.saturating_sub(wait.count) <= few => *wait,
            _ => Wait {
                since: now,
                count,
                told: false,
            },
        };
        wait.count = count;
        let waits = now.saturating_duration_since(wait.since);
        if waits > patience && !wait.told {
            tell(&place, waits);
            wait.told = true;
        }
        next.insert(place, wait);
    }
    *known = next;
}

/// Tasks that wait and take no signals but deadly ones, by their places in `/proc`, and how often each was
/// switched away from.
fn waiting_tasks() -> Vec<(PathBuf, u64)> {
    let tasks = numbered("/proc").flat_map(|process| numbered(process.join("task")));
    let waits = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.join("stat")).ok()?;
        if state(&stat)? != 'D' {
            return None;
        }
        let status = fs::read_to_string(task.join("status")).ok()?;
        Some((task, switches(&status)))
    });
    waits.collect()
}

/// Disks with requests in flight, by their places in `/sys/block`, and how many each has ended.
fn busy_disks() -> Vec<(PathBuf, u64)> {
    let disks = entries("/sys/block".as_ref());
    let busy = disks.filter_map(|disk| {
        ended(&fs::read_to_string(disk.join("stat")).ok()?).map(|count| (disk, count))
    });
    busy.collect()
}

/// The number of requests that a disk has ended, from its `stat`; nothing if none is in flight.
fn ended(stat: &str) -> Option<u64> {
    let field = |number: usize| stat.split_whitespace().nth(number)?.parse::<u64>().ok();
    let of = |numbers: &[usize]| numbers.iter().filter_map(|&number| field(number)).sum();
    // Reads, writes, what is in flight, discards, flushes.
    (field(8)? > 0).then(|| of(&[0, 4, 11, 15]))
}

/// The state's letter in a task's `stat`; its name, in brackets, may hold brackets.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

/// How often a task was switched away from, for whatever reason, from its `status`.
fn switches(status: &str) -> u64 {
    let counts = status.lines().filter_map(|line| {
        let (name, count) = line.split_once(':')?;
        name.ends_with("voluntary_ctxt_switches")
            .then(|| count.trim().parse::<u64>().ok())?
    });
    counts.sum()
}

fn tell_task(task: &Path, waits: Duration) {
    let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
    let mut text = format!(
        "task {}:{} {NOT_GONE_ON} {} s",
        read("comm").trim(),
        name(task),
        waits.as_secs()
    );
    for frame in read("stack").lines().take(FRAMES) {
        let _ = write!(text, "\n    {}", frame.trim());
    }
    say(&text);
}

/// Has the kernel say it, since its log and its console are where whoever looks for trouble looks.
fn say(text: &str) {
    for line in text.lines() {
        let _ = fs::write("/dev/kmsg", format!("<3>vbd-guest: {line}\n"));
    }
}

fn name(place: &Path) -> String {
    let name = place.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The directories in a directory of `/proc` that are called by numbers.
fn numbered(place: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    entries(place.as_ref()).filter(|path| name(path).bytes().all(|byte| byte.is_ascii_digit()))
}

fn entries(place: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(40);

    /// The looks at which something with these counts is told, ten seconds apart.
    fn told(counts: &[Option<u64>], few: u64) -> Vec<usize> {
        let begin = Instant::now();
        let mut known = HashMap::new();
        let mut told = Vec::new();
        for (number, count) in counts.iter().enumerate() {
            let seen = count.iter().map(|count| (PathBuf::from("x"), *count));
            let now = begin + Duration::from_secs(10) * u32::try_from(number).unwrap();
            look(
                &mut known,
                seen.collect(),
                few,
                now,
                PATIENCE,
                |_, waits| {
                    assert!(waits > PATIENCE);
                    told.push(number);
                },
            );
        }
        told
    }

    #[test]
    fn what_does_not_go_on_is_told_once() {
        assert_eq!(told(&[Some(7); 9], 0), [5]);
        // Woken now and then, and waiting again.
        assert_eq!(told(&[7, 7, 8, 8, 9, 9, 10].map(Some), 1), [5]);
        assert_eq!(told(&[Some(7); 5], 0), [0; 0]);
    }

    #[test]
    fn what_goes_on_or_is_done_is_not_told() {
        assert_eq!(told(&[1, 3, 5, 7, 9, 11, 13, 15].map(Some), 1), [0; 0]);
        let mut paused = [Some(7); 9];
        paused[4] = None;
        assert_eq!(told(&paused, 1), [0; 0]);
    }

    #[test]
    fn files_of_the_kernel_are_read() {
        assert_eq!(state("77 (a) b) D 1 77 0"), Some('D'));
        let status = "Name:\tcat\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(switches(status), 15);
        let stat = "  5 0 40 1  6 0 0 0  2 1 1  7 0 0 0  8 0\n";
        assert_eq!(ended(stat), Some(26));
        assert_eq!(ended(&stat.replace("  2 1", "  0 1")), None);
    }
}
