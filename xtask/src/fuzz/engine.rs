// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The program with libFuzzer in it: how it is built and run, and what it says.

use super::{fresh, Args, Target};
use crate::run;
use anyhow::{bail, Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Coverage as libFuzzer wants it: a counter an edge, and a call at each comparison.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Naming the target keeps the flags away from build scripts and procedural macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Seconds that one input may take, and MiB of memory that a target may.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=1024"];

/// The built program.
pub(super) struct Engine(PathBuf);

/// How a run has ended.
pub(super) struct Ended {
    pub(super) executions: u64,
    /// Inputs that are there now.
    pub(super) inputs: usize,
    pub(super) finding: Option<Finding>,
}

/// What a target did not stand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) input: Option<PathBuf>,
}

impl Engine {
    /// Builds it with coverage; cargo does nothing where nothing has changed.
    pub(super) fn build(top: &Path) -> Result<Engine> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let place = top.join("target/fuzz/build");
        let mut build = Command::new(cargo);
        build.current_dir(top.join("tests/fuzz/engine"));
        build.args(["build", "--quiet", "--locked", "--release"]);
        build.args(["--target", TARGET, "--target-dir"]).arg(&place);
        // Flags in the environment take the place of all others.
        build
            .env("RUSTFLAGS", FLAGS)
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        eprintln!("building libFuzzer and the targets");
        if !run::status(&mut build)?.success() {
            bail!("the engine cannot be built (it takes a C++ compiler: apt install g++)");
        }
        let program = place.join(TARGET).join("release/vbd-fuzz-engine");
        Ok(Engine(program))
    }

    fn command(&self, target: &Target) -> Command {
        let mut command = Command::new(&self.0);
        command.env("VBD_FUZZ_TARGET", &target.name);
        command
            .arg(format!("-max_len={}", target.max_len))
            .args(LIMITS);
        command.stdin(Stdio::null());
        command
    }

    /// Runs the target `target` for as long as `args` say.
    pub(super) fn fuzz(
        &self,
        args: &Args,
        target: &Target,
        place: &Path,
        corpus: &Path,
    ) -> Result<(Ended, Duration)> {
        let findings = place.join("findings");
        fresh(&findings)?;
        let log = place.join("log");
        let out = File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = self.command(target);
        command.arg(format!("-max_total_time={}", args.seconds));
        if let Some(runs) = args.runs {
            command.arg(format!("-runs={runs}"));
        }
        command.arg(format!("-artifact_prefix={}/", findings.display()));
        command.arg("-print_final_stats=1").arg(corpus);
        command.stdout(out.try_clone()?).stderr(out);
        let begin = Instant::now();
        let status = run::status(&mut command)?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let finding = (!status.success()).then(|| Finding {
            what: what(&text),
            input: fs::read_dir(&findings)
                .ok()
                .and_then(|mut entries| Some(entries.next()?.ok()?.path())),
        });
        let ended = Ended {
            executions: executions(&text).unwrap_or_default(),
            inputs: fs::read_dir(corpus)?.count(),
            finding,
        };
        Ok((ended, begin.elapsed()))
    }

    /// Writes to `kept` the fewest inputs of `corpus` that reach as much.
    pub(super) fn minimise(
        &self,
        target: &Target,
        place: &Path,
        kept: &Path,
        corpus: &Path,
    ) -> Result<()> {
        fresh(kept)?;
        let log = place.join("log-of-merge");
        let out = File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = self.command(target);
        command.arg("-merge=1").arg(kept).arg(corpus);
        command.stdout(out.try_clone()?).stderr(out);
        if !run::status(&mut command)?.success() {
            bail!("the corpus was not minimised (log: {})", log.display());
        }
        Ok(())
    }
}

/// The number of executions in libFuzzer's statistics, or in its last line about progress, since a
/// run that stops at a finding has no statistics.
fn executions(text: &str) -> Option<u64> {
    let total = text.lines().rev().find_map(|line| {
        let rest = line.strip_prefix("stat::number_of_executed_units:")?;
        rest.trim().parse().ok()
    });
    total.or_else(|| {
        text.lines().rev().find_map(|line| {
            let digits = line.strip_prefix('#')?;
            digits.split('\t').next()?.trim().parse().ok()
        })
    })
}

/// What was wrong, in one line.
fn what(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // A panic's place is in one line and its words in the next.
    if let Some(at) = lines.iter().position(|line| line.contains(" panicked at ")) {
        return lines[at..lines.len().min(at + 2)].join(" ");
    }
    let error = lines.iter().find(|line| line.contains("ERROR: libFuzzer"));
    error
        .map_or("it ended without a word", |line| line)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_found_with_and_without_statistics() {
        let stats = "#512\tpulse\nstat::number_of_executed_units: 1094466\nstat::x: 1\n";
        assert_eq!(executions(stats), Some(1_094_466));
        let cut = "#2\tINITED cov: 3\n#4096\tNEW    cov: 5\nthread panicked\n";
        assert_eq!(executions(cut), Some(4096));
        assert_eq!(executions("nothing"), None);
    }

    #[test]
    fn a_finding_is_said_in_one_line() {
        let panic = "#7\tNEW\n\nthread '<unnamed>' (7) panicked at a.rs:1:2:\nleft is not right\n\
                     note: more\n==7== ERROR: libFuzzer: deadly signal\n";
        let said = "thread '<unnamed>' (7) panicked at a.rs:1:2: left is not right";
        assert_eq!(what(panic), said);
        let timeout = "x\n==7== ERROR: libFuzzer: timeout after 10 seconds\n";
        assert_eq!(
            what(timeout),
            "==7== ERROR: libFuzzer: timeout after 10 seconds"
        );
    }
}
