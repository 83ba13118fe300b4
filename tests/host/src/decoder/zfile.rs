// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! ZFiles, by `docs/format-zfile.md`.

use super::lz4::{self, Decoded, Head};
use super::{u32_at, u64_at};
use crate::crc::RawCrc;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use vbd_format::{Checksum as _, Error, Rule};

/// An opened ZFile.
#[derive(Clone, Debug)]
pub struct ZFile {
    payload: Vec<u8>,
    /// 1 = LZ4, 2 = ZSTD.
    pub algo: u8,
    /// Bytes in a block.
    pub block_size: u64,
    /// Bytes before compression.
    pub original_size: u64,
    /// Whether a checksum follows each block.
    pub block_crc: bool,
    /// Where each block that is needed is stored.
    pub stored: Vec<Range<usize>>,
    /// Whether the numbers come from the header.
    pub from_header: bool,
    decoded: RefCell<HashMap<u64, Rc<Block>>>,
}

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// These bytes.
    Exact(Vec<u8>),
    /// These bytes, or the errors.
    Perhaps(Vec<u8>, Vec<Error>),
    /// Any bytes, or the errors.
    Undefined(Vec<Error>),
    /// One of these errors, for whoever wants all of it.
    Bad(Vec<Error>, Head),
}

fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    RawCrc.crc32c(seed, bytes)
}

fn has_magic(structure: &[u8]) -> bool {
    &structure[..8] == b"ZFile\0\x01\0" && &structure[8..24] == b"tuji.yyf@Alibaba"
}

fn check_digest(structure: &[u8], at: u64) -> Result<(), Error> {
    let stated = u32_at(structure, 28);
    let mut copy = structure.to_vec();
    copy[28..32].fill(0);
    if u64_at(structure, 32) & 16 != 0 && crc32c(0, &copy) != stated {
        return Err(Error::new(Rule::ZFileDigest, at + 28, u64::from(stated)));
    }
    Ok(())
}

impl ZFile {
    /// Opens a payload; [`None`] if it is no ZFile.
    pub fn open(payload: &[u8]) -> Result<Option<Self>, Error> {
        let size = payload.len();
        if size < 512 {
            return Ok(None);
        }
        let header = &payload[..512];
        let flags = u64_at(header, 32);
        if !has_magic(header) || flags & 1 == 0 {
            return Ok(None);
        }
        check_digest(header, 0)?;
        if flags & 8 != 0 {
            return Self::load(payload, 0, size, true).map(Some);
        }
        if flags & 2 == 0 {
            return Err(Error::new(Rule::ZFileHeaderFlags, 32, flags));
        }
        if size < 1024 {
            return Err(Error::new(Rule::ZFileTooSmall, 0, size as u64));
        }
        let read = |at: usize, len: usize| Ok(payload[at..at + len].to_vec());
        let magic = b"ZFile\0\x01\0tuji.yyf@Alibaba";
        let Ok(at) = super::trailer(size, 512, magic, read) else {
            unreachable!("nothing is read that is not there")
        };
        let trailer = &payload[at..at + 512];
        if !has_magic(trailer) {
            return Err(Error::new(Rule::ZFileTrailerMagic, size as u64 - 512, 0));
        }
        let flags = u64_at(trailer, 32);
        if flags & 7 != 6 {
            return Err(Error::new(Rule::ZFileTrailerFlags, at as u64 + 32, flags));
        }
        check_digest(trailer, at as u64)?;
        Self::load(payload, at, at, false).map(Some)
    }

