// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The steps of a test run: one line each, their sum, and a log of what their programs print.

use crate::run;
use anyhow::{bail, Context, Result};
use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Lines of a failed step's log that are shown.
const TAIL: usize = 40;

/// What a step's tests came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Count {
    pub(super) passed: u64,
    pub(super) failed: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The run so far.
pub(super) struct Steps {
    logs: PathBuf,
    begin: Instant,
    total: Count,
    failures: Vec<String>,
    remarks: Vec<String>,
}

/// A step under way: where what its programs print goes.
pub(super) struct Step {
    log: PathBuf,
}

impl Steps {
    /// Begins a run, with empty logs in the directory `name` of `target`.
    pub(super) fn new(name: &str) -> Result<Steps> {
        let logs = crate::checkout()?.join("target").join(name);
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(Steps {
            logs,
            begin: Instant::now(),
            total: Count::default(),
            failures: Vec::new(),
            remarks: Vec::new(),
        })
    }

    /// Does one step and prints its line.
    ///
    /// A step that stops with an error is a failed test like any other. Returns whether all is well;
    /// an error only when the step's own log or the terminal cannot be written.
    pub(super) fn step(
        &mut self,
        name: &str,
        work: impl FnOnce(&Step) -> Result<Count>,
    ) -> Result<bool> {
        let file = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-") + ".log";
        let step = Step {
            log: self.logs.join(file),
        };
        File::create(&step.log).with_context(|| format!("cannot write {}", step.log.display()))?;
        if std::io::stdout().is_terminal() {
            print!("      {name} …\r");
            std::io::stdout().flush()?;
        }
        let begin = Instant::now();
        let done = work(&step);
        let time = shown_time(begin);
        let good = matches!(done, Ok(Count { failed: 0, .. }));
        let mark = if good { "ok   " } else { "FAIL " };
        match done {
            Ok(count) => {
                self.total += count;
                println!("{mark} {name}{} ({time})", shown_count(count));
                if !good {
                    self.failures.push(format!("{name}{}", shown_count(count)));
                }
            }
            Err(error) => {
                self.total.failed += 1;
                println!("{mark} {name} ({time})");
                step.show_tail();
                println!("      {error:#}");
                self.failures.push(format!("{name}: {error:#}"));
            }
        }
        Ok(good)
    }

    /// Counts and prints a test that could not run because of one that failed.
    pub(super) fn blocked(&mut self, name: &str, by: &str) {
        self.total.failed += 1;
        println!("FAIL  {name}: not run, because it needs {by}");
        self.failures.push(format!("{name}: not run"));
    }

    /// Prints something that the reader of the last lines has to know, there once more.
    pub(super) fn remark(&mut self, text: String) {
        println!("{text}");
        self.remarks.push(text);
    }

    /// Prints the sum.
    pub(super) fn finish(self) -> ExitCode {
        println!();
        for remark in &self.remarks {
            println!("{remark}");
        }
        for failure in &self.failures {
            println!("FAILED: {failure}");
        }
        println!("time: {}", shown_time(self.begin));
        let Count { passed, failed } = self.total;
        println!("{passed} passed, {failed} failed");
        ExitCode::from(u8::from(
            failed > 0 || passed == 0 && self.failures.is_empty(),
        ))
    }
}

impl Step {
    /// The log opened for adding to its end.
    pub(super) fn log(&self) -> Result<File> {
        let file = File::options().append(true).open(&self.log);
        file.with_context(|| format!("cannot write {}", self.log.display()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.log
    }

    /// Runs a program, its output to the log; returns whether it succeeded, and all of the log.
    pub(super) fn try_run(&self, command: &mut Command) -> Result<(bool, String)> {
        let mut log = self.log()?;
        writeln!(log, "+ {}", run::shown(command))?;
        command.stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let status = run::status(command)?;
        let bytes = fs::read(&self.log)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok((status.success(), text))
    }

    /// Runs a program that has to succeed; returns all of the log.
    pub(super) fn run(&self, command: &mut Command) -> Result<String> {
        match self.try_run(command)? {
            (true, text) => Ok(text),
            (false, _) => bail!("{} failed", run::shown(command)),
        }
    }

    fn show_tail(&self) {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() {
            return;
        }
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
            println!("      | {line}");
        }
        println!("      (whole log: {})", self.log.display());
    }
}

fn shown_time(begin: Instant) -> String {
    let seconds = begin.elapsed().as_secs_f32();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}

/// What a step's tests came to, for its line; nothing for a step without tests.
fn shown_count(count: Count) -> String {
    match count {
        Count {
            passed: 0,
            failed: 0,
        } => String::new(),
        Count { passed, failed: 0 } => format!(": {passed} passed"),
        Count { passed, failed } => format!(": {passed} passed, {failed} failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_without_tests_shows_no_count() {
        let count = |passed, failed| shown_count(Count { passed, failed });
        assert_eq!(count(0, 0), "");
        assert_eq!(count(3, 0), ": 3 passed");
        assert_eq!(count(0, 2), ": 0 passed, 2 failed");
    }
}
