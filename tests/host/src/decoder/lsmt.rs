// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers and stacks, by `docs/format-lsmt.md`.

use super::zfile::{Block, ZFile};
use super::{tar, u32_at, u64_at, Stop};
use crate::lsmt::Record;
use vbd_format::{Error, Rule};

/// The LSMT bytes of a layer.
#[derive(Debug)]
enum Bytes {
    Plain(Vec<u8>),
    Packed(ZFile),
}

/// An opened layer.
#[derive(Debug)]
pub struct Layer {
    bytes: Bytes,
    /// Bytes of the disk, 0 = not stated.
    pub virtual_size: u64,
    /// Records, without padding and empty ones.
    pub records: Vec<Record>,
}

/// An opened stack.
#[derive(Debug)]
pub struct Stack {
    /// Layers, bottom first.
    pub layers: Vec<Layer>,
    /// Bytes of the disk.
    pub virtual_size: u64,
    /// Errors for which a reader may have refused it all the same.
    pub doubts: Vec<Error>,
}

/// What a sector of the disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sector {
    /// These bytes.
    Exact(Vec<u8>),
    /// These bytes, or an error.
    Perhaps(Vec<u8>),
    /// Any bytes, or an error.
    Undefined,
    /// Of a block that cannot be decoded to its end, for a reader of a small part of it that decodes no
    /// further; an error for all others.
    Head {
        /// The sector's bytes; without them, any bytes.
        bytes: Option<Vec<u8>>,
        /// The block's number in its layer.
        block: u64,
        /// Sectors of a small part: a quarter of the block.
        most: u64,
    },
    /// An error.
    Bad,
}

const MAGIC: [u8; 24] = [
    0x4c, 0x53, 0x4d, 0x54, 0x00, 0x01, 0x02, 0x00, 0x65, 0x7e, 0x63, 0xd2, 0x94, 0x44, 0x08, 0x4c,
    0xa2, 0xd2, 0xc8, 0xec, 0x4f, 0xcf, 0xae, 0x8a,
];

/// The sector that marks padding.
const PADDING: u64 = (1 << 50) - 1;

/// The uuid of nothing.
const NONE: [u8; 36] = *b"00000000-0000-0000-0000-000000000000";

/// Whether a field is a uuid and a NUL.
fn is_uuid(field: &[u8]) -> bool {
    let (text, nul) = field.split_at(36);
    let groups: Vec<&[u8]> = text.split(|&byte| byte == b'-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    nul == [0] && lengths == [8, 4, 4, 4, 12] && groups.concat().iter().all(u8::is_ascii_hexdigit)
}

/// Splits a record into its fields.
pub fn record(bytes: &[u8]) -> Record {
    let (place, source) = (u64_at(bytes, 0), u64_at(bytes, 8));
    Record {
        offset: place % (1 << 50),
        len: place >> 50,
        moffset: source % (1 << 55),
        zeroed: source >> 55 & 1 == 1,
        tag: (source >> 56) as u8,
    }
}

/// Whether a record is padding.
pub(super) fn is_padding(record: &Record) -> bool {
    record.offset == PADDING
}

/// The first four bytes of a structure without magic, as errors show them.
pub(super) fn word(structure: &[u8]) -> u64 {
    u64::from(u32_at(structure, 0))
}

/// Whether a structure begins with both magics.
pub(super) fn has_magic(structure: &[u8]) -> bool {
    structure[..24] == MAGIC
}

impl Bytes {
    fn size(&self) -> u64 {
        match self {
            Self::Plain(bytes) => bytes.len() as u64,
            Self::Packed(zfile) => zfile.original_size,
        }
    }

    /// Reads metadata.
    fn read(&self, at: u64, len: usize, doubts: &mut Vec<Error>) -> Result<Vec<u8>, Stop> {
        let zfile = match self {
            Self::Plain(bytes) => return Ok(bytes[at as usize..][..len].to_vec()),
            Self::Packed(zfile) => zfile,
        };
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            let place = at + out.len() as u64;
            let block = zfile.block(place / zfile.block_size);
            let bytes = match &*block {
                Block::Exact(bytes) => bytes,
                Block::Perhaps(bytes, errors) => {
                    doubts.extend(errors);
                    bytes
                }
                Block::Undefined(_) => return Err(Stop::Undefined),
                Block::Bad(errors, _) => return Err(Stop::Refused(errors.clone())),
            };
            let part = &bytes[(place % zfile.block_size) as usize..];
            out.extend_from_slice(&part[..part.len().min(len - out.len())]);
        }
        Ok(out)
    }

    /// What the sector's length of bytes from `at` holds.
    fn sector(&self, at: u64) -> Sector {
        let zfile = match self {
            Self::Plain(bytes) => return Sector::Exact(bytes[at as usize..][..512].to_vec()),
            Self::Packed(zfile) => zfile,
        };
        // Blocks are whole sectors, so that a sector lies in one block.
        let skip = (at % zfile.block_size) as usize;
        let cut = |bytes: &[u8]| bytes[skip..][..512].to_vec();
        match &*zfile.block(at / zfile.block_size) {
            Block::Exact(bytes) => Sector::Exact(cut(bytes)),
            Block::Perhaps(bytes, _) => Sector::Perhaps(cut(bytes)),
            Block::Undefined(_) => Sector::Undefined,
            Block::Bad(_, head) if head.open || head.bytes.len() >= skip + 512 => Sector::Head {
                bytes: (head.bytes.len() >= skip + 512).then(|| cut(&head.bytes)),
                block: at / zfile.block_size,
                most: zfile.block_size / 4 / 512,
            },
            Block::Bad(_, _) => Sector::Bad,
        }
    }
}

