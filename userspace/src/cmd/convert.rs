// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl convert`: another container for a layer, or a layer of another disk image.

use super::progress::progress_bar;
use crate::cli::layers::ConvertArgs;
use anyhow::Result;
use vbdctl::image::convert::{convert, foreign_format, foreign_image};
use vbdctl::image::disk::is_layer;
use vbdctl::image::{create, parallel, Layer, Options, Output, Source};

/// Makes the layer.
pub(crate) fn run(args: &ConvertArgs) -> Result<()> {
    let container = args.form.container("convert", &args.work)?;
    let jobs = parallel::readers(args.work.jobs());
    if is_layer(&args.source)? {
        let (layer, _) = Layer::open(&args.source)?;
        let bar = progress_bar(layer.lsmt_size());
        convert(&layer, &args.output, &container, jobs, &mut |done| {
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
        return Ok(());
    }
    // Before work that takes long.
    drop(Output::create(&args.output, args.work.force)?);
    let source = match foreign_format(&args.source)? {
        None => Source::open(&args.source)?,
        Some(format) => foreign_image(&args.source, format, &args.output)?,
    };
    let options = Options {
        compression: container.compression,
        tar: container.tar,
        force: container.force,
        ..Options::default()
    };
    let bar = progress_bar(source.size());
    create(&source, None, &args.output, &options, &mut |done| {
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    Ok(())
}
