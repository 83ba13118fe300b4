// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl convert`: another container for a layer, or a layer of another disk image.

use super::progress::progress_bar;
use crate::cli::layers::{ConvertArgs, FromArg};
use anyhow::{bail, Result};
use std::path::Path;
use vbdctl::image::convert::convert;
use vbdctl::image::foreign::{self, content_of, Content, Format};
use vbdctl::image::{create, parallel, Layer, Options, Output, Source};

/// What the source is.
#[derive(Clone, Copy)]
enum From {
    Layer,
    Raw,
    Image(Format),
}

/// Makes the layer.
pub(crate) fn run(args: &ConvertArgs) -> Result<()> {
    let container = args.form.container("convert", &args.work)?;
    let jobs = parallel::readers(args.work.jobs());
    let source = match format_of(&args.source, args.from)? {
        From::Layer => {
            let (layer, _) = Layer::open(&args.source)?;
            let bar = progress_bar(layer.lsmt_size());
            convert(&layer, &args.output, &container, jobs, &mut |done| {
                bar.set_position(done);
            })?;
            bar.finish_and_clear();
            return Ok(());
        }
        From::Raw => Source::open(&args.source)?,
        From::Image(format) => {
            // Before work that takes long.
            drop(Output::create(&args.output, args.work.force)?);
            foreign::open(&args.source, format, args.allow_references, &args.output)?
        }
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

/// What `source` is: as the user says, by an option or by the end of its name. What it contains is no
/// answer, since the guest of a raw image writes that; it can only be a reason to ask.
fn format_of(source: &Path, from: Option<FromArg>) -> Result<From> {
    let name = source.display();
    Ok(match from {
        Some(FromArg::Layer) => From::Layer,
        Some(FromArg::Raw) => From::Raw,
        Some(FromArg::Qcow2) => From::Image(Format::Qcow2),
        Some(FromArg::Vmdk) => From::Image(Format::Vmdk),
        Some(FromArg::Vdi) => From::Image(Format::Vdi),
        Some(FromArg::Vhd) => From::Image(Format::Vhd),
        Some(FromArg::Vhdx) => From::Image(Format::Vhdx),
        Some(FromArg::Auto) => match content_of(source)? {
            Content::Layer => From::Layer,
            Content::Image(format) => From::Image(format),
            Content::Unknown => From::Raw,
            Content::Other(other) => bail!(
                "{name}: begins as {other}, which is no disk image; --from raw takes its bytes as they are"
            ),
        },
        None => match (Format::by_name(source), content_of(source)?) {
            (None, Content::Unknown) => From::Raw,
            (None, Content::Layer) => From::Layer,
            (Some(format), Content::Unknown) => From::Image(format),
            (Some(format), Content::Image(found)) if found == format => From::Image(format),
            (named, found) => {
                let by_name = match named {
                    Some(format) => format!("is named as a {} image, but ", format.name()),
                    None => String::new(),
                };
                let found = found.name().unwrap_or_default();
                bail!(
                    "{name}: {by_name}begins as {found}: say by --from what it is; \
                     raw takes its bytes as they are"
                );
            }
        },
    })
}
