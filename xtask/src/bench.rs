// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `cargo xtask bench`: vbd, its peers and its tools, measured side by side.
//!
//! One boot holds all contenders; a second one, with a plugin of QEMU, counts instructions. With
//! `--uml` there is one boot of User-Mode Linux instead. How to read the numbers, and what they were
//! the last time, is told in `docs/performance.md`.

mod content;
mod host;
mod modules;
mod plot;
mod plugin;
mod profile;
mod report;
mod rows;
mod summary;

use crate::kit::{Kit, Own};
use crate::vm::{self, program, Ended, Spec, Vm};
use crate::{checkout, module};
use anyhow::{bail, Context, Result};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A tenth of the content and two rounds, to see whether everything runs
    #[arg(long)]
    quick: bool,
    /// Times that everything is measured [default: 5, or 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Only loads whose name contains one of these words, such as rand4k or attach-4g
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// Processors of the machine; wake-ups from one to another are slow and scatter under emulation,
    /// so 1 gives the steadier numbers and 2 the ones about scaling [default: 2, or 1 with --uml]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Measure in User-Mode Linux, pinned to as many processors of the host as it has: native speed
    /// without KVM, but system calls and switches are dear
    #[arg(long)]
    uml: bool,
    /// Let the disk give at most this many MB/s; then only loads on cold caches are measured
    #[arg(long, value_name = "MB/S", conflicts_with = "uml")]
    cap: Option<u64>,
    /// Leave out the second boot, which counts instructions; User-Mode Linux has none
    #[arg(long)]
    no_count: bool,
    /// Also tell in which functions the kernel's instructions were spent; best with --only
    #[arg(long, conflicts_with_all = ["no_count", "uml"])]
    profile: bool,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) name: &'static str,
    /// Bytes of the disk that all contenders show.
    pub(crate) disk: u64,
    /// Bytes of the large disk, all of which is stored.
    pub(crate) large: u64,
    /// Times that the disk is repeated for the peak memory of the tool.
    pub(crate) repeats: u32,
    rounds: u32,
    /// Random reads in one measurement.
    reads: u32,
    memory_mib: u32,
}

const FULL: Scale = Scale {
    name: "full",
    disk: 192 << 20,
    large: 4 << 30,
    repeats: 8,
    rounds: 5,
    reads: 8192,
    memory_mib: 3072,
};

const QUICK: Scale = Scale {
    name: "quick",
    disk: 24 << 20,
    large: 128 << 20,
    repeats: 4,
    rounds: 2,
    reads: 256,
    memory_mib: 1024,
};

/// Loads that say nothing in User-Mode Linux, and why.
const NOT_IN_UML: &[(&str, &str)] = &[
    (
        "-t2",
        "a processor of User-Mode Linux wakes another one so slowly that nothing follows from it",
    ),
    (
        "create-lz4-4k",
        "runs on the host, without any kernel of ours",
    ),
    (
        "memory-of-verbs",
        "runs on the host, without any kernel of ours",
    ),
];

