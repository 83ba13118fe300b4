// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Where the blocks of a ZFile are: a jump table in memory, or, if it is long, the places of every
//! [`PIECE`]th block, with the pieces between read from the file again when they are needed.

use super::backing::Backing;
use super::codec::Crc;
use crate::error::ReadError;
use vbd_format::zfile::{self, Group, JumpTable, ZFile, GROUP_BLOCKS};
use vbd_format::{Error, Rule, Window};

/// Blocks in a piece.
const PIECE: u64 = 8192;

/// Blocks of a table that is kept whole: 0.6 MiB of memory, for each layer of a stack.
const MOST_HELD: u64 = 256 * 1024;

/// Bytes of a table that are read at a time.
const CHUNK: usize = 64 * 1024;

/// The checked jump table of a ZFile.
#[derive(Debug)]
pub(super) struct Jump {
    /// All of the table, unless it is too long.
    groups: Vec<Group>,
    /// Where the first block of each piece is stored.
    marks: Vec<u64>,
    whole: bool,
}

/// A piece that was read again, of one layer.
pub(super) struct Piece {
    layer: usize,
    first: u64,
    groups: Vec<Group>,
    zfile: ZFile,
}

impl Jump {
    /// Reads and checks the table of `zfile`.
    pub(super) fn load(payload: &Window<Backing>, zfile: &ZFile) -> Result<Self, ReadError> {
        Self::load_within(payload, zfile, MOST_HELD)
    }

    /// As [`Self::load`], holding tables of up to `most` blocks.
    fn load_within(payload: &Window<Backing>, zfile: &ZFile, most: u64) -> Result<Self, ReadError> {
        let mut jump = Self {
            groups: Vec::new(),
            marks: Vec::new(),
            whole: zfile.blocks() <= most,
        };
        let mut number = 0;
        let mut buf = vec![0; CHUNK];
        zfile::load_jump_table(payload, zfile, &Crc, &mut buf, |count, fill| {
            let begin = jump.groups.len();
            jump.groups.resize(begin + count, Group::default());
            fill(&mut jump.groups[begin..])?;
            if !jump.whole {
                for group in jump.groups.drain(..) {
                    if number % (PIECE / GROUP_BLOCKS) == 0 {
                        let first = JumpTable::new(zfile, &[group]).stored(0);
                        jump.marks.extend(first.map(|stored| stored.offset));
                    }
                    number += 1;
                }
            }
            Ok(())
        })?;
        Ok(jump)
    }

    /// The part of the table that holds block `block`, and the number of its first block.
    ///
    /// `kept` holds the piece used last; `layer` tells those apart that share it.
    pub(super) fn around<'a>(
        &'a self,
        payload: &Window<Backing>,
        zfile: &ZFile,
        kept: &'a mut Option<Piece>,
        layer: usize,
        block: u64,
    ) -> Result<(JumpTable<'a>, u64), ReadError> {
        let first = block - block % PIECE;
        if self.whole {
            return Ok((JumpTable::new(zfile, &self.groups), 0));
        }
        let held = kept
            .take()
            .filter(|piece| piece.layer == layer && piece.first == first);
        let piece = match held {
            Some(piece) => piece,
            None => self.load_piece(payload, zfile, layer, first)?,
        };
        let piece = kept.insert(piece);
        Ok((JumpTable::new(&piece.zfile, &piece.groups), first))
    }

    /// Reads the piece from block `first` on as if it were the table of a ZFile of its own.
    fn load_piece(
        &self,
        payload: &Window<Backing>,
        zfile: &ZFile,
        layer: usize,
        first: u64,
    ) -> Result<Piece, ReadError> {
        let count = PIECE.min(zfile.blocks().saturating_sub(first));
        let mark = self.marks.get((first / PIECE) as usize).copied();
        let bounds = Error::new(Rule::ZFileReadBounds, first, count);
        let part = ZFile {
            original_size: count * u64::from(zfile.block_size),
            blocks_offset: mark.ok_or(bounds)?,
            index_offset: zfile.index_offset + first * 4,
            entries: count,
            // It is of the whole, and was compared when the layer was opened.
            index_crc: None,
            ..*zfile
        };
        let mut groups = Vec::new();
        let mut buf = vec![0; CHUNK];
        zfile::load_jump_table(payload, &part, &Crc, &mut buf, |count, fill| {
            let begin = groups.len();
            groups.resize(begin + count, Group::default());
            fill(&mut groups[begin..])
        })?;
        Ok(Piece {
            layer,
            first,
            groups,
            zfile: part,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::output::{Output, Sink as _};
    use crate::image::zfile_writer::{Compression, ZFileWriter};
    use vbd_format::zfile::Algorithm;
    use vbd_format::ReadAt as _;

    #[test]
    fn a_table_in_pieces_says_the_same_as_a_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zfile");
        let compression = Compression {
            block_size: 512,
            ..Compression::new(Algorithm::Lz4)
        };
        let out = Output::create(&path, false).unwrap();
        let mut writer = ZFileWriter::new(out, compression).unwrap();
        let blocks = 3 * PIECE + 77;
        for block in 0..blocks {
            // Blocks of many stored lengths.
            let mut bytes = [0; 512];
            for (at, byte) in bytes.iter_mut().enumerate().take(block as usize % 500) {
                *byte = (at * at + block as usize) as u8;
            }
            writer.write(&bytes).unwrap();
        }
        writer.finish().unwrap().commit().unwrap();

        let backing = Backing::open(&path).unwrap();
        let size = backing.size();
        let payload = Window::new(backing, 0, size).unwrap();
        let zfile = zfile::probe(&payload, &Crc).unwrap().unwrap();
        let whole = Jump::load(&payload, &zfile).unwrap();
        assert!(whole.whole);
        let pieces = Jump::load_within(&payload, &zfile, PIECE).unwrap();
        assert!(pieces.groups.is_empty() && pieces.marks.len() == 4);
        let mut kept = None;
        let mut place = |jump: &Jump, block| {
            let around = jump.around(&payload, &zfile, &mut kept, 0, block);
            let (table, base) = around.unwrap();
            table.stored(block - base)
        };
        for block in (0..blocks).chain((0..blocks).rev().step_by(1000)) {
            let stored = place(&pieces, block);
            assert!(
                stored.is_some() && stored == place(&whole, block),
                "{block}"
            );
        }
        assert_eq!(place(&pieces, blocks), None);
    }
}
