// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The service pieces in `dist/` are what systemd and udev take them for.

mod common;

use common::temp_dir;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use vbdctl::control::results::Results;
use vbdctl::control::saved;

fn dist(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("dist")
        .join(name)
}

/// Runs a checker; [`None`], and a loud word, if it is not here.
fn checked(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            let name = command.get_program().to_string_lossy().into_owned();
            // Past the capture of tests' output.
            let mut err = std::io::stderr();
            writeln!(err, "SKIPPED the check of {name}: {error}").unwrap();
            None
        }
    }
}

#[test]
fn the_unit_is_verified() {
    let dir = temp_dir();
    let text = fs::read_to_string(dist("vbd@.service")).unwrap();
    // The program that was built just now: systemd looks whether it can be run.
    let text = text.replace("/usr/bin/vbdctl", env!("CARGO_BIN_EXE_vbdctl"));
    fs::write(dir.path().join("vbd@.service"), text).unwrap();
    let mut command = Command::new("systemd-analyze");
    command
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(dir.path().join("vbd@web.service"));
    if let Some(output) = checked(&mut command) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("vbd@"), "{said}");
    }
}

#[test]
fn the_commands_in_them_exist() {
    let unit = fs::read_to_string(dist("vbd@.service")).unwrap();
    let rules = fs::read_to_string(dist("60-vbd.rules")).unwrap();
    let mut verbs = Vec::new();
    for part in unit
        .split("/usr/bin/vbdctl ")
        .chain(rules.split("/usr/bin/vbdctl "))
        .skip(1)
    {
        verbs.extend(
            part.split_whitespace()
                .next()
                .filter(|word| !word.starts_with('#')),
        );
    }
    verbs.sort_unstable();
    assert_eq!(verbs, ["attach", "detach", "udev-name"]);
    for verb in verbs {
        let output = Command::new(env!("CARGO_BIN_EXE_vbdctl"))
            .args([verb, "--help"])
            .output();
        assert!(output.unwrap().status.success(), "{verb}");
    }
}

#[test]
fn the_example_is_read() {
    let saved = saved::read(&dist("example.json"), &mut Results::default()).unwrap();
    assert_eq!(saved.layers.len(), 2);
    assert_eq!(saved.name.as_deref(), Some("example"));
}
