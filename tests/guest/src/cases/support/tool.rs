// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Other programs of the guest.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs a program that has to succeed, and hands back what it printed.
pub(crate) fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> String {
    let output = output(program, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}: {}: {said}",
        shown(program, arguments),
        output.status
    );
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// Runs a program that may fail.
pub(crate) fn output<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{}: {error}", shown(program, arguments)))
}

fn shown<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> String {
    let words = arguments.iter().map(|word| word.as_ref().to_string_lossy());
    let words: Vec<_> = words.collect();
    format!("{program} {}", words.join(" "))
}

/// A loop device over a file, for the time of this value.
pub(crate) struct Loop(String);

impl Loop {
    pub(crate) fn new(file: &Path) -> Loop {
        assert!(crate::modules::probe(&["loop"]), "modprobe loop");
        let file = file.display().to_string();
        Loop(run("losetup", &["--find", "--show", &file]))
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(&self.0)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let done = Command::new("losetup").args(["--detach", &self.0]).status();
        if !done.is_ok_and(|status| status.success()) && !std::thread::panicking() {
            panic!("losetup --detach {}", self.0);
        }
    }
}
