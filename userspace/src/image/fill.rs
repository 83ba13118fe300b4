// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Finds out what a layer needs so that it, on top of a base, reads as a raw image.
//!
//! Image and base are read, decoded and compared by several threads, a chunk each. Only once a
//! scattered image has made very many records, chunks become larger and one thread does it all.

use super::lsmt_writer::LsmtWriter;
use super::output::Sink;
use super::parallel::in_order;
use super::source::{Source, SourceReader};
use super::stack::{Reader, Stack};
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::ops::{ControlFlow, Range};
use vbd_format::limits::{MAX_INDEX_RECORDS, SECTOR};
use vbd_format::lsmt::Index;

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

/// What becomes of a unit of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing: what lies below is right.
    Same,
    /// A record that says zero.
    Zeroed,
    /// A record with data.
    Data,
}

/// Writes to `layer` what it needs; the disk has `virtual_size` bytes.
pub(super) fn fill<S: Sink>(
    layer: &mut LsmtWriter<S>,
    source: &Source,
    base: Option<&Stack>,
    virtual_size: u64,
    jobs: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let work = Work {
        source,
        base,
        virtual_size,
    };
    let at = work.side_by_side(layer, jobs, progress)?;
    work.one_by_one(layer, at, progress)?;
    progress(virtual_size);
    Ok(())
}

/// How many of the finest units one unit has after so many records.
fn growth(records: u64) -> u64 {
    COARSER_BY.pow((records / COARSER_EVERY).min(4) as u32)
}

/// Bytes of a chunk with units of this growth.
fn chunk_of(growth: u64) -> u64 {
    CHUNK.max((SECTOR * growth).min(MAX_UNIT))
}

/// Bytes of the finest unit. With nothing below a page is stored whole, which keeps records few;
/// against a stack only sectors that differ are.
fn finest(below: bool) -> usize {
    (if below { SECTOR } else { PAGE }) as usize
}

/// What is read and compared.
#[derive(Clone, Copy)]
struct Work<'a> {
    source: &'a Source,
    base: Option<&'a Stack>,
    virtual_size: u64,
}

/// Bytes of a range of the disk.
struct Chunk {
    start: u64,
    image: Vec<u8>,
    /// What lies below; [`None`] where no layer has anything, which is zeroes.
    below: Option<Vec<u8>>,
    /// Of each of the finest units.
    kinds: Vec<Kind>,
}

