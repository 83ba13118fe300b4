// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Makes a layer from a raw image: all of it, or what differs from the stack below.

use super::container::Container;
use super::lsmt_writer::{Identity, LsmtWriter};
use super::output::Sink;
use super::source::Source;
use super::stack::{Reader, Stack};
use super::zfile_writer::Compression;
use crate::error::{Error, Result};
use std::path::Path;
use vbd_format::limits::{MAX_INDEX_RECORDS, MAX_VIRTUAL_SIZE, SECTOR};
use vbd_format::lsmt::{self, UUID_NONE};

/// Bytes that are compared at a time, unless the unit is larger: few enough for a processor's cache.
const CHUNK: u64 = 256 * 1024;

/// Largest unit of comparison, in bytes.
const MAX_UNIT: u64 = 2 << 20;

/// Unit of comparison where nothing lies below, in bytes.
const PAGE: u64 = 4096;

/// Records after which the unit of comparison grows by [`COARSER_BY`], so that a scattered image does
/// not make more records than a layer may have.
const COARSER_EVERY: u64 = 200_000;
const COARSER_BY: u64 = 8;

static ZEROES: [u8; MAX_UNIT as usize] = [0; MAX_UNIT as usize];

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
    fill(&mut layer, source, base, virtual_size, progress)?;
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

/// What becomes of a unit of the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing: what lies below is right.
    Same,
    /// A record that says zero.
    Zeroed,
    /// A record with data.
    Data,
}

fn fill<S: Sink>(
    layer: &mut LsmtWriter<S>,
    source: &Source,
    base: Option<&Stack>,
    virtual_size: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut image = vec![0; MAX_UNIT as usize];
    let mut below = base.map(|stack| Below {
        stack,
        reader: stack.reader_of_size(virtual_size),
        buf: vec![0; MAX_UNIT as usize],
    });
    let mut at = 0;
    while let Some(next) = next_interesting(source, base, at)?.filter(|&next| next < virtual_size) {
        let growth = COARSER_BY.pow((layer.records() / COARSER_EVERY).min(4) as u32);
        let chunk = CHUNK.max((SECTOR * growth).min(MAX_UNIT));
        // A chunk ends at a multiple of its length, and begins at one unless that is done already.
        at = at.max(next - next % chunk);
        let len = (chunk - at % chunk).min(virtual_size - at) as usize;
        let image = &mut image[..len];
        source.read(at, image)?;
        let below = match &mut below {
            Some(below) => below.read(at, len)?,
            None => None,
        };
        // With nothing below a page is stored whole, which keeps records few; against a stack only
        // sectors that differ are.
        let finest = if below.is_some() { SECTOR } else { PAGE };
        let unit = (finest * growth).min(chunk);
        write_chunk(layer, at / SECTOR, image, below, unit as usize)?;
        if layer.records() > MAX_INDEX_RECORDS {
            return Err(Error::unfit(
                source.path(),
                format!("is too scattered: more than {MAX_INDEX_RECORDS} records at byte {at}"),
            ));
        }
        at += len as u64;
        progress(at);
    }
    progress(virtual_size);
    Ok(())
}

/// The stack below the new layer.
struct Below<'a> {
    stack: &'a Stack,
    reader: Reader<'a>,
    buf: Vec<u8>,
}

impl Below<'_> {
    /// Bytes below; [`None`] where no layer has any, which is zeroes.
    fn read(&mut self, at: u64, len: usize) -> Result<Option<&[u8]>> {
        if mapped_from(self.stack, at).is_none_or(|next| next >= at + len as u64) {
            return Ok(None);
        }
        let buf = &mut self.buf[..len];
        self.reader.read_exact_at(at, buf)?;
        Ok(Some(buf))
    }
}

/// The first byte at or after `at` that `stack` has a record for.
fn mapped_from(stack: &Stack, at: u64) -> Option<u64> {
    let segment = stack.index().get(lsmt::find(stack.index(), at / SECTOR))?;
    Some(at.max(segment.offset() * SECTOR))
}

/// The first byte at or after `at` that the image or the stack below has something for.
fn next_interesting(source: &Source, base: Option<&Stack>, at: u64) -> Result<Option<u64>> {
    let image = source.next_data(at)?.map(|range| range.start);
    let below = base.and_then(|stack| mapped_from(stack, at));
    Ok(match (image, below) {
        (Some(image), Some(below)) => Some(image.min(below)),
        (image, below) => image.or(below),
    })
}

/// Writes what one chunk needs, in units of `unit` bytes; `sector` is the chunk's first.
fn write_chunk<S: Sink>(
    layer: &mut LsmtWriter<S>,
    sector: u64,
    image: &[u8],
    below: Option<&[u8]>,
    unit: usize,
) -> Result<()> {
    let kind_at = |start: usize| {
        let range = start..image.len().min(start + unit);
        let new = &image[range.clone()];
        let zero = *new == ZEROES[..new.len()];
        match below {
            None if zero => Kind::Same,
            Some(below) if *new == below[range] => Kind::Same,
            Some(_) if zero => Kind::Zeroed,
            _ => Kind::Data,
        }
    };
    let mut start = 0;
    while start < image.len() {
        let kind = kind_at(start);
        let mut end = start + unit;
        while end < image.len() && kind_at(end) == kind {
            end += unit;
        }
        // The last unit of a disk may be shorter than the others.
        let run = &image[start..end.min(image.len())];
        let first = sector + start as u64 / SECTOR;
        match kind {
            Kind::Same => {}
            Kind::Zeroed => layer.zeroed(first, run.len() as u64 / SECTOR),
            Kind::Data => layer.data(first, run)?,
        }
        start = end;
    }
    Ok(())
}
