// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! From nothing to the first page of a device: vbd against losetup, stacks of different heights,
//! and a large disk.

use super::contender::{forget, output, warm, Contender, Kind, Vbd};
use super::load::first_page;
use super::meter::{measure, tell, Label, Sample};
use super::{turn, Settings};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a device is attached.
#[derive(Clone, Copy, Eq, PartialEq)]
enum How {
    /// The program `losetup`.
    Losetup,
    /// The program `vbdctl`.
    Vbdctl,
    /// configfs, from this very process.
    Configfs,
}

struct Attached {
    name: &'static str,
    how: How,
    file: &'static str,
}

const fn attached(name: &'static str, how: How, file: &'static str) -> Attached {
    Attached { name, how, file }
}

/// The same 192 MiB in 1, 10 and 255 layers.
const SMALL: &[Attached] = &[
    attached("losetup", How::Losetup, "raw"),
    attached("vbdctl-1", How::Vbdctl, "lz4-4k"),
    attached("vbdctl-10", How::Vbdctl, "split-10"),
    attached("vbdctl-255", How::Vbdctl, "split-255"),
    attached("configfs-1", How::Configfs, "lz4-4k"),
    attached("configfs-10", How::Configfs, "split-10"),
    attached("configfs-255", How::Configfs, "split-255"),
];

/// A disk of 4 GiB, every block of it stored, in ten layers.
const LARGE: &[Attached] = &[
    attached("losetup", How::Losetup, "big-raw"),
    attached("vbdctl-10", How::Vbdctl, "big-10"),
    attached("configfs-10", How::Configfs, "big-10"),
];

const LOADS: &[(&str, &[Attached], bool)] = &[
    ("attach-layers-hot", SMALL, false),
    ("attach-4g-hot", LARGE, false),
    ("attach-layers-cold", SMALL, true),
    ("attach-4g-cold", LARGE, true),
];

/// Measures every attach in every round.
pub(super) fn run(settings: &Settings) -> Result<()> {
    let loads: Vec<_> = LOADS.iter().filter(|load| settings.wants(load.0)).collect();
    if loads.is_empty() {
        return Ok(());
    }
    let vbdctl = has_attach();
    for round in 0..settings.rounds {
        for (load, list, cold) in &loads {
            let list: Vec<&Attached> = list
                .iter()
                .filter(|one| vbdctl || one.how != How::Vbdctl)
                .collect();
            for number in 0..list.len() {
                let Some(one) = turn(&list, round, number) else {
                    continue;
                };
                let files = Contender::new(one.name, Kind::Vbd, one.file).files();
                if *cold {
                    forget()?;
                } else if one.how == How::Losetup {
                    // The one page that is read; the file may be large.
                    first_page(&files[0])?;
                } else {
                    warm(&files)?;
                }
                let sample = measure_one(one, &files).with_context(|| one.name.to_string())?;
                let label = Label {
                    phase: "inline",
                    load,
                    contender: one.name,
                    round,
                };
                tell(label, &sample);
            }
        }
    }
    Ok(())
}

/// Whether the guest's vbdctl knows how to attach.
fn has_attach() -> bool {
    let mut command = Command::new("vbdctl");
    command.args(["attach", "--help"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn measure_one(one: &Attached, files: &[PathBuf]) -> Result<Sample> {
    let names: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
    match one.how {
        How::Losetup => {
            let mut device = String::new();
            let sample = measure(|| {
                device = output("losetup", &["--find", "--show", "--read-only", &names[0]])?;
                first_page(Path::new(&device)).map(|()| 0)
            })?;
            output("losetup", &["--detach", &device])?;
            Ok(sample)
        }
        How::Vbdctl => {
            let mut words = vec!["attach", "--name", one.name];
            words.extend(names.iter().map(String::as_str));
            let sample = measure(|| {
                let device = output("vbdctl", &words)?;
                first_page(Path::new(&device)).map(|()| 0)
            })?;
            output("vbdctl", &["detach", one.name])?;
            Ok(sample)
        }
        How::Configfs => {
            let mut vbd = None;
            let sample = measure(|| {
                let made = vbd.insert(Vbd::attach(one.name, files, true)?);
                first_page(&made.path).map(|()| 0)
            })?;
            Ok(sample)
        }
    }
}
