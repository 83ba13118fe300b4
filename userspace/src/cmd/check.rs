// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl check`: verifies all that the format allows to verify.

use super::print::print;
use super::progress::progress_bar;
use super::Failed;
use crate::cli::layers::CheckArgs;
use anyhow::Result;
use std::path::PathBuf;
use vbdctl::error::escaped;
use vbdctl::image::check::{check, Report};
use vbdctl::image::{config, parallel, Stack};

/// Prints what is found, and a summary.
pub(crate) fn run(args: &CheckArgs) -> Result<()> {
    let paths = files(&args.stack)?;
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
                bar.suspend(|| failed = print(&(escaped(&finding.to_string()) + "\n")).err());
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

/// The layer files; one that cannot be opened is for the check to tell.
fn files(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for argument in arguments {
        if config::is_config(argument).unwrap_or(false) {
            files.extend(Stack::resolve(&[argument])?);
        } else {
            files.push(argument.clone());
        }
    }
    Ok(files)
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
            escaped(&layer.file),
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