impl<'a> Work<'a> {
    /// Reads chunks on `jobs` threads while units are small; returns the byte that is next.
    fn side_by_side<S: Sink>(
        &self,
        layer: &mut LsmtWriter<S>,
        jobs: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64> {
        let mut next = 0;
        let mut done = 0;
        let mut over = false;
        // Memory of chunks that are done.
        let spare = RefCell::new(Vec::new());
        in_order(
            jobs,
            || (self.source.reader(), self.below()),
            |(image, below), (range, memory)| Chunk::read(image, below.as_mut(), range, memory),
            || {
                let Some(start) = self.next_interesting(next)? else {
                    return Ok(None);
                };
                let start = next.max(start - start % CHUNK);
                next = (start - start % CHUNK + CHUNK).min(self.virtual_size);
                Ok(Some((
                    start..next,
                    spare.borrow_mut().pop().unwrap_or_default(),
                )))
            },
            |chunk: Result<Chunk>| {
                let chunk = chunk?;
                let growth = growth(layer.records());
                over = chunk_of(growth) > CHUNK;
                if over {
                    return Ok(ControlFlow::Break(()));
                }
                done = chunk.start + chunk.image.len() as u64;
                self.write(layer, &chunk, growth)?;
                spare.borrow_mut().push(chunk.image);
                progress(done);
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(if over { done } else { self.virtual_size })
    }

    /// The rest of the disk from `at`, in chunks that grow with the number of records.
    fn one_by_one<S: Sink>(
        &self,
        layer: &mut LsmtWriter<S>,
        mut at: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let image = self.source.reader();
        let mut below = self.below();
        while let Some(next) = self.next_interesting(at)? {
            let growth = growth(layer.records());
            let size = chunk_of(growth);
            // A chunk ends at a multiple of its length, and begins at one unless that is done already.
            at = at.max(next - next % size);
            let end = (at - at % size + size).min(self.virtual_size);
            let chunk = Chunk::read(&image, below.as_mut(), at..end, Vec::new())?;
            self.write(layer, &chunk, growth)?;
            at = end;
            progress(at);
        }
        Ok(())
    }

    fn below(&self) -> Option<Below<'a>> {
        let stack = self.base?;
        Some(Below {
            stack,
            reader: stack.reader_of_size(self.virtual_size),
        })
    }

    /// The first byte at or after `at` that the image or the stack below has something for.
    fn next_interesting(&self, at: u64) -> Result<Option<u64>> {
        let image = self.source.next_data(at)?.map(|range| range.start);
        let below = self.base.and_then(|stack| mapped_from(stack, at));
        let first = match (image, below) {
            (Some(image), Some(below)) => Some(image.min(below)),
            (image, below) => image.or(below),
        };
        Ok(first.filter(|&first| first < self.virtual_size))
    }

    /// Writes what `chunk` needs, in units of `growth` finest ones.
    fn write<S: Sink>(&self, layer: &mut LsmtWriter<S>, chunk: &Chunk, growth: u64) -> Result<()> {
        let sector = chunk.start / SECTOR;
        let (unit, kinds) = chunk.units(growth);
        let mut first = 0;
        while first < kinds.len() {
            let kind = kinds[first];
            let same = kinds[first..].iter().take_while(|&&next| next == kind);
            let next = first + same.count();
            // The last unit of a disk may be shorter than the others.
            let start = first * unit;
            let run = &chunk.image[start..chunk.image.len().min(next * unit)];
            let at = sector + start as u64 / SECTOR;
            match kind {
                Kind::Same => {}
                Kind::Zeroed => layer.zeroed(at, run.len() as u64 / SECTOR),
                Kind::Data => layer.data(at, run)?,
            }
            first = next;
        }
        if layer.records() > MAX_INDEX_RECORDS {
            let at = chunk.start;
            return Err(Error::unfit(
                self.source.path(),
                format!("is too scattered: more than {MAX_INDEX_RECORDS} records at byte {at}"),
            ));
        }
        Ok(())
    }
}

impl Chunk {
    fn read(
        source: &SourceReader<'_>,
        below: Option<&mut Below<'_>>,
        range: Range<u64>,
        mut image: Vec<u8>,
    ) -> Result<Self> {
        image.resize((range.end - range.start) as usize, 0);
        source.read(range.start, &mut image)?;
        let below = match below {
            Some(below) => below.read(range.start, image.len())?,
            None => None,
        };
        let kinds = kinds(&image, below.as_deref(), finest(below.is_some()));
        Ok(Self {
            start: range.start,
            image,
            below,
            kinds,
        })
    }

    /// Bytes of a unit that has `growth` finest ones, and what becomes of each.
    fn units(&self, growth: u64) -> (usize, Vec<Kind>) {
        let finest = finest(self.below.is_some());
        if growth == 1 {
            return (finest, self.kinds.clone());
        }
        let unit = (finest as u64 * growth).min(chunk_of(growth)) as usize;
        (unit, kinds(&self.image, self.below.as_deref(), unit))
    }
}

/// What becomes of each `unit` bytes of an image.
fn kinds(image: &[u8], below: Option<&[u8]>, unit: usize) -> Vec<Kind> {
    let kind = |start: usize| {
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
    (0..image.len()).step_by(unit).map(kind).collect()
}

/// The stack below the new layer.
struct Below<'a> {
    stack: &'a Stack,
    reader: Reader<'a>,
}

impl Below<'_> {
    /// Bytes below; [`None`] where no layer has any, which is zeroes.
    fn read(&mut self, at: u64, len: usize) -> Result<Option<Vec<u8>>> {
        if mapped_from(self.stack, at).is_none_or(|next| next >= at + len as u64) {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        self.reader.read_exact_at(at, &mut bytes)?;
        Ok(Some(bytes))
    }
}

/// The first byte at or after `at` that `stack` has a record for.
fn mapped_from(stack: &Stack, at: u64) -> Option<u64> {
    let segment = stack
        .index()
        .get(Index::from(stack.index()).find(at / SECTOR))?;
    Some(at.max(segment.offset() * SECTOR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::lsmt_writer::Identity;
    use std::fs;
    use vbd_format::lsmt::UUID_NONE;

    #[test]
    fn both_ways_through_an_image_write_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let mut image = vec![0u8; 3 * CHUNK as usize + 1024];
        for (at, byte) in image.iter_mut().enumerate() {
            if at / 5000 % 3 == 0 {
                *byte = (at / 7) as u8;
            }
        }
        fs::write(&path, &image).unwrap();
        let source = Source::open(&path).unwrap();
        let work = Work {
            source: &source,
            base: None,
            virtual_size: image.len() as u64,
        };
        let bytes = |jobs: Option<usize>| {
            let identity = Identity {
                virtual_size: work.virtual_size,
                uuid: None,
                parent_uuid: UUID_NONE,
                message: String::new(),
            };
            let mut layer = LsmtWriter::new(Vec::new(), identity).unwrap();
            match jobs {
                None => work.one_by_one(&mut layer, 0, &mut |_| {}).unwrap(),
                Some(jobs) => {
                    let end = work.side_by_side(&mut layer, jobs, &mut |_| {}).unwrap();
                    assert_eq!(end, work.virtual_size);
                }
            }
            layer.finish().unwrap().0
        };
        let serial = bytes(None);
        for jobs in [1, 2, 5] {
            assert!(bytes(Some(jobs)) == serial, "{jobs}");
        }
    }
}