impl Layer {
    /// Opens a layer file.
    pub(super) fn open(file: &[u8], chunk: usize, doubts: &mut Vec<Error>) -> Result<Self, Stop> {
        let payload = &file[tar::payload(file)?];
        let bytes = match ZFile::open(payload)? {
            Some(zfile) => Bytes::Packed(zfile),
            None => Bytes::Plain(payload.to_vec()),
        };
        let size = bytes.size();
        if size < 8192 {
            return Err(Error::new(Rule::LsmtTooSmall, 0, size).into());
        }
        let header = bytes.read(0, 390, doubts)?;
        if !has_magic(&header) {
            return Err(Error::new(Rule::LsmtHeaderMagic, 0, word(&header)).into());
        }
        let flags = u32_at(&header, 28);
        if flags & 3 != 3 {
            return Err(Error::new(Rule::LsmtHeaderFlags, 28, u64::from(flags)).into());
        }
        let trailer_at = super::trailer(size as usize, 4096, &MAGIC, |at, len| {
            bytes.read(at as u64, len, doubts)
        })? as u64;
        let trailer = bytes.read(trailer_at, 390, doubts)?;
        let broken = |rule, field, found| Err(Error::new(rule, trailer_at + field, found).into());
        if !has_magic(&trailer) {
            return broken(Rule::LsmtTrailerMagic, 0, word(&trailer));
        }
        let flags = u32_at(&trailer, 28);
        if flags & 7 != 6 {
            return broken(Rule::LsmtTrailerFlags, 28, u64::from(flags));
        }
        let (named, name) = (&header[56..93], &trailer[56..93]);
        if is_uuid(named) && is_uuid(name) && named[..36] != NONE && named != name {
            return broken(Rule::LsmtTrailerUuid, 56, word(name));
        }
        let index_size = u64_at(&trailer, 40);
        if index_size > 1_000_000 {
            return broken(Rule::LsmtIndexLimit, 40, index_size);
        }
        let index_at = u64_at(&trailer, 32);
        let index_end = u128::from(index_at) + 16 * u128::from(index_size);
        if index_size != 0 && index_end > u128::from(trailer_at) {
            return broken(Rule::LsmtIndexBounds, 32, index_at);
        }
        let virtual_size = u64_at(&trailer, 48);
        if virtual_size > 1 << 59 {
            return broken(Rule::LsmtSizeLimit, 48, virtual_size);
        }
        let mut records = Vec::new();
        let mut previous = 0;
        let per_chunk = (chunk / 16) as u64;
        for first in (0..index_size).step_by(per_chunk as usize) {
            let count = per_chunk.min(index_size - first);
            let at = index_at + first * 16;
            let index = bytes.read(at, count as usize * 16, doubts)?;
            for (number, raw) in index.chunks_exact(16).enumerate() {
                let record = record(raw);
                if is_padding(&record) {
                    continue;
                }
                check(&record, previous, index_at, at + 16 * number as u64)?;
                previous = record.end();
                if record.len != 0 {
                    records.push(record);
                }
            }
        }
        Ok(Self {
            bytes,
            virtual_size,
            records,
        })
    }

    /// The record for a sector.
    fn covers(&self, sector: u64) -> Option<&Record> {
        let mut covering = self.records.iter();
        covering.find(|r| r.offset <= sector && sector < r.end())
    }
}

/// Order and range of the record at byte `at`.
fn check(record: &Record, previous: u64, index_at: u64, at: u64) -> Result<(), Error> {
    if record.offset < previous {
        return Err(Error::new(Rule::LsmtOrder, at, record.offset));
    }
    let limit = index_at / 512;
    let (start, end) = (record.moffset, record.moffset + record.len);
    let good = match record.zeroed {
        true => (8..=limit).contains(&start),
        false => (8..limit).contains(&start) && end > 8 && end <= limit,
    };
    match good {
        true => Ok(()),
        false => Err(Error::new(Rule::LsmtRange, at, start)),
    }
}

impl Stack {
    /// What a sector of the disk is; past its end there are zeroes.
    pub fn sector(&self, sector: u64) -> Sector {
        let inside = u128::from(self.virtual_size).saturating_sub(u128::from(sector) * 512);
        let inside = inside.min(512) as usize;
        let top = self.layers.iter().rev();
        let found = top
            .filter_map(|layer| Some((layer, layer.covers(sector)?)))
            .next();
        let mut sector = match found {
            Some((layer, record)) if inside != 0 && !record.zeroed => {
                let stored = record.moffset + (sector - record.offset);
                layer.bytes.sector(stored * 512)
            }
            _ => Sector::Exact(vec![0; 512]),
        };
        // A size may end inside a sector.
        if let Sector::Exact(bytes)
        | Sector::Perhaps(bytes)
        | Sector::Head {
            bytes: Some(bytes), ..
        } = &mut sector
        {
            bytes[inside..].fill(0);
        }
        sector
    }

    /// Sectors that are worth a look: the ends of the disk and of each record.
    pub fn edges(&self) -> Vec<u64> {
        let last = self.virtual_size.div_ceil(512);
        let mut edges = vec![0, last.saturating_sub(1)];
        for record in self.layers.iter().flat_map(|layer| &layer.records) {
            edges.extend([record.offset.saturating_sub(1), record.offset]);
            edges.extend([record.end() - 1, record.end()]);
        }
        edges.retain(|&sector| sector < last);
        edges.sort_unstable();
        edges.dedup();
        edges
    }
}
