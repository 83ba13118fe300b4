// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Makes a layer from a raw image: all of it, or what differs from the stack below.

use super::container::Container;
use super::fill::fill;
use super::lsmt_writer::{Identity, LsmtWriter};
use super::parallel::readers;
use super::source::Source;
use super::stack::Stack;
use super::zfile_writer::Compression;
use crate::error::{Error, Result};
use std::path::Path;
use vbd_format::limits::{MAX_VIRTUAL_SIZE, SECTOR};
use vbd_format::lsmt::UUID_NONE;

/// What the new layer is to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Compression, or [`None`] for a plain layer.
    pub compression: Option<Compression>,
    /// Whether to wrap the layer into a tar archive, as registries want it.
    pub tar: bool,
    /// Bytes of the virtual disk, a multiple of 512 and no less than the image; by default the
    /// image's size, rounded up to 512.
    pub virtual_size: Option<u64>,
    /// Name of the layer; by default one that is made from its contents.
    pub uuid: Option<[u8; 37]>,
    /// Free text for the layer, at most 256 bytes.
    pub message: String,
    /// Replace an existing file.
    pub force: bool,
}

impl Options {
    fn container(&self) -> Container {
        Container {
            compression: self.compression,
            tar: self.tar,
            force: self.force,
        }
    }
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Bytes of the virtual disk.
    pub virtual_size: u64,
    /// Bytes of the file.
    pub file_size: u64,
    /// The layer's name, 36 characters and NUL.
    pub uuid: [u8; 37],
}

/// Writes the layer `path` so that it, on top of `base` if one is given, reads as `source`.
///
/// `progress` is told the bytes of the virtual disk that are done. Equal input and options make equal
/// bytes, whatever the number of threads.
pub fn create(
    source: &Source,
    base: Option<&Stack>,
    path: &Path,
    options: &Options,
    progress: &mut dyn FnMut(u64),
) -> Result<Created> {
    let virtual_size = virtual_size(source, options)?;
    let parent = base.and_then(|stack| stack.layers().last());
    let identity = Identity {
        virtual_size,
        uuid: options.uuid,
        parent_uuid: parent.map_or(UUID_NONE, |layer| layer.lsmt.trailer.uuid),
        message: options.message.clone(),
    };
    let mut layer = LsmtWriter::new(options.container().begin(path)?, identity)?;
    let jobs = readers(options.compression.map(|compression| compression.jobs));
    fill(&mut layer, source, base, virtual_size, jobs, progress)?;
    let (packer, uuid) = layer.finish()?;
    let file_size = packer.finish()?;
    Ok(Created {
        virtual_size,
        file_size,
        uuid,
    })
}

fn virtual_size(source: &Source, options: &Options) -> Result<u64> {
    let least = source.size().next_multiple_of(SECTOR);
    let size = options.virtual_size.unwrap_or(least);
    let reason = if size % SECTOR != 0 {
        format!("virtual size {size} is not a multiple of {SECTOR}")
    } else if size < least {
        format!(
            "virtual size {size} is less than the image's {}",
            source.size()
        )
    } else if size > MAX_VIRTUAL_SIZE {
        format!("virtual size {size} is more than {MAX_VIRTUAL_SIZE}")
    } else if size == 0 {
        // A layer of size 0 would leave the size to the layers below.
        "is empty: give a virtual size".to_owned()
    } else {
        return Ok(size);
    };
    Err(Error::unfit(source.path(), reason))
}
