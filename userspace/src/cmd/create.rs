// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl create`: a raw image or a directory becomes a layer.

use super::progress::progress_bar;
use crate::cli::{self, CreateArgs};
use anyhow::Result;
use vbdctl::image::filesystem::{image_of, Filesystem};
use vbdctl::image::{create, Options, Output, Source, Stack};

/// Makes the layer.
pub(crate) fn run(args: &CreateArgs) -> Result<()> {
    let container = args.form.container("create", &args.work)?;
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
    drop(Output::create(&args.output, args.work.force)?);
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
        compression: container.compression,
        tar: container.tar,
        virtual_size: args.size,
        uuid: args.name.uuid,
        message: args.name.message.clone(),
        force: args.work.force,
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
