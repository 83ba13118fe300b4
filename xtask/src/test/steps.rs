// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The steps of a test run: one line each, their sum, and a log of what their programs print.

use crate::not_had::NotHad;
use crate::run as programs;
use anyhow::{bail, Context, Result};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Lines of a failed step's log that are shown.
const TAIL: usize = 40;

/// What a step's tests came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The run so far.
pub(crate) struct Steps {
    logs: PathBuf,
    begin: Instant,
    total: Count,
    failures: Vec<String>,
    remarks: Vec<String>,
}

/// A step under way: where what its programs print goes.
pub(crate) struct Step {
    log: PathBuf,
    /// Lines that come after the step's own.
    notes: Mutex<Vec<String>>,
}

/// What a step does.
pub(crate) type Work<'a> = Box<dyn FnOnce(&Step) -> Result<Count> + Send + 'a>;

/// A step that has ended.
struct Done {
    name: String,
    step: Step,
    time: Duration,
    result: Result<Count>,
}

impl Steps {
    /// Begins a run, with empty logs in the directory `name` of `target`.
    pub(crate) fn new(name: &str) -> Result<Steps> {
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
    pub(crate) fn step(
        &mut self,
        name: &str,
        work: impl FnOnce(&Step) -> Result<Count>,
    ) -> Result<bool> {
        let step = self.begin(name)?;
        if std::io::stdout().is_terminal() {
            print!("      {name} …\r");
            std::io::stdout().flush()?;
        }
        Ok(self.end(run(name, step, work)))
    }

    /// Does steps side by side, as many at a time as there are processors, in the order in which
    /// they are given; prints the line of each as it ends.
    pub(crate) fn side_by_side(&mut self, works: Vec<(&str, Work<'_>)>) -> Result<()> {
        let mut waiting = VecDeque::new();
        for (name, work) in works {
            waiting.push_back((name, self.begin(name)?, work));
        }
        if std::io::stdout().is_terminal() {
            let names: Vec<&str> = waiting.iter().map(|(name, ..)| *name).collect();
            println!("      side by side: {} …", names.join(", "));
        }
        let waiting = Mutex::new(waiting);
        let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (sender, ended) = channel();
        thread::scope(|scope| {
            for _ in 0..workers {
                let (waiting, sender) = (&waiting, sender.clone());
                scope.spawn(move || {
                    let next = || locked(waiting).pop_front();
                    while let Some((name, step, work)) = next() {
                        let _ = sender.send(run(name, step, work));
                    }
                });
            }
            drop(sender);
            for done in ended {
                self.end(done);
            }
        });
        Ok(())
    }

    fn begin(&self, name: &str) -> Result<Step> {
        let file = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-") + ".log";
        let log = self.logs.join(file);
        File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        Ok(Step {
            log,
            notes: Mutex::default(),
        })
    }

    /// Prints the line of a step, and adds it to the sum. Returns whether all is well.
    fn end(&mut self, done: Done) -> bool {
        let Done { name, step, .. } = &done;
        let time = shown_time(done.time);
        let good = matches!(done.result, Ok(Count { failed: 0, .. }));
        let mark = if good { "ok   " } else { "FAIL " };
        match &done.result {
            Ok(count) => {
                self.total += *count;
                println!("{mark} {name}{} ({time})", shown_count(*count));
                if !good {
                    self.failures.push(format!("{name}{}", shown_count(*count)));
                }
            }
            Err(error) if error.is::<NotHad>() => {
                println!("none  {name} ({time})");
                let error = error.to_string();
                self.remark(error.replacen(':', &format!(" {name}:"), 1));
                return true;
            }
            Err(error) => {
                self.total.failed += 1;
                println!("{mark} {name} ({time})");
                step.show_tail();
                println!("      {error:#}");
                self.failures.push(format!("{name}: {error:#}"));
            }
        }
        for note in locked(&step.notes).iter() {
            println!("        {note}");
        }
        good
    }

    /// Counts and prints a test that could not run because of one that failed.
    pub(crate) fn blocked(&mut self, name: &str, by: &str) {
        self.total.failed += 1;
        println!("FAIL  {name}: not run, because it needs {by}");
        self.failures.push(format!("{name}: not run"));
    }

    /// Prints something that the reader of the last lines has to know, there once more.
    pub(crate) fn remark(&mut self, text: String) {
        println!("{text}");
        self.remarks.push(text);
    }

    /// Prints the sum.
    pub(crate) fn finish(self) -> ExitCode {
        println!();
        for remark in &self.remarks {
            println!("{remark}");
        }
        for failure in &self.failures {
            println!("FAILED: {failure}");
        }
        println!("time: {}", shown_time(self.begin.elapsed()));
        let Count { passed, failed } = self.total;
        println!("{passed} passed, {failed} failed");
        ExitCode::from(u8::from(
            failed > 0 || passed == 0 && self.failures.is_empty(),
        ))
    }
}

impl Step {
    /// The log opened for adding to its end.
    pub(crate) fn log(&self) -> Result<File> {
        let file = File::options().append(true).open(&self.log);
        file.with_context(|| format!("cannot write {}", self.log.display()))
    }

    /// Bytes of the log so far.
    pub(crate) fn length(&self) -> Result<usize> {
        Ok(usize::try_from(self.log()?.metadata()?.len())?)
    }

    #[cfg(test)]
    pub(crate) fn without_log() -> Step {
        Step {
            log: PathBuf::from("/dev/null"),
            notes: Mutex::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn notes(&self) -> Vec<String> {
        locked(&self.notes).clone()
    }

    /// Has a line printed after the step's own.
    pub(crate) fn note(&self, line: String) {
        locked(&self.notes).push(line);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.log
    }

    /// Runs a program, its output to the log; returns whether it succeeded, and all of the log.
    pub(crate) fn try_run(&self, command: &mut Command) -> Result<(bool, String)> {
        let (status, text) = self.status(command)?;
        Ok((status.success(), text))
    }

    /// The same, with how it ended.
    pub(crate) fn status(&self, command: &mut Command) -> Result<(ExitStatus, String)> {
        let mut log = self.log()?;
        writeln!(log, "+ {}", programs::shown(command))?;
        command.stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let status = programs::status(command)?;
        let bytes = fs::read(&self.log)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok((status, text))
    }

    /// Runs a program that has to succeed; returns all of the log.
    pub(crate) fn run(&self, command: &mut Command) -> Result<String> {
        match self.try_run(command)? {
            (true, text) => Ok(text),
            (false, _) => bail!("{} failed", programs::shown(command)),
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

/// Does a step's work, which may panic and is then no better than a failure.
fn run(name: &str, step: Step, work: impl FnOnce(&Step) -> Result<Count>) -> Done {
    let begin = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| work(&step)));
    Done {
        name: name.to_string(),
        step,
        time: begin.elapsed(),
        result: result.unwrap_or_else(|_| bail!("the step panicked")),
    }
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shown_time(time: Duration) -> String {
    let seconds = time.as_secs_f32();
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

    fn steps(logs: &Path) -> Steps {
        Steps {
            logs: logs.to_path_buf(),
            begin: Instant::now(),
            total: Count::default(),
            failures: Vec::new(),
            remarks: Vec::new(),
        }
    }

    #[test]
    fn steps_side_by_side_are_added_whatever_becomes_of_them() {
        let logs = tempfile::tempdir().unwrap();
        let mut steps = steps(logs.path());
        let count = |passed, failed| Count { passed, failed };
        let works: Vec<(&str, Work<'_>)> = vec![
            ("good", Box::new(move |_: &Step| Ok(count(3, 0)))),
            ("bad", Box::new(move |_: &Step| Ok(count(2, 1)))),
            ("stopped", Box::new(|_: &Step| bail!("no more"))),
            ("also good", Box::new(move |_: &Step| Ok(count(4, 0)))),
        ];
        steps.side_by_side(works).unwrap();
        assert_eq!(steps.total, count(9, 2));
        steps.failures.sort();
        assert_eq!(
            steps.failures,
            ["bad: 2 passed, 1 failed", "stopped: no more"]
        );
    }

    #[test]
    fn a_step_that_is_not_run_is_a_failure() {
        let logs = tempfile::tempdir().unwrap();
        let mut steps = steps(logs.path());
        assert!(steps.step("good", |_| Ok(Count::default())).unwrap());
        steps.blocked("other", "the first");
        assert_eq!(steps.total.failed, 1);
    }

    #[test]
    fn what_is_not_had_is_no_failure_and_is_told_again() {
        let logs = tempfile::tempdir().unwrap();
        let mut steps = steps(logs.path());
        let missing = |_: &Step| Err(NotHad("no such host".into()).into());
        assert!(steps.step("suite", missing).unwrap());
        assert_eq!(steps.total, Count::default());
        assert_eq!(steps.remarks, ["NOT HAD suite: no such host"]);
    }

    #[test]
    fn a_step_without_tests_shows_no_count() {
        let count = |passed, failed| shown_count(Count { passed, failed });
        assert_eq!(count(0, 0), "");
        assert_eq!(count(3, 0), ": 3 passed");
        assert_eq!(count(0, 2), ": 0 passed, 2 failed");
    }
}
