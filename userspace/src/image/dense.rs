// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Copies segments, in the order of the disk, to a new layer without gaps.

use super::container::{Container, Packer};
use super::create::Created;
use super::lsmt_writer::{Identity, LsmtWriter};
use super::parallel::in_order;
use crate::error::{Error, Result};
use std::ops::ControlFlow;
use std::path::Path;
use vbd_format::limits::{MAX_INDEX_RECORDS, SECTOR};
use vbd_format::lsmt::Segment;

/// Bytes that one task reads.
const PART: u64 = 512 * 1024;

/// Segments of one task.
const SEGMENTS: usize = 4096;

/// Some bytes of a segment.
struct Part {
    segment: Segment,
    /// Bytes of it that other parts hold.
    skip: u64,
    len: u64,
}

/// Parts that are read together, and their bytes.
type Batch = Vec<Part>;

/// The layer to write.
pub(super) struct Target<'a> {
    pub(super) path: &'a Path,
    pub(super) container: &'a Container,
    pub(super) identity: Identity,
    /// Reading threads.
    pub(super) jobs: usize,
}

/// Writes the layer `target` of `segments`; their data is read by `read(worker, segment, skip, buf)`
/// from byte `skip` of a segment on.
///
/// `progress` is told the bytes of data that are done.
pub(super) fn write<W: Send>(
    target: Target<'_>,
    segments: impl Iterator<Item = Segment>,
    worker: impl FnMut() -> W,
    read: impl Fn(&mut W, Segment, u64, &mut [u8]) -> Result<()> + Sync,
    progress: &mut dyn FnMut(u64),
) -> Result<Created> {
    let Target {
        path,
        container,
        identity,
        jobs,
    } = target;
    let virtual_size = identity.virtual_size;
    let mut layer = LsmtWriter::new(container.begin(path)?, identity)?;
    let mut batches = Batches {
        segments,
        current: None,
    };
    let mut done = 0;
    in_order(
        jobs,
        worker,
        |worker, batch: Batch| {
            let len = batch.iter().map(|part| part.len).sum::<u64>();
            let mut bytes = vec![0; len as usize];
            let mut rest = bytes.as_mut_slice();
            for part in &batch {
                let (now, later) = rest.split_at_mut(part.len as usize);
                rest = later;
                if !now.is_empty() {
                    read(worker, part.segment, part.skip, now)?;
                }
            }
            Ok((batch, bytes))
        },
        || Ok(batches.next()),
        |result: Result<(Batch, Vec<u8>)>| {
            let (batch, bytes) = result?;
            add(&mut layer, &batch, &bytes, path)?;
            done += bytes.len() as u64;
            progress(done);
            Ok(ControlFlow::Continue(()))
        },
    )?;
    let (packer, uuid) = layer.finish()?;
    Ok(Created {
        virtual_size,
        file_size: packer.finish()?,
        uuid,
    })
}

fn add(layer: &mut LsmtWriter<Packer>, batch: &[Part], bytes: &[u8], path: &Path) -> Result<()> {
    let mut rest = bytes;
    for part in batch {
        let segment = part.segment;
        if part.skip == 0 {
            layer.segment(
                segment.offset(),
                segment.sectors(),
                segment.zeroed(),
                segment.tag(),
            );
        }
        let (now, later) = rest.split_at(part.len as usize);
        rest = later;
        if !now.is_empty() {
            layer.store(now)?;
        }
    }
    if layer.records() > MAX_INDEX_RECORDS {
        return Err(Error::unfit(
            path,
            format!("would have more than {MAX_INDEX_RECORDS} records"),
        ));
    }
    Ok(())
}

/// Segments in batches of about [`PART`] bytes.
struct Batches<I> {
    segments: I,
    current: Option<(Segment, u64)>,
}

impl<I: Iterator<Item = Segment>> Iterator for Batches<I> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let mut batch = Vec::new();
        let mut room = PART;
        while room != 0 && batch.len() < SEGMENTS {
            let Some((segment, skip)) = self
                .current
                .take()
                .or_else(|| self.segments.next().map(|segment| (segment, 0)))
            else {
                break;
            };
            let size = match segment.zeroed() {
                true => 0,
                false => segment.sectors() * SECTOR,
            };
            let len = (size - skip).min(room);
            room -= len;
            batch.push(Part { segment, skip, len });
            if skip + len < size {
                self.current = Some((segment, skip + len));
            }
        }
        (!batch.is_empty()).then_some(batch)
    }
}
