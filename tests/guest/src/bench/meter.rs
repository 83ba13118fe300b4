// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What one measurement measures, and how it is told.

use anyhow::{Context, Result};
use serde_json::json;
use std::fs;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Time for tasks that worked for us to be switched away from, which is when their time is added.
const SETTLE: Duration = Duration::from_millis(2);

/// Marks that were made so far.
static MARKS: AtomicU32 = AtomicU32::new(0);

/// What one measurement found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes that the reader got.
    pub(super) bytes: u64,
    nanoseconds: u64,
    /// Time of all processors in tasks, those of the kernel included.
    cpu_nanoseconds: u64,
    /// Bytes that came from the virtual disks.
    disk_bytes: u64,
    /// Number of the mark at the begin; that at the end is the next one.
    mark: u32,
}

/// What a sample is a sample of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label<'a> {
    pub(super) phase: &'a str,
    pub(super) load: &'a str,
    pub(super) contender: &'a str,
    pub(super) round: u32,
}

/// Measures `work`, which hands back the bytes that it has read.
pub(super) fn measure(work: impl FnOnce() -> Result<u64>) -> Result<Sample> {
    thread::sleep(SETTLE);
    let (cpu, disk) = (cpu_nanoseconds()?, disk_bytes()?);
    let number = mark();
    let begin = Instant::now();
    let done = work();
    let time = begin.elapsed();
    mark();
    thread::sleep(SETTLE);
    Ok(Sample {
        bytes: done?,
        nanoseconds: u64::try_from(time.as_nanos())?,
        cpu_nanoseconds: cpu_nanoseconds()?.saturating_sub(cpu),
        disk_bytes: disk_bytes()?.saturating_sub(disk),
        mark: number,
    })
}

/// Prints a sample.
pub(super) fn tell(label: Label<'_>, sample: &Sample) {
    let row = json!({
        "phase": label.phase,
        "load": label.load,
        "contender": label.contender,
        "round": label.round,
        "bytes": sample.bytes,
        "ns": sample.nanoseconds,
        "cpu_ns": sample.cpu_nanoseconds,
        "disk_bytes": sample.disk_bytes,
        "mark": sample.mark,
    });
    println!("{row}");
}

/// Prints how many marks there were, by which the host knows that it has seen all of them.
pub(super) fn end() {
    println!("{}", json!({ "marks": MARKS.load(Ordering::Relaxed) }));
}

/// Nanoseconds that User-Mode Linux has run, by its host's count, if the module that tells it is there.
const HOST_CLOCK: &str = "/sys/module/host_clock/parameters/ns";

/// Nanoseconds that tasks have run on all processors: the seventh number of a `cpu` line.
fn cpu_nanoseconds() -> Result<u64> {
    if let Ok(text) = fs::read_to_string(HOST_CLOCK) {
        return text.trim().parse().context(HOST_CLOCK);
    }
    let text = fs::read_to_string("/proc/schedstat").context("/proc/schedstat")?;
    let lines = text.lines().filter(|line| line.starts_with("cpu"));
    let fields = lines.map(|line| line.split_whitespace().nth(7).unwrap_or_default());
    fields
        .map(|field| field.parse::<u64>().context("/proc/schedstat"))
        .sum()
}

/// Bytes read from the virtual disks: the sixth field of a line, in sectors.
fn disk_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/diskstats").context("/proc/diskstats")?;
    let mut sectors = 0u64;
    for line in text.lines() {
        let mut fields = line.split_whitespace().skip(2);
        let name = fields.next().unwrap_or_default();
        // Virtio, and User-Mode Linux.
        if name.starts_with("vd") || name.starts_with("ubd") {
            let field = fields.nth(2).context("/proc/diskstats")?;
            sectors = sectors.saturating_add(field.parse()?);
        }
    }
    Ok(sectors.saturating_mul(512))
}

/// Four times each statement.
macro_rules! four {
    ($what:expr) => {
        $what;
        $what;
        $what;
        $what
    };
}

/// Tells the instruction counter, if there is one, to note its numbers; returns the mark's number.
///
/// The mark is 32 `pause` instructions in a row: safe code makes them, no program has them by
/// chance, and without a counter they do nothing.
#[inline(never)]
fn mark() -> u32 {
    four!({
        four!(spin_loop());
        four!(spin_loop());
    });
    MARKS.fetch_add(1, Ordering::Relaxed)
}
