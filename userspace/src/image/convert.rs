// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Changes the container of a layer.

use super::container::Container;
use super::layer::Layer;
use super::lsmt_writer::tie;
use super::output::Sink as _;
use super::parallel::in_order;
use crate::error::Result;
use std::ops::ControlFlow;
use std::path::Path;
use vbd_format::lsmt::UUID_NONE;

/// Bytes that one task reads, a multiple of every block size.
const PART: u64 = 512 * 1024;

/// Puts the layer `source` into another container at `path`, byte for byte, but that the header gets the
/// trailer's name if it has none and is not compressed; returns the size of the new file.
///
/// `progress` is told the bytes of the LSMT file that are done.
pub fn convert(
    source: &Layer,
    path: &Path,
    container: &Container,
    jobs: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let size = source.lsmt_size();
    let mut packer = container.begin(path)?;
    let mut next = 0;
    in_order(
        jobs,
        || source.reader(),
        |reader, at: u64| {
            let mut bytes = vec![0; PART.min(size - at) as usize];
            reader.read_exact_at(at, &mut bytes)?;
            Ok(bytes)
        },
        || {
            let at = next;
            next += PART;
            Ok((at < size).then_some(at))
        },
        |bytes: Result<Vec<u8>>| {
            packer.write(&bytes?)?;
            progress(packer.position());
            Ok(ControlFlow::Continue(()))
        },
    )?;
    // The header of a layer that was made compressed has no name.
    if source.header_uuid()? == UUID_NONE {
        tie(&mut packer, &source.lsmt.trailer.uuid)?;
    }
    packer.finish()
}
