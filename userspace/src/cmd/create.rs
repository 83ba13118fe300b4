// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl create`: a raw image or a directory becomes a layer.

use super::progress::progress_bar;
use crate::cli::{self, CreateArgs};
use anyhow::Result;
use std::path::PathBuf;
use vbdctl::error::complain;
use vbdctl::image::filesystem::{image_of, image_of_one, Filesystem};
use vbdctl::image::foreign::content_of;
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
    if !directory && args.one_file_system {
        return Err(cli::misuse(
            "create",
            format!(
                "--one-file-system is for a directory, and {} is none",
                args.source.display()
            ),
        ));
    }
    // Before work that takes long.
    drop(Output::create(&args.output, args.work.force)?);
    let base = match args.base.as_slice() {
        [] => None,
        base => {
            let files: Vec<PathBuf> = base.iter().flat_map(|list| Stack::split(list)).collect();
            Some(Stack::open_arguments(&files)?)
        }
    };
    let source = if directory {
        let kind = args.fs.map_or(Filesystem::Ext4, Filesystem::from);
        let make = if args.one_file_system {
            image_of_one
        } else {
            image_of
        };
        make(kind, &args.source, args.size, &args.output)?
    } else {
        let source = Source::open(&args.source)?;
        if let Some(found) = content_of(&args.source)?.name() {
            // Right for a disk on which a guest wrote that; most likely a mistake.
            let name = args.source.display();
            complain(&format!(
                "{name}: begins as {found}; taken for a raw image, as it is (see convert)"
            ));
        }
        source
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
