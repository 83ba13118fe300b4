// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A running guest: sends it commands, passes their output on, and notices when it is in trouble.

use super::complaint::{self, Complaint};
use super::frame::{self, Kind};
use super::machine::{Line, Place};
use super::{initramfs, place, share, Runner, Spec};
use crate::kit::Kit;
use crate::run;
use anyhow::{bail, Context, Result};
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Silence after which a guest is taken for dead; it gives a sign of life every second.
const SILENCE: Duration = Duration::from_secs(60);
/// How often the console is looked at while the guest is silent.
const LOOK: Duration = Duration::from_secs(1);
/// Time that a guest has after its kernel said that something is stuck.
const STUCK: Duration = Duration::from_secs(10);
/// Time that a guest has to end by itself.
const FAREWELL: Duration = Duration::from_secs(20);

/// How a command ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// With this exit status.
    Status(i32),
    /// Not at all: the machine stopped, hung, or took too long; the text says which.
    Lost(String),
}

/// A guest that takes commands.
pub(crate) struct Vm {
    /// QEMU, or the kernel itself.
    machine: Child,
    input: ChildStdin,
    frames: Receiver<(Kind, Vec<u8>)>,
    place: place::Guard,
    allowed: Vec<String>,
    timeout: Duration,
    /// How many times longer than on the stock kernel things may take.
    slowness: u32,
    lost: Option<String>,
    /// Bytes of the console that were looked at, and when the guest is given up.
    watched: u64,
    stuck: Option<Instant>,
}

/// What is left of a guest that has ended.
pub(crate) struct Report {
    pub(crate) complaints: Vec<Complaint>,
    /// The whole text of the console.
    pub(crate) console: String,
    /// Where the console's text is kept, if the guest was in trouble.
    pub(crate) log: Option<PathBuf>,
}

