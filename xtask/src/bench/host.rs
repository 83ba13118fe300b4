// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What is measured on the host: how fast vbdctl compresses, and how much memory its verbs take.

use super::content::Content;
use super::rows::Row;
use crate::run;
use anyhow::{bail, Context, Result};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const CREATE: &str = "create-lz4-4k";
const MEMORY: &str = "memory-of-verbs";
/// Time between two looks at a program's memory; the kernel keeps the peak.
const LOOK: Duration = Duration::from_micros(200);
/// Ticks of /proc in a second: a constant of the interface on every architecture of today.
const TICKS: u64 = 100;

/// Measures the tool; what it writes goes to `place` and is removed.
pub(crate) fn run(
    content: &Content,
    place: &Path,
    rounds: u32,
    only: &[String],
) -> Result<Vec<Row>> {
    let wants =
        |load: &str| only.is_empty() || only.iter().any(|part| load.contains(part.as_str()));
    let mut rows = Vec::new();
    if wants(CREATE) {
        eprintln!("bench: vbdctl create against the library");
        for round in 0..rounds {
            create(content, place, round, &mut rows)?;
        }
    }
    if wants(MEMORY) {
        eprintln!("bench: peak memory of vbdctl's verbs");
        memory(content, place, &mut rows)?;
    }
    Ok(rows)
}

fn create(content: &Content, place: &Path, round: u32, rows: &mut Vec<Row>) -> Result<()> {
    let raw = content.raw().display().to_string();
    let bytes = fs::metadata(&raw)?.len();
    let out = place.join("created").display().to_string();
    let before = children_ticks()?;
    let rate = run::stdout(Command::new(&content.tool).args(["lz4-rate", &raw, "4096"]))?;
    let library_cpu = (children_ticks()? - before) * (1_000_000_000 / TICKS);
    let mut numbers = rate.split_whitespace().map(str::parse::<u64>);
    let ns = numbers.nth(2).context("no time")??;
    let mut add = |contender: &str, ns: u64, cpu_ns: u64, peak_bytes: u64| {
        rows.push(Row {
            phase: "host".into(),
            load: CREATE.into(),
            contender: contender.into(),
            round,
            bytes,
            ns,
            cpu_ns,
            disk_bytes: 0,
            peak_bytes,
            mark: 0,
        });
    };
    add("lz4 library, 1 thread", ns, library_cpu, 0);
    let processors = thread::available_parallelism()?.to_string();
    for (name, jobs) in [
        ("vbdctl, 1 thread", "1"),
        ("vbdctl, all processors", &processors),
    ] {
        let ran = watch(Command::new(&content.vbdctl).args(["create", "-j", jobs, &raw, &out]))?;
        fs::remove_file(&out)?;
        add(name, ran.ns, ran.cpu_ns, ran.peak_bytes);
    }
    Ok(())
}

/// Every verb that works on whole images, on a dense disk and on a stack of many blocks.
fn memory(content: &Content, place: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let out = place.join("out").display().to_string();
    let (dense, layer) = (shown(&content.dense), shown(&content.dense_layer));
    let stack: Vec<String> = content.large().iter().map(|path| shown(path)).collect();
    let (dense, layer, out_word) = (dense.as_str(), layer.as_str(), out.as_str());
    let [data, index] = content.dense_pair.each_ref().map(|path| shown(path));
    let joined = stack.join(",");
    let on_stack = |before: &[&'static str], after: &[&'static str]| {
        let words: Vec<String> = before.iter().map(ToString::to_string).collect();
        let more = after.iter().map(|word| word.replace("OUT", out_word));
        words
            .into_iter()
            .chain(stack.clone())
            .chain(more)
            .collect::<Vec<String>>()
    };
    let on_dense = |words: &[&str]| {
        words
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<String>>()
    };
    let bytes = fs::metadata(&content.dense)?.len();
    let verbs = [
        ("create, dense", on_dense(&["create", dense, out_word])),
        ("info, stack", on_stack(&["info"], &[])),
        ("check, dense", on_dense(&["check", layer])),
        ("check, stack", on_stack(&["check"], &[])),
        ("export, dense", on_dense(&["export", layer, out_word])),
        ("export, stack", on_stack(&["export"], &["OUT"])),
        ("compare, dense", on_dense(&["compare", layer, dense])),
        ("compare, stack", on_dense(&["compare", &joined, &joined])),
        (
            "convert, dense",
            on_dense(&["convert", "-f", "plain", layer, out_word]),
        ),
        ("merge, stack", on_stack(&["merge", "--bottom"], &["OUT"])),
        (
            "commit, dense",
            on_dense(&["commit", &data, &index, out_word]),
        ),
    ];
    for (name, words) in verbs {
        let ran = watch(Command::new(&content.vbdctl).args(&words))?;
        let _ = fs::remove_file(&out);
        rows.push(Row {
            phase: "host".into(),
            load: MEMORY.into(),
            contender: name.into(),
            round: 0,
            bytes,
            ns: ran.ns,
            cpu_ns: ran.cpu_ns,
            disk_bytes: 0,
            peak_bytes: ran.peak_bytes,
            mark: 0,
        });
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

struct Ran {
    ns: u64,
    cpu_ns: u64,
    peak_bytes: u64,
}

/// Runs a program that has to succeed, and watches its memory.
fn watch(command: &mut Command) -> Result<Ran> {
    let before = children_ticks()?;
    let begin = Instant::now();
    let mut child = run::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_bytes = 0;
    let status = loop {
        if let Ok(text) = fs::read_to_string(&status_file) {
            peak_bytes = peak_bytes.max(peak(&text));
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(LOOK);
    };
    let time = begin.elapsed();
    if !status.success() {
        bail!("{}: {status}", run::shown(command));
    }
    Ok(Ran {
        ns: u64::try_from(time.as_nanos())?,
        cpu_ns: (children_ticks()? - before) * (1_000_000_000 / TICKS),
        peak_bytes,
    })
}

/// Peak of resident memory in the text of /proc/<process>/status.
fn peak(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Ticks that children which have ended spent, outside of the kernel and in it.
fn children_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    // The name in the second field may hold anything, and ends with the last bracket.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let fields = fields.split_whitespace().skip(13).take(2);
    fields
        .map(|field| field.parse::<u64>().context("/proc/self/stat"))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_watched() {
        let ran = watch(Command::new("sh").args(["-c", "sleep 0.05"])).unwrap();
        assert!(ran.ns >= 50_000_000);
        assert!(ran.peak_bytes > 100_000, "{}", ran.peak_bytes);
        assert!(watch(&mut Command::new("false")).is_err());
    }
}
