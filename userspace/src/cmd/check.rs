// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl check`: verifies all that the format allows to verify.

use super::progress::progress_bar;
use super::Failed;
use crate::cli::layers::CheckArgs;
use anyhow::{Context as _, Result};
use std::io::Write as _;
use vbdctl::image::check::{check, Report};
use vbdctl::image::{parallel, Stack};

/// Prints what is found, and a summary.
pub(crate) fn run(args: &CheckArgs) -> Result<()> {
    let paths = Stack::resolve(&args.stack)?;
    let sizes = paths
        .iter()
        .map(|path| path.metadata().map_or(0, |m| m.len()));
    let bar = progress_bar(sizes.sum());
    let mut failed = None;
    let jobs = parallel::readers(args.jobs.map(usize::from));
    let report = check(
        &paths,
        jobs,
        &mut |finding| {
            if !args.json && (finding.defect || !args.quiet) && failed.is_none() {
                bar.suspend(|| failed = print(&format!("{finding}\n")).err());
            }
        },
        &mut |done| bar.set_position(done),
    );
    bar.finish_and_clear();
    if let Some(error) = failed {
        return Err(error);
    }
    print(&if args.json {
        report.json()?
    } else {
        summary(&report)
    })?;
    if report.ok {
        Ok(())
    } else {
        Err(Failed.into())
    }
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

fn summary(report: &Report) -> String {
    let count = |number: u64, what: &str| match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let mut text = String::new();
    for layer in &report.layers {
        text += &format!(
            "{}: {} and {} verified, {}\n",
            layer.file,
            count(layer.blocks, "block"),
            count(layer.records, "record"),
            count(layer.defects, "defect")
        );
    }
    if report.layers.len() > 1 {
        text += &format!(
            "stack: {}, {}\n",
            count(report.layers.len() as u64, "layer"),
            count(report.defects, "defect")
        );
    }
    text
}
