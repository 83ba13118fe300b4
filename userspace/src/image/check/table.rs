// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Where the blocks of a ZFile lie, as far as its jump table tells, in little memory.

use super::findings::{Extra, Findings};
use crate::error::ReadError;
use crate::image::backing::Backing;
use crate::image::codec::{Crc, Decoders};
use std::cell::RefCell;
use vbd_format::checksum::SEED_METADATA;
use vbd_format::zfile::{self, Stored, ZFile};
use vbd_format::{Checksum as _, Error, ReadAt, Rule, Window};

const ENTRY: u64 = 4;

/// Blocks between two marks.
const SPACING: u64 = 4096;

/// Blocks, and where they are stored.
pub(super) type Places = Vec<(u64, Stored)>;

/// The bytes of a layer: its payload, and where the blocks are if it is compressed.
pub(super) struct Located<'a> {
    pub(super) payload: &'a Window<Backing>,
    pub(super) zfile: Option<ZFile>,
    /// Where every [`SPACING`]th block begins.
    marks: Vec<u64>,
    /// The first and the last entry that cannot be: blocks after the first lie nobody knows where,
    /// and those after the last are found from the end.
    damaged: Option<(u64, u64)>,
    /// Where the block after the last damaged entry begins.
    resumed: u64,
    kept: RefCell<Kept>,
}

/// Memory of reads of metadata.
#[derive(Default)]
struct Kept {
    decoders: Decoders,
    /// A piece of the table, by the number of its mark.
    piece: Option<(u64, Vec<u32>)>,
}

impl<'a> Located<'a> {
    pub(super) fn plain(payload: &'a Window<Backing>) -> Self {
        Self {
            payload,
            zfile: None,
            marks: Vec::new(),
            damaged: None,
            resumed: 0,
            kept: RefCell::default(),
        }
    }

    /// Reads and verifies the jump table.
    pub(super) fn load(
        payload: &'a Window<Backing>,
        zfile: ZFile,
        findings: &mut Findings<'_>,
    ) -> Result<Self, ReadError> {
        let mut located = Self {
            zfile: Some(zfile),
            ..Self::plain(payload)
        };
        let blocks = zfile.blocks();
        let mut sum = SEED_METADATA;
        let mut position = zfile.blocks_offset;
        let mut outside = false;
        let mut next = 0;
        while next < zfile.entries {
            let piece = located.entries(next, SPACING.min(zfile.entries - next))?;
            for length in &piece {
                sum = Crc.crc32c(sum, &length.to_le_bytes());
                let at = zfile.index_offset + next * ENTRY;
                if next % SPACING == 0 && next < blocks {
                    located.marks.push(position);
                }
                if let Err(error) = zfile::check_length(&zfile, *length, at) {
                    findings.rule(error);
                    let (first, _) = located.damaged.unwrap_or((next, next));
                    located.damaged = Some((first, next));
                }
                // At most 10^9 entries of 32 bits.
                position += u64::from(*length);
                if position > zfile.index_offset && !outside && located.damaged.is_none() {
                    outside = true;
                    findings.rule(Error::new(Rule::ZFileBlockBounds, at, position));
                }
                next += 1;
            }
        }
        if zfile.index_crc.is_some_and(|expected| expected != sum) {
            let at = zfile.index_offset;
            findings.rule(Error::new(Rule::ZFileTableCrc, at, u64::from(sum)));
        }
        if located.damaged.is_some() {
            located.mark_from_the_end()?;
        } else if position < zfile.index_offset {
            let unused = zfile.index_offset - position;
            findings.extra(Extra::UnusedBytes, "zfile", position, unused.to_string());
        }
        if zfile.entries > blocks {
            let at = zfile.index_offset + blocks * ENTRY;
            let more = zfile.entries - blocks;
            findings.extra(Extra::UnusedEntries, "zfile", at, more.to_string());
        }
        Ok(located)
    }

