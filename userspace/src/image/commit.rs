// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Makes a sealed layer of a writable one.

use super::container::Container;
use super::create::Created;
use super::dense::{self, Target};
use super::lsmt_writer::Identity;
use super::upper::Upper;
use crate::error::Result;
use std::path::Path;

/// What the sealed layer is to be.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// How it is kept.
    pub container: Container,
    /// Name of the layer; by default one that is made from its contents.
    pub uuid: Option<[u8; 37]>,
    /// Name of the layer below; by default what the writable layer says.
    pub parent_uuid: Option<[u8; 37]>,
    /// Free text for the layer, at most 256 bytes.
    pub message: String,
}

/// Writes the sealed layer `path` with what is live in `upper`, laid out as overlaybd-commit does it.
///
/// `progress` is told the bytes of data that are done.
pub fn commit(
    upper: &Upper,
    path: &Path,
    options: &CommitOptions,
    jobs: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Created> {
    let identity = Identity {
        virtual_size: upper.about.virtual_size,
        uuid: options.uuid,
        parent_uuid: options
            .parent_uuid
            .unwrap_or(upper.about.header.parent_uuid),
        message: options.message.clone(),
    };
    dense::write(
        Target {
            path,
            container: &options.container,
            identity,
            jobs,
        },
        upper.segments().iter().copied(),
        || upper.reader(),
        |reader, segment, skip, buf| reader.read(segment.moffset_bytes() + skip, buf),
        progress,
    )
}