/// `cargo xtask bench`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let scale = if args.quick { QUICK } else { FULL };
    let rounds = args.rounds.unwrap_or(scale.rounds);
    let kit = Kit::choose(args.uml.then_some(Own::Uml))?;
    let cpus = args.cpus.unwrap_or(if args.uml { 1 } else { 2 });
    let left_out = if args.uml { NOT_IN_UML } else { &[] };
    let vbd = module::build(&kit)?;
    let vbdctl = program::build("vbdctl", "vbdctl")?;
    let tool = program::build("vbd-bench", "vbd-bench")?;
    let content = content::prepare(&kit, &scale, &vbdctl, &tool)?;
    let results = results()?;
    let load_before = load_average();

    let mut only = args.only.clone();
    if args.cap.is_some() && only.is_empty() {
        only.push("-cold".to_string());
    }
    let without: Vec<&str> = left_out.iter().map(|(load, _)| *load).collect();
    let chosen = format!("only={} without={}", only.join(","), without.join(","));
    let text = |rounds: u32, reads: u32, count: u8| {
        format!("exec vbd-guest bench rounds={rounds} reads={reads} count={count} {chosen}")
    };
    let mut files = vec![
        (vbd.clone(), "/vbd.ko".to_string()),
        (vbd.with_file_name("vbd_dm.ko"), "/vbd_dm.ko".into()),
        (vbdctl.clone(), "/usr/bin/vbdctl".to_string()),
    ];
    files.extend(modules::build(&kit, &results)?);
    let spec = Spec {
        memory_mib: match args.uml {
            true => scale.memory_mib.min(vm::UML_MEMORY_MIB),
            false => scale.memory_mib,
        },
        processors: cpus,
        // Instructions are counted on what others have counted them on.
        emulated: "max",
        share: Some(content.share.clone()),
        disk_rate: args.cap.map(|rate| rate.saturating_mul(1_000_000)),
        files,
        timeout: Duration::from_secs(4 * 3600),
        ..Spec::default()
    };
    eprintln!("bench: measure in the virtual machine, {rounds} rounds");
    let mut rows = guest(&kit, &spec, &text(rounds, scale.reads, 0))?.rows;
    if !args.uml {
        rows.extend(host::run(&content, &results, rounds, &only)?);
    }
    fs::write(results.join("rows.json"), serde_json::to_vec_pretty(&rows)?)?;

    let mut counts = Vec::new();
    // A disk's speed changes no instruction.
    if !args.no_count && !args.uml && args.cap.is_none() {
        eprintln!("bench: count instructions in a second boot");
        let spec = Spec {
            plugin: Some(plugin::build(&kit, &results, args.profile)?),
            ..spec
        };
        let text = text(1, scale.reads.min(2048), 1);
        let counted = if args.profile {
            profiled(&kit, &spec, &text, &results)?
        } else {
            guest(&kit, &spec, &text)?
        };
        counts = plugin::join(&counted, &plugin::read(&results)?)?;
        fs::write(
            results.join("counts.json"),
            serde_json::to_vec_pretty(&counts)?,
        )?;
    }

    let machine = format!(
        "{} content, {rounds} rounds, {} processors{}{}, kernel {}, commit {}, load average {load_before} before and {} after",
        scale.name,
        cpus,
        if args.uml { " of the host" } else { "" },
        args.cap
            .map_or_else(String::new, |rate| format!(", disk of {rate} MB/s")),
        kit.release,
        commit(),
        load_average()
    );
    let tables = summary::tables(&rows, &counts);
    let asked = |load: &str| {
        only.is_empty()
            || only
                .iter()
                .any(|part| part.contains(load) || load.contains(part.as_str()))
    };
    let left_out = left_out.iter().filter(|(load, _)| asked(load));
    let left_out: Vec<String> = left_out
        .map(|(load, why)| format!("{load}: {why}"))
        .collect();
    let text = format!("{machine}\n\n{}", report::text(&tables, &left_out));
    print!("{text}");
    fs::write(
        results.join("table.md"),
        report::markdown(&machine, &tables, &left_out),
    )?;
    fs::write(results.join("plot.svg"), plot::svg(&machine, &tables))?;
    println!("results: {}", results.display());
    Ok(ExitCode::SUCCESS)
}

/// Boots a guest for one run of its load generator.
fn guest(kit: &Kit, spec: &Spec, text: &str) -> Result<rows::Output> {
    let mut vm = vm::boot(kit, spec)?;
    let mut output = rows::Lines::default();
    exec(&mut vm, text, &mut output)?;
    shut_down(vm)?;
    output.finish()
}

/// The same, asking the guest where its functions are before.
fn profiled(kit: &Kit, spec: &Spec, text: &str, results: &Path) -> Result<rows::Output> {
    let mut vm = vm::boot(kit, spec)?;
    let mut symbols = Vec::new();
    exec(&mut vm, profile::SYMBOLS, &mut symbols)?;
    let symbols = profile::Symbols::parse(&String::from_utf8_lossy(&symbols))?;
    let mut output = rows::Lines::default();
    exec(&mut vm, text, &mut output)?;
    shut_down(vm)?;
    let output = output.finish()?;
    profile::write(results, &output, &symbols)?;
    Ok(output)
}

/// Runs a command that has to succeed.
fn exec(vm: &mut Vm, text: &str, output: &mut dyn io::Write) -> Result<()> {
    match vm.exec(text, output, &mut io::stderr())? {
        Ended::Status(0) => Ok(()),
        Ended::Status(status) => bail!("the load generator ended with status {status}"),
        Ended::Lost(reason) => bail!("the machine was lost: {reason}"),
    }
}

/// Ends a guest; numbers of a kernel that complained are not worth having.
fn shut_down(vm: Vm) -> Result<()> {
    let report = vm.shut_down()?;
    if !report.complaints.is_empty() {
        report.show();
        bail!("the kernel complained");
    }
    Ok(())
}

/// A new directory for the results of this run.
fn results() -> Result<PathBuf> {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let path = checkout()?
        .join("target/bench")
        .join(timestamp(seconds.as_secs()));
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Seconds since 1970 as `20261120-081500`, in UTC.
fn timestamp(seconds: u64) -> String {
    let (mut days, time) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let day = days + 1;
    format!("{year}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_string()
}

/// The commit that is measured, with a plus if the tree differs from it.
fn commit() -> String {
    let git = |words: &[&str]| {
        let mut command = std::process::Command::new("git");
        let top = checkout().unwrap_or_else(|_| Path::new(".").to_path_buf());
        crate::run::stdout(command.current_dir(top).args(words)).unwrap_or_default()
    };
    let name = git(&["rev-parse", "--short", "HEAD"]);
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    let mark = if changed.trim().is_empty() { "" } else { "+" };
    format!("{}{mark}", name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_dates() {
        assert_eq!(timestamp(0), "19700101-000000");
        assert_eq!(timestamp(951_827_696), "20000229-123456");
        assert_eq!(timestamp(1_798_761_599), "20261231-235959");
    }
}
