// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl create`: a raw image or a directory becomes a layer.

use crate::cli::{self, CreateArgs, FormatArg};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use std::thread;
use vbd_format::zfile::Algorithm;
use vbdctl::image::codec::ZSTD_LEVEL;
use vbdctl::image::filesystem::{image_of, Filesystem};
use vbdctl::image::{create, Compression, Options, Output, Source, Stack};

/// Most compressing threads by default: one thread feeds them all.
const MOST_JOBS: usize = 64;

/// Makes the layer.
pub(crate) fn run(args: &CreateArgs) -> Result<()> {
    let compression = compression(args)?;
    let directory = args.source.is_dir();
    if !directory && args.fs.is_some() {
        return Err(cli::misuse(
            "create",
            format!(
                "--fs is for a directory, and {} is none",
                args.source.display()
            ),
        ));
    }
    // Before work that takes long.
    drop(Output::create(&args.output, args.force)?);
    let base = match args.base.as_slice() {
        [] => None,
        base => Some(Stack::open_arguments(base)?),
    };
    let source = if directory {
        let kind = args.fs.map_or(Filesystem::Ext4, Filesystem::from);
        image_of(kind, &args.source, args.size, &args.output)?
    } else {
        Source::open(&args.source)?
    };
    let options = Options {
        compression,
        tar: args.tar,
        virtual_size: args.size,
        uuid: args.uuid,
        message: args.message.clone(),
        force: args.force,
    };
    let bar = progress_bar(args.size.unwrap_or(source.size()));
    create(
        &source,
        base.as_ref(),
        &args.output,
        &options,
        &mut |done| bar.set_position(done),
    )?;
    bar.finish_and_clear();
    Ok(())
}

fn compression(args: &CreateArgs) -> Result<Option<Compression>> {
    let algorithm = match args.format {
        FormatArg::Plain => None,
        FormatArg::Lz4 => Some(Algorithm::Lz4),
        FormatArg::Zstd => Some(Algorithm::Zstd),
    };
    if args.level.is_some() && algorithm != Some(Algorithm::Zstd) {
        return Err(cli::misuse("create", "--level is for --format zstd".into()));
    }
    let Some(algorithm) = algorithm else {
        for (given, name) in [
            (args.block_size.is_some(), "--block-size"),
            (args.no_crc, "--no-crc"),
            (args.trailer_only, "--trailer-only"),
        ] {
            if given {
                return Err(cli::misuse(
                    "create",
                    format!("{name} is for compressed formats, not for --format plain"),
                ));
            }
        }
        return Ok(None);
    };
    let jobs = args.jobs.map_or_else(
        || {
            let cpus = thread::available_parallelism().map_or(1, usize::from);
            cpus.min(MOST_JOBS)
        },
        usize::from,
    );
    let default = Compression::new(algorithm);
    Ok(Some(Compression {
        level: args.level.unwrap_or(ZSTD_LEVEL),
        block_size: args.block_size.unwrap_or(default.block_size),
        block_crc: !args.no_crc,
        trailer_only: args.trailer_only,
        jobs,
        ..default
    }))
}

/// A bar of `size` bytes on standard error; invisible unless that is a terminal.
fn progress_bar(size: u64) -> ProgressBar {
    let bar = ProgressBar::new(size);
    let template = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
