// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Makes one layer of several.

use super::container::Container;
use super::create::Created;
use super::dense::{self, Target};
use super::lsmt_writer::Identity;
use super::stack::Stack;
use crate::error::Result;
use std::path::Path;

/// What the merged layer is to be.
#[derive(Clone, Debug, Default)]
pub struct MergeOptions {
    /// How it is kept.
    pub container: Container,
    /// Name of the layer; by default one that is made from its contents.
    pub uuid: Option<[u8; 37]>,
    /// Free text for the layer, at most 256 bytes.
    pub message: String,
    /// Whether nothing lies below the stack, so that records that say zero are not needed.
    pub bottom: bool,
}

/// Writes the layer `path` that stands for all layers of `stack`, wherever these stand in a stack.
///
/// Data past the virtual size is kept: a larger layer above may show it again. `progress` is told the
/// bytes of data that are done. The result is the same whatever the number of threads.
pub fn merge(
    stack: &Stack,
    path: &Path,
    options: &MergeOptions,
    jobs: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Created> {
    let top = stack.layers().len() - 1;
    let identity = Identity {
        virtual_size: stack.virtual_size(),
        uuid: options.uuid,
        parent_uuid: stack.layers()[0].lsmt.trailer.parent_uuid,
        message: options.message.clone(),
    };
    let segments = stack
        .index()
        .iter()
        .filter(|segment| !(options.bottom && segment.zeroed()))
        // On disk layers count from the top; a stack has at most 255.
        .map(|segment| segment.with_tag((top - usize::from(segment.tag())) as u8));
    dense::write(
        Target {
            path,
            container: &options.container,
            identity,
            jobs,
        },
        segments,
        || stack.reader(),
        |reader, segment, skip, buf| {
            let layer = top - usize::from(segment.tag());
            reader.read_layer(layer, segment.moffset_bytes() + skip, buf)
        },
        progress,
    )
}
