// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Counting instructions with a plugin of QEMU's emulator.
//!
//! The load generator marks begin and end of what it measures with 32 `pause` instructions in a
//! row: safe Rust can make them (`std::hint::spin_loop`), they mean nothing to a processor, and no
//! program has so many without a jump between. At each mark the plugin notes how many instructions
//! all processors have run so far, in the kernel and outside of it.

use super::rows::Output;
use crate::kit::Kit;
use crate::run;
use crate::vm::Plugin;
use anyhow::{bail, ensure, Context, Result};
use serde::Serialize;
use std::fs;
use std::path::Path;

const SOURCE: &str = include_str!("plugin.c");
/// The plugin's file, and what it writes beside it.
const FILE: &str = "insn.so";
const SUMS: &str = "insn.out";
pub(super) const PROFILE: &str = "profile.out";

/// Instructions of one measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Count {
    pub(crate) phase: String,
    pub(crate) load: String,
    pub(crate) contender: String,
    bytes: u64,
    kernel: u64,
    user: u64,
}

impl Count {
    /// Millions in the kernel.
    pub(crate) fn kernel_millions(&self) -> f64 {
        self.kernel as f64 / 1e6
    }

    pub(crate) fn kernel_per_kib(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.kernel as f64 * 1024.0 / self.bytes as f64)
    }
}

/// Compiles the plugin into `place`, with the compiler of the system that QEMU is of.
pub(crate) fn build(kit: &Kit, place: &Path, profile: bool) -> Result<Plugin> {
    fs::write(place.join("insn.c"), SOURCE)?;
    let mut gcc = kit.command(&[place], place, "gcc-14");
    gcc.args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC"]);
    run::stdout(gcc.args(["-o", FILE, "insn.c"])).context("the plugin")?;
    let mut arguments = vec![format!("to={}", place.join(SUMS).display())];
    if profile {
        arguments.push(format!("profile={}", place.join(PROFILE).display()));
    }
    Ok(Plugin {
        file: place.join(FILE),
        arguments,
    })
}

/// The sums at each mark: in the kernel, outside of it.
pub(crate) fn read(place: &Path) -> Result<Vec<(u64, u64)>> {
    let path = place.join(SUMS);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<(u64, u64)>> {
    let sums = text.lines().map(|line| {
        let (kernel, user) = line.split_once(' ').context(line.to_string())?;
        Ok((kernel.parse()?, user.parse()?))
    });
    sums.collect()
}

/// The instructions of each measurement.
pub(crate) fn join(output: &Output, sums: &[(u64, u64)]) -> Result<Vec<Count>> {
    if sums.len() != output.marks {
        bail!("{} marks were made and {} seen", output.marks, sums.len());
    }
    let counts = output.rows.iter().map(|row| {
        let at = usize::try_from(row.mark)?;
        let (begin, end) = (sums.get(at), sums.get(at + 1));
        let (begin, end) = (begin.context("no such mark")?, end.context("no such mark")?);
        ensure!(begin.0 <= end.0 && begin.1 <= end.1, "sums that shrink");
        Ok(Count {
            phase: row.phase.clone(),
            load: row.load.clone(),
            contender: row.contender.clone(),
            bytes: row.bytes,
            kernel: end.0 - begin.0,
            user: end.1 - begin.1,
        })
    });
    counts.collect()
}

#[cfg(test)]
mod tests {
    use super::super::rows::Row;
    use super::*;

    fn output(marks: usize) -> Output {
        let row = r#"{"phase":"p","load":"l","contender":"c","round":0,"bytes":2048,"ns":1,
            "cpu_ns":1,"mark":2}"#;
        let row: Row = serde_json::from_str(row).unwrap();
        Output {
            rows: vec![row],
            marks,
        }
    }

    #[test]
    fn a_measurement_is_the_difference_of_two_marks() {
        let sums = parse("1 1\n2 2\n100 10\n700 11\n").unwrap();
        let counts = join(&output(4), &sums).unwrap();
        assert_eq!((counts[0].kernel, counts[0].user), (600, 1));
        assert_eq!(counts[0].kernel_per_kib(), Some(300.0));
    }

    #[test]
    fn marks_that_were_not_seen_are_noticed() {
        let sums = parse("1 1\n2 2\n100 10\n").unwrap();
        assert!(join(&output(4), &sums).is_err());
        assert!(parse("1\n").is_err());
    }
}