impl Vm {
    /// Boots a guest with `init` as its first process and waits until it takes commands.
    pub(super) fn start(kit: &Kit, spec: &Spec, init: &Path, runner: Runner) -> Result<Vm> {
        let place = place::Guard::new()?;
        prepare(kit, spec, init, &place)?;
        let mut command = runner.command(kit, spec, &place, Line::Frames)?;
        let log = File::create(match runner {
            Runner::Qemu(_) => place.qemu(),
            Runner::Host => place.console(),
        })?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut machine = run::spawn(&mut command)?;
        let input = machine.stdin.take().context("the machine has no input")?;
        let output = machine.stdout.take().context("the machine has no output")?;
        let (sender, frames) = channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Ok(Some(frame)) = frame::receive(&mut output) {
                if sender.send(frame).is_err() {
                    break;
                }
            }
        });
        let mut vm = Vm {
            machine,
            input,
            frames,
            place,
            allowed: spec.allowed.clone(),
            timeout: spec.timeout,
            slowness: kit.slowness(),
            lost: None,
            watched: 0,
            stuck: None,
        };
        let limit = Instant::now() + spec.boot_timeout * kit.slowness();
        match vm.next(limit) {
            Ok((Kind::Ready, _)) => Ok(vm),
            Ok((kind, _)) => bail!("the guest began with {kind:?}"),
            Err(reason) => {
                let said = fs::read_to_string(vm.place.qemu()).unwrap_or_default();
                vm.lost = Some(reason.clone());
                let report = vm.end();
                if !spec.quiet {
                    eprint!("{said}");
                    report.show();
                }
                bail!("the guest did not boot: {reason}")
            }
        }
    }

    /// Runs shell text in the guest and passes its output on as it comes.
    ///
    /// A guest that was lost stays lost: later commands end the same way at once.
    pub(crate) fn exec(
        &mut self,
        text: &str,
        stdout: &mut dyn Write,
        stderr: &mut dyn Write,
    ) -> Result<Ended> {
        if let Some(reason) = &self.lost {
            return Ok(Ended::Lost(reason.clone()));
        }
        let limit = Instant::now() + self.timeout;
        // When the guest is gone, waiting for it says so better than this write.
        let _ = frame::send(&mut self.input, Kind::Command, text.as_bytes());
        loop {
            match self.next(limit) {
                Ok((Kind::Stdout, bytes)) => pass_on(stdout, &bytes)?,
                Ok((Kind::Stderr, bytes)) => pass_on(stderr, &bytes)?,
                Ok((Kind::Exit, bytes)) => {
                    let bytes = bytes.as_slice().try_into();
                    let status = i32::from_le_bytes(bytes.context("a malformed exit status")?);
                    return Ok(Ended::Status(status));
                }
                Ok((kind, _)) => bail!("the guest sent {kind:?} while a command ran"),
                Err(reason) => {
                    self.lost = Some(reason.clone());
                    return Ok(Ended::Lost(reason));
                }
            }
        }
    }

    /// Ends the guest and hands back what its kernel had to say.
    ///
    /// Fails when the guest does not end by itself, unless it was lost before.
    pub(crate) fn shut_down(mut self) -> Result<Report> {
        if self.lost.is_none() {
            let _ = frame::send(&mut self.input, Kind::Quit, &[]);
            let limit = Instant::now() + FAREWELL * self.slowness;
            while self.machine.try_wait()?.is_none() {
                if Instant::now() > limit {
                    self.lost = Some("the guest did not power off".into());
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        let lost = self.lost.clone();
        let mut report = self.end();
        if let Some(reason) = lost {
            report.complaints.push(Complaint {
                title: reason,
                excerpt: Vec::new(),
            });
        }
        Ok(report)
    }

    /// The next frame that is not just a sign of life, or why there is none.
    fn next(&mut self, limit: Instant) -> std::result::Result<(Kind, Vec<u8>), String> {
        let silence = SILENCE * self.slowness;
        let mut heard = Instant::now();
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            match self.frames.recv_timeout(left.min(LOOK)) {
                Err(RecvTimeoutError::Disconnected) => return Err(self.last_words()),
                // Output may come for ever, so the limit holds for it as well.
                _ if limit <= Instant::now() => {
                    self.dump();
                    return Err("it did not end in time".into());
                }
                Err(RecvTimeoutError::Timeout) if heard.elapsed() >= silence => {
                    self.dump();
                    return Err(format!("no sign of life for {} s", silence.as_secs()));
                }
                // A kernel that is stuck may have said so as its last words.
                Err(RecvTimeoutError::Timeout) => self.watch()?,
                Ok((Kind::Heartbeat, _)) => {
                    heard = Instant::now();
                    self.watch()?;
                }
                Ok(frame) => return Ok(frame),
            }
        }
    }

    /// Why a machine that nobody ended has ended, as far as it is known.
    fn last_words(&mut self) -> String {
        let limit = Instant::now() + FAREWELL;
        let mut words = "the machine stopped".to_string();
        while Instant::now() < limit {
            if let Ok(Some(status)) = self.machine.try_wait() {
                words = format!("{words} ({status})");
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let said = fs::read_to_string(self.place.qemu()).unwrap_or_default();
        match said.lines().last() {
            Some(line) => format!("{words}: {line}"),
            None => words,
        }
    }

    /// Looks at the console for word of something stuck, so that the time limit, which has to be
    /// long, need not pass before a hang is noticed.
    fn watch(&mut self) -> std::result::Result<(), String> {
        if self.stuck.is_some_and(|end| end <= Instant::now()) {
            self.dump();
            return Err("something in the guest is stuck".into());
        }
        let length = fs::metadata(self.place.console()).map_or(0, |metadata| metadata.len());
        if self.stuck.is_none() && length != self.watched {
            self.watched = length;
            let bytes = fs::read(self.place.console()).unwrap_or_default();
            let complaints = complaint::find(&String::from_utf8_lossy(&bytes), &self.allowed);
            if complaints.iter().any(Complaint::is_stuck) {
                self.stuck = Some(Instant::now() + STUCK * self.slowness);
            }
        }
        Ok(())
    }

    /// Asks the guest to print on its console what its processors do and which tasks are blocked.
    fn dump(&mut self) {
        if frame::send(&mut self.input, Kind::Dump, &[]).is_ok() {
            thread::sleep(Duration::from_secs(2));
        }
    }

    /// Ends the machine in any case, and judges the console.
    fn end(mut self) -> Report {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
        let bytes = fs::read(self.place.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&bytes).into_owned();
        let complaints = complaint::find(&console, &self.allowed);
        let trouble = self.lost.is_some() || !complaints.is_empty();
        let log = trouble.then(|| self.place.keep_console()).flatten();
        Report {
            complaints,
            console,
            log,
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
    }
}

impl Report {
    /// Shows the complaints and where the console's text is.
    pub(crate) fn show(&self) {
        for complaint in &self.complaints {
            eprintln!("vm: {}", complaint.title);
            for line in &complaint.excerpt {
                eprintln!("    {line}");
            }
        }
        if self
            .complaints
            .iter()
            .all(|complaint| complaint.excerpt.is_empty())
        {
            let lines: Vec<&str> = self.console.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(20)) {
                eprintln!("    {line}");
            }
        }
        if let Some(log) = &self.log {
            eprintln!("vm: the console's text is in {}", log.display());
        }
    }
}

fn pass_on(sink: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    sink.write_all(bytes)
        .and_then(|()| sink.flush())
        .context("cannot pass the output on")
}

/// Makes the files that the guest boots from.
pub(super) fn prepare(kit: &Kit, spec: &Spec, init: &Path, place: &Place) -> Result<()> {
    let root = initramfs::make(kit, spec, init)?;
    fs::write(place.initramfs(), root).context("cannot write the guest's first root")?;
    if let Some(directory) = &spec.share {
        share::make(kit, directory, &place.share())?;
    }
    Ok(())
}
