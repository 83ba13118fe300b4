// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A disk to read from, whatever it is kept in: a stack of layers or a raw image.

use super::backing::Backing;
use super::config;
use super::source::{Source, SourceReader};
use super::stack::{Reader, Stack};
use crate::error::Result;
use std::ops::Range;
use std::path::Path;
use vbd_format::limits::SECTOR;
use vbd_format::lsmt::{self, Index, PieceKind, Pieces};
use vbd_format::{tar, zfile, ReadAt as _};

/// A stack or a raw image.
#[derive(Debug)]
pub enum Disk {
    /// A stack of layers.
    Stack(Stack),
    /// A raw image.
    Raw(Source),
}

impl Disk {
    /// Opens what stands for a disk on a command line: layers separated by commas, bottom first; a
    /// configuration; or a raw image, which is a single file that is no layer.
    pub fn open(argument: &Path) -> Result<Self> {
        let files = Stack::split(argument);
        if let [file] = files.as_slice() {
            if !config::is_config(file)? && !is_layer(file)? {
                return Ok(Self::Raw(Source::open(file)?));
            }
        }
        Ok(Self::Stack(Stack::open_arguments(&files)?))
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        match self {
            Self::Stack(stack) => stack.virtual_size(),
            Self::Raw(source) => source.size(),
        }
    }

    /// The first range of bytes at or after `at` that may hold something else than zeroes.
    pub fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        let stack = match self {
            Self::Raw(source) => return source.next_data(at),
            Self::Stack(stack) => stack,
        };
        let end = stack.virtual_size();
        let mut range: Option<Range<u64>> = None;
        // What lies between is no data, however long: the index tells where to go on.
        let mut from = at;
        while from < end {
            let Some(segment) = stack
                .index()
                .get(Index::from(stack.index()).find(from / SECTOR))
            else {
                break;
            };
            let start = from.max(segment.offset() * SECTOR);
            if segment.zeroed() || start >= end {
                if range.is_some() {
                    break;
                }
            } else {
                match &mut range {
                    Some(range) if range.end == start => {
                        range.end = end.min(segment.end() * SECTOR)
                    }
                    Some(_) => break,
                    None => range = Some(start..end.min(segment.end() * SECTOR)),
                }
                // Long enough to work on.
                if range.as_ref().is_some_and(|r| r.end - r.start > 64 << 20) {
                    break;
                }
            }
            from = segment.end() * SECTOR;
        }
        Ok(range)
    }

    /// A reader; each thread needs its own.
    pub fn reader(&self) -> DiskReader<'_> {
        match self {
            Self::Stack(stack) => DiskReader::Stack(Box::new(stack.reader())),
            Self::Raw(source) => DiskReader::Raw(source.reader()),
        }
    }

    /// Parts of `start..end`, each from one place, for those who compare places.
    pub(super) fn pieces(&self, start: u64, end: u64) -> Option<Pieces<'_>> {
        match self {
            Self::Stack(stack) => Some(Pieces::new(
                stack.index().into(),
                start,
                end,
                stack.virtual_size(),
            )),
            Self::Raw(_) => None,
        }
    }

    /// Which file stores a piece, and where in the layer it does: equal answers mean equal bytes.
    pub(super) fn place(&self, kind: PieceKind) -> Option<Place> {
        match (self, kind) {
            (_, PieceKind::Hole | PieceKind::Zeroed) => Some(Place::Zeroes),
            (Self::Stack(stack), PieceKind::Data { layer, offset }) => {
                let (device, inode) = stack.layers()[usize::from(layer)].identity()?;
                Some(Place::Stored(device, inode, offset))
            }
            (Self::Raw(_), _) => None,
        }
    }
}

/// Where bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From nowhere.
    Zeroes,
    /// Device and inode of the file, and byte of the layer.
    Stored(u64, u64, u64),
}

/// Reads a [`Disk`].
pub enum DiskReader<'a> {
    /// A stack.
    Stack(Box<Reader<'a>>),
    /// A raw image.
    Raw(SourceReader<'a>),
}

impl DiskReader<'_> {
    /// Fills `buf` from byte `offset`; zeroes past the end.
    pub fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self {
            Self::Stack(reader) => reader.read_exact_at(offset, buf),
            Self::Raw(source) => source.read(offset, buf),
        }
    }
}

/// Whether `path` begins as a layer does, wrapped or not.
pub fn is_layer(path: &Path) -> Result<bool> {
    let backing = Backing::open(path)?;
    let Ok((_, payload)) = tar::unwrap(&backing) else {
        // A tar archive that contradicts itself was meant to be one.
        return Ok(true);
    };
    let mut start = [0; 24];
    if payload.size() < start.len() as u64 {
        return Ok(false);
    }
    payload
        .read_exact_at(0, &mut start)
        .map_err(|error| error.of(path))?;
    let is = |magic0: &[u8], magic1: &[u8]| start[..8] == *magic0 && start[8..] == *magic1;
    Ok(is(&zfile::MAGIC0, &zfile::MAGIC1) || is(&lsmt::MAGIC0, &lsmt::MAGIC1))
}
