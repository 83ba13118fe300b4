// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `cargo xtask fuzz`: libFuzzer on the targets of `tests/fuzz`.
//!
//! Any stable toolchain will do: the passes that coverage takes are in its LLVM, and flags that name
//! them are stable. There is no address sanitizer: the code under test has no `unsafe`, and overflows
//! and assertions are compiled in. What it takes besides Rust is a C++ compiler, for libFuzzer.

mod engine;

use crate::run;
use anyhow::{bail, Context, Result};
use engine::{Ended, Engine};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::thread;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds for each target; as many targets run at a time as there are processors
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Stop a target after so many executions, if its time is not over before
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Keep what was found worth keeping: the smallest set of inputs that reaches as much code
    /// becomes the committed corpus
    #[arg(long)]
    keep: bool,
    /// Targets; all if none is named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// A target: its name, and the longest input that is of use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    name: String,
    max_len: String,
}

/// `cargo xtask fuzz`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let top = crate::checkout()?;
    let tool = tool(&top)?;
    let known = targets(&run::stdout(Command::new(&tool).arg("list"))?)?;
    let wanted = choose(known, &args.targets)?;
    let engine = Engine::build(&top)?;
    let failures = Mutex::new(0u32);
    let waiting = Mutex::new(wanted.iter());
    let workers = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let next = || {
                    waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .next()
                };
                while let Some(target) = next() {
                    let good = fuzz(args, &top, &tool, &engine, target).unwrap_or_else(|error| {
                        println!("FAIL  {}: {error:#}", target.name);
                        false
                    });
                    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                    *failures += u32::from(!good);
                }
            });
        }
    });
    let failures = failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    println!("{} targets, {failures} with findings", wanted.len());
    Ok(ExitCode::from(u8::from(failures > 0)))
}

/// Builds the program with libFuzzer in it ahead of time.
pub(crate) fn prepare() -> Result<()> {
    Engine::build(&crate::checkout()?).map(|_| ())
}

/// Fuzzes one target; whether it found nothing.
fn fuzz(args: &Args, top: &Path, tool: &Path, engine: &Engine, target: &Target) -> Result<bool> {
    let name = &target.name;
    let place = top.join("target/fuzz").join(name);
    let corpus = place.join("corpus");
    begin(tool, name, &corpus)?;
    let (ended, time) = engine.fuzz(args, target, &place, &corpus)?;
    let Ended {
        executions,
        inputs,
        finding,
    } = ended;
    let seconds = time.as_secs_f32();
    let mark = if finding.is_some() { "FAIL " } else { "ok   " };
    println!("{mark} {name}: {executions} executions in {seconds:.0} s, {inputs} inputs");
    if let Some(finding) = finding {
        println!("      {}", finding.what);
        match finding.input {
            Some(input) => {
                let input = input.display();
                println!("      input:  {input}");
                println!("      again:  cargo run -p vbd-fuzz -- run {name} {input}");
            }
            None => println!("      no input was left behind"),
        }
        println!("      log:    {}", place.join("log").display());
        return Ok(false);
    }
    if args.keep {
        let kept = place.join("kept");
        engine.minimise(target, &place, &kept, &corpus)?;
        let mut keep = Command::new(tool);
        let said = run::stdout(keep.args(["keep", name]).arg(&kept))?;
        println!("      kept {}", said.trim());
    }
    Ok(true)
}

/// Makes the directory that a fuzzer works in: seeds, the corpus, and what earlier runs have added.
fn begin(tool: &Path, name: &str, corpus: &Path) -> Result<()> {
    let mut begin = Command::new(tool);
    begin.args(["begin", name]).arg(corpus);
    if let Ok(fixtures) = crate::test::fixtures::find()? {
        begin.arg(fixtures);
    }
    run::stdout(&mut begin).map(|_| ())
}

/// Builds the program of the targets' package, which runs without libFuzzer.
fn tool(top: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(top);
    build.args(["build", "--quiet", "--locked", "--package", "vbd-fuzz"]);
    let status = run::status(&mut build)?;
    if !status.success() {
        bail!("the targets cannot be built");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(top.join("target"), PathBuf::from);
    Ok(top.join(target).join("debug/vbd-fuzz"))
}

/// What `vbd-fuzz list` prints: a name and a number a line.
fn targets(text: &str) -> Result<Vec<Target>> {
    let target = |line: &str| {
        let (name, max_len) = line.split_once(' ').context("a line without a number")?;
        Ok(Target {
            name: name.to_string(),
            max_len: max_len.to_string(),
        })
    };
    text.lines().map(target).collect()
}

fn choose(known: Vec<Target>, names: &[String]) -> Result<Vec<Target>> {
    if let Some(name) = names
        .iter()
        .find(|name| known.iter().all(|t| t.name != **name))
    {
        let known: Vec<&str> = known.iter().map(|target| target.name.as_str()).collect();
        bail!("no target {name}; there are {}", known.join(", "));
    }
    let wanted = |target: &Target| names.is_empty() || names.contains(&target.name);
    Ok(known.into_iter().filter(wanted).collect())
}

/// A fresh directory.
fn fresh(directory: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_chosen_by_name() {
        let known = || targets("lsmt 512\ntar 2560\n").unwrap();
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            choose(known(), &words).map(|chosen| {
                let names = chosen.into_iter().map(|target| target.name);
                names.collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(names(&[]).unwrap(), "lsmt tar");
        assert_eq!(names(&["tar"]).unwrap(), "tar");
        let error = names(&["tra"]).unwrap_err().to_string();
        assert_eq!(error, "no target tra; there are lsmt, tar");
        assert!(targets("lsmt").is_err());
    }
}
