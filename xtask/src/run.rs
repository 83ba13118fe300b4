// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Running other programs: every failure names the program and what it was asked to do.

use anyhow::{bail, Context, Result};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

/// The command line as a person would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// One word of a command line, quoted for a POSIX shell where it has to be.
pub(crate) fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%^~".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('~') {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Make's option that has it use every processor.
pub(crate) fn jobs() -> String {
    let processors = std::thread::available_parallelism();
    format!("-j{}", processors.map_or(1, std::num::NonZeroUsize::get))
}

/// Starts a program.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| {
        let program = command.get_program().to_string_lossy();
        format!("cannot start {program}")
    })
}

/// Runs a program to its end, with our own input and output, and hands back how it ended.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    spawn(command)?.wait().with_context(|| shown(command))
}

/// Runs a program that has to succeed, and hands back what it printed.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let output = child.wait_with_output().with_context(|| shown(command))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it said nothing");
        bail!("{}: {}: {last}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| shown(command))
}

/// A file that takes the output of long steps, and one line on the terminal for each of them.
pub(crate) struct Log {
    path: PathBuf,
    title: &'static str,
}

impl Log {
    /// Starts an empty log at `path`; `title` begins each line on the terminal.
    pub(crate) fn create(path: &Path, title: &'static str) -> Result<Log> {
        File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Log {
            path: path.to_path_buf(),
            title,
        })
    }

    /// The log opened for adding to its end.
    pub(crate) fn file(&self) -> Result<File> {
        let file = OpenOptions::new().append(true).open(&self.path);
        file.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Does one step, and tells the terminal what it is and how long it took.
    pub(crate) fn step<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        writeln!(self.file()?, "== {what}")?;
        let terminal = std::io::stderr().is_terminal();
        if terminal {
            eprint!("{}: {what} …", self.title);
        }
        let begin = Instant::now();
        let done = work().with_context(|| format!("cannot {what}"));
        let seconds = begin.elapsed().as_secs_f32();
        let start = if terminal { "\r" } else { "" };
        match &done {
            Ok(_) => eprintln!("{start}{}: {what} ({seconds:.1} s)", self.title),
            Err(_) => {
                eprintln!("{start}{}: {what} FAILED ({seconds:.1} s)", self.title);
                self.show_tail();
            }
        }
        done
    }

    /// Runs a program that has to succeed; what it prints goes to the log.
    pub(crate) fn run(&self, command: &mut Command) -> Result<()> {
        let mut log = self.file()?;
        writeln!(log, "+ {}", shown(command))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let status = status(command)?;
        if !status.success() {
            let program = command.get_program().to_string_lossy();
            bail!("{program}: {status} (log: {})", self.path.display());
        }
        Ok(())
    }

    /// Runs programs that each read what the one before it prints, as `a | b | c` does.
    pub(crate) fn pipeline(&self, commands: &mut [Command]) -> Result<()> {
        let mut log = self.file()?;
        let mut input = Stdio::null();
        let mut children = Vec::new();
        let last = commands.len().saturating_sub(1);
        for (number, command) in commands.iter_mut().enumerate() {
            writeln!(log, "+ {} |", shown(command))?;
            command.stdin(input).stderr(log.try_clone()?);
            if number == last {
                command.stdout(log.try_clone()?);
                input = Stdio::null();
                children.push(spawn(command)?);
            } else {
                let mut child = spawn(command.stdout(Stdio::piped()))?;
                input = child.stdout.take().map_or(Stdio::null(), Stdio::from);
                children.push(child);
            }
        }
        // The last program is judged first: when it fails, those before it die of a broken pipe.
        for (child, command) in children.iter_mut().zip(commands).rev() {
            let status = child.wait()?;
            if !status.success() {
                bail!(
                    "{}: {status} (log: {})",
                    shown(command),
                    self.path.display()
                );
            }
        }
        Ok(())
    }

    fn show_tail(&self) {
        let Ok(bytes) = std::fs::read(&self.path) else {
            return;
        };
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(25)) {
            eprintln!("    {line}");
        }
        eprintln!("    (whole log: {})", self.path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_would_split_or_change_them() {
        assert_eq!(quoted(OsStr::new("backfile=/a,/b")), "backfile=/a,/b");
        assert_eq!(quoted(OsStr::new("a b")), "'a b'");
        assert_eq!(quoted(OsStr::new("it's")), r"'it'\''s'");
        assert_eq!(quoted(OsStr::new("")), "''");
        assert_eq!(quoted(OsStr::new("$HOME")), "'$HOME'");
        assert_eq!(quoted(OsStr::new("~root")), "'~root'");
        assert_eq!(quoted(OsStr::new("1~bpo")), "1~bpo");
    }

    #[test]
    fn a_failed_program_is_named_with_its_last_words() {
        let error = stdout(Command::new("ls").arg("/does/not/exist")).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.starts_with("ls /does/not/exist: exit status: 2: "),
            "{text}"
        );
    }
}