    /// `count` entries of the table from `first`.
    pub(super) fn entries(&self, first: u64, count: u64) -> Result<Vec<u32>, ReadError> {
        let Some(zfile) = &self.zfile else {
            return Ok(Vec::new());
        };
        let mut bytes = vec![0; (count * ENTRY) as usize];
        self.payload
            .read_exact_at(zfile.index_offset + first * ENTRY, &mut bytes)?;
        Ok(bytes
            .chunks_exact(4)
            .map(|raw| u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]))
            .collect())
    }

    /// Corrects the marks behind the last damaged entry: writers put the table right after the last
    /// block, so sums from there lead back to it.
    fn mark_from_the_end(&mut self) -> Result<(), ReadError> {
        let (Some(zfile), Some((_, last))) = (self.zfile, self.damaged) else {
            return Ok(());
        };
        let mut position = zfile.index_offset;
        let mut mark = (zfile.entries - 1) / SPACING;
        loop {
            let first = mark * SPACING;
            let piece = self.entries(first, SPACING.min(zfile.entries - first))?;
            for (at, length) in piece.iter().enumerate().rev() {
                if first + at as u64 <= last {
                    self.resumed = position;
                    return Ok(());
                }
                position = position.saturating_sub(u64::from(*length));
            }
            if let Some(mark) = self.marks.get_mut(mark as usize) {
                *mark = position;
            }
            let Some(before) = mark.checked_sub(1) else {
                return Ok(());
            };
            mark = before;
        }
    }

    /// Whether the place of block `block` is known.
    fn is_located(&self, block: u64) -> bool {
        self.damaged
            .is_none_or(|(first, last)| block < first || last < block)
    }

    /// Places of blocks `first..first + count`, which have one mark; those that are not known, and
    /// those that cannot be, are left out.
    pub(super) fn places(&self, first: u64, lengths: &[u32]) -> Places {
        let (Some(zfile), Some(&mark)) = (&self.zfile, self.marks.get((first / SPACING) as usize))
        else {
            return Vec::new();
        };
        let mut offset = mark;
        let mut places = Vec::with_capacity(lengths.len());
        for (at, &length) in lengths.iter().enumerate() {
            let block = first + at as u64;
            if self.damaged.is_some_and(|(_, last)| block == last + 1) {
                offset = self.resumed;
            }
            let end = offset.wrapping_add(u64::from(length));
            let inside = offset >= zfile.blocks_offset && offset < end && end <= zfile.index_offset;
            if block < zfile.blocks() && self.is_located(block) && inside {
                let len = length as usize;
                places.push((block, Stored { offset, len }));
            }
            offset = end;
        }
        places
    }

    /// Pieces of the table: the first block of each, and its places.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Result<Places, ReadError>> + '_ {
        let blocks = self.zfile.as_ref().map_or(0, ZFile::blocks);
        (0..blocks).step_by(SPACING as usize).map(move |first| {
            let lengths = self.entries(first, SPACING.min(blocks - first))?;
            Ok(self.places(first, &lengths))
        })
    }

    fn load_block(&self, zfile: &ZFile, block: u64, dst: &mut [u8]) -> Result<(), ReadError> {
        let mut kept = self.kept.borrow_mut();
        let mark = block / SPACING;
        if kept.piece.as_ref().is_none_or(|(held, _)| *held != mark) {
            let first = mark * SPACING;
            let count = SPACING.min(zfile.entries - first);
            kept.piece = Some((mark, self.entries(first, count)?));
        }
        let lengths = kept.piece.as_ref().map_or(&[][..], |(_, piece)| piece);
        let place = self
            .places(mark * SPACING, lengths)
            .into_iter()
            .find(|(number, _)| *number == block);
        let Some((_, stored)) = place else {
            return Err(Error::new(Rule::ZFileBlockBounds, zfile.index_offset, block).into());
        };
        let mut packed = vec![0; stored.len];
        self.payload.read_exact_at(stored.offset, &mut packed)?;
        zfile::unpack(zfile, &Crc, &mut kept.decoders, true, &packed, dst)
            .map_err(|rule| Error::new(rule, stored.offset, block).into())
    }
}

/// The bytes of the layer proper.
impl ReadAt for Located<'_> {
    type Error = ReadError;

    fn size(&self) -> u64 {
        match &self.zfile {
            Some(zfile) => zfile.original_size,
            None => self.payload.size(),
        }
    }

    fn is_exact(&self) -> bool {
        self.zfile.is_some() || self.payload.is_exact()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let Some(zfile) = &self.zfile else {
            return self.payload.read_exact_at(offset, buf);
        };
        let mut bounce = vec![0; zfile.block_size as usize];
        zfile::read_blocks(zfile, offset, buf, &mut bounce, |block, dst| {
            self.load_block(zfile, block, dst)
        })
    }
}