    /// Takes the numbers from the structure at byte `at`; the table ends at or before `limit`.
    fn load(payload: &[u8], at: usize, limit: usize, from_header: bool) -> Result<Self, Error> {
        let numbers = &payload[at..at + 512];
        let broken = |rule, field: u64, found| Err(Error::new(rule, at as u64 + field, found));
        let algo = numbers[76];
        if algo != 1 && algo != 2 {
            return broken(Rule::ZFileAlgorithm, 76, u64::from(algo));
        }
        let block_size = u32_at(numbers, 72);
        if ![512, 1024, 2048, 4096, 8192, 16384, 32768, 65536].contains(&block_size) {
            return broken(Rule::ZFileBlockSize, 72, u64::from(block_size));
        }
        let original_size = u64_at(numbers, 56);
        if original_size > 9_223_372_036_854_775_807 {
            return broken(Rule::ZFileSizeLimit, 56, original_size);
        }
        let entries = u64_at(numbers, 48);
        if entries > 1_000_000_000 {
            return broken(Rule::ZFileBlockLimit, 48, entries);
        }
        let first_block = 512 + u64::from(u32_at(numbers, 84));
        let table_at = u64_at(numbers, 40);
        if table_at < first_block || u128::from(table_at) + 4 * u128::from(entries) > limit as u128
        {
            return broken(Rule::ZFileTableBounds, 40, table_at);
        }
        let blocks = original_size.div_ceil(u64::from(block_size));
        if entries < blocks {
            return broken(Rule::ZFileBlockCount, 48, entries);
        }

        let block_crc = numbers[88] != 0;
        let crc_bytes = if block_crc { 4 } else { 0 };
        let longest = match algo {
            1 => block_size + block_size / 255 + 16,
            _ => block_size + block_size / 256 + 64,
        } + crc_bytes;
        let table = &payload[table_at as usize..][..entries as usize * 4];
        let mut stored = Vec::new();
        let mut place = first_block;
        for (number, entry) in table.chunks_exact(4).enumerate() {
            let entry_at = table_at + 4 * number as u64;
            let length = u32_at(entry, 0);
            if length <= crc_bytes || length > longest {
                let found = u64::from(length);
                return Err(Error::new(Rule::ZFileStoredLength, entry_at, found));
            }
            let end = place + u64::from(length);
            if end > table_at {
                return Err(Error::new(Rule::ZFileBlockBounds, entry_at, end));
            }
            if (number as u64) < blocks {
                stored.push(place as usize..end as usize);
            }
            place = end;
        }
        let sum = crc32c(0, table);
        if u64_at(numbers, 32) & 16 != 0 && sum != u32_at(numbers, 64) {
            return Err(Error::new(Rule::ZFileTableCrc, table_at, u64::from(sum)));
        }
        Ok(Self {
            payload: payload.to_vec(),
            algo,
            block_size: u64::from(block_size),
            original_size,
            block_crc,
            stored,
            from_header,
            decoded: RefCell::default(),
        })
    }

    /// What block `number` holds.
    pub fn block(&self, number: u64) -> Rc<Block> {
        let known = self.decoded.borrow().get(&number).cloned();
        known.unwrap_or_else(|| {
            let block = Rc::new(self.decode(number));
            self.decoded.borrow_mut().insert(number, block.clone());
            block
        })
    }

    fn decode(&self, number: u64) -> Block {
        let place = &self.stored[number as usize];
        let error = |rule| Error::new(rule, place.start as u64, number);
        let mut packed = &self.payload[place.clone()];
        if self.block_crc {
            let (bytes, sum) = packed.split_at(packed.len() - 4);
            if crc32c(100_007, bytes) != u32_at(sum, 0) {
                return Block::Bad(vec![error(Rule::ZFileBlockCrc)], Head::default());
            }
            packed = bytes;
        }
        // Whether a decoder stops at a fault or comes out short is its own affair.
        let bad = vec![error(Rule::ZFileBlockDecode), error(Rule::ZFileBlockLength)];
        let wanted = self
            .block_size
            .min(self.original_size - number * self.block_size) as usize;
        if self.algo == 2 {
            return match zstd::bulk::decompress(packed, wanted) {
                Ok(bytes) if bytes.len() == wanted => Block::Exact(bytes),
                _ => Block::Bad(bad, Head::default()),
            };
        }
        match lz4::decode(packed, wanted) {
            Decoded::Exact(bytes) => Block::Exact(bytes),
            Decoded::Loose(bytes) => Block::Perhaps(bytes, bad),
            Decoded::Undefined => Block::Undefined(bad),
            Decoded::Bad(head) => Block::Bad(bad, head),
        }
    }
}
