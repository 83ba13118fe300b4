// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl export`: writes the disk that a stack makes.

use super::progress::progress_bar;
use crate::cli::{self, layers::ExportArgs};
use anyhow::Result;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use vbdctl::image::export::{export, export_stream, ExportOptions};
use vbdctl::image::{parallel, Stack};

/// Writes the disk, or a part of it.
pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    let stream = args.output == Path::new("-");
    if stream && io::stdout().is_terminal() {
        return Err(cli::misuse(
            "export",
            "standard output is a terminal, which a disk is not for".into(),
        ));
    }
    let stack = Stack::open_arguments(&args.stack)?;
    let size = stack.virtual_size();
    let end = match args.length {
        Some(length) => args.offset.checked_add(length),
        None => Some(size),
    };
    let Some(end) = end.filter(|&end| args.offset <= end && end <= size) else {
        return Err(cli::misuse(
            "export",
            format!("the range does not lie inside the disk of {size} bytes"),
        ));
    };
    let options = ExportOptions {
        range: args.offset..end,
        jobs: parallel::readers(args.jobs.map(usize::from)),
        force: args.force,
    };
    let bar = progress_bar(end - args.offset);
    let mut progress = |done| bar.set_position(done);
    if stream {
        let name = Path::new("standard output");
        export_stream(
            stack,
            &mut io::stdout().lock(),
            name,
            &options,
            &mut progress,
        )?;
    } else {
        export(stack, &args.output, &options, &mut progress)?;
    }
    bar.finish_and_clear();
    Ok(())
}
