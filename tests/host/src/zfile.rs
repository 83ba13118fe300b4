// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! ZFiles, written by the numbers of `docs/format-zfile.md`.

use crate::codec::encode;
use crate::crc::RawCrc;
use crate::mem::Sparse;
use crate::{put, put_u32, put_u64};
use vbd_format::Checksum;

/// Everything that a ZFile is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    /// 1 = LZ4, 2 = ZSTD.
    pub algo: u8,
    /// Bytes of input in a block.
    pub block_size: u32,
    /// Value of the verify byte; not 0 puts a checksum after each block.
    pub verify: u8,
    /// Whether header, trailer and table carry checksums.
    pub digest: bool,
    /// Whether the header holds the final numbers.
    pub overwritten: bool,
    /// Bytes between header and first block.
    pub dict: Vec<u8>,
    /// Compressed blocks, without checksums.
    pub blocks: Vec<Vec<u8>>,
    /// Bytes before compression.
    pub original_size: u64,
    /// Bytes between the last block and the jump table.
    pub junk_before_table: Vec<u8>,
    /// Bytes between the jump table and the trailer.
    pub junk_after_table: Vec<u8>,
}

impl Spec {
    /// A file as upstream's tools write it, of `content`.
    pub fn of(content: &[u8], algo: u8, block_size: u32) -> Self {
        Self {
            algo,
            block_size,
            verify: 1,
            digest: true,
            overwritten: true,
            dict: Vec::new(),
            blocks: content
                .chunks(block_size as usize)
                .map(|block| encode(algo, block))
                .collect(),
            original_size: content.len() as u64,
            junk_before_table: Vec::new(),
            junk_after_table: Vec::new(),
        }
    }

    /// Byte at which the jump table begins.
    pub fn table_at(&self) -> u64 {
        let crc = if self.verify != 0 { 4 } else { 0 };
        let blocks: usize = self.blocks.iter().map(|b| b.len() + crc).sum();
        (512 + self.dict.len() + blocks + self.junk_before_table.len()) as u64
    }

    fn table(&self) -> Vec<u8> {
        let crc = if self.verify != 0 { 4 } else { 0 };
        self.blocks
            .iter()
            .flat_map(|b| (b.len() as u32 + crc).to_le_bytes())
            .collect()
    }

    /// Header or trailer of this file, digest included.
    pub fn structure(&self, flags: u64, with_numbers: bool) -> Vec<u8> {
        let mut bytes = vec![0u8; 512];
        put(&mut bytes, 0, *b"ZFile\0\x01\0");
        put(&mut bytes, 8, *b"tuji.yyf@Alibaba");
        put_u32(&mut bytes, 24, 96);
        put_u64(&mut bytes, 32, flags);
        if with_numbers {
            put_u64(&mut bytes, 40, self.table_at());
            put_u64(&mut bytes, 48, self.blocks.len() as u64);
            put_u64(&mut bytes, 56, self.original_size);
            if self.digest {
                put_u32(&mut bytes, 64, RawCrc.crc32c(0, &self.table()));
            }
        }
        put_u32(&mut bytes, 72, self.block_size);
        bytes[76] = self.algo;
        put_u32(&mut bytes, 84, self.dict.len() as u32);
        bytes[88] = self.verify;
        if self.digest {
            seal(&mut bytes, 0);
        }
        bytes
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let digest = if self.digest { 0x10 } else { 0 };
        let mut file = if self.overwritten {
            self.structure(0x0b | digest, true)
        } else {
            self.structure(0x03 | digest, false)
        };
        file.extend_from_slice(&self.dict);
        for block in &self.blocks {
            file.extend_from_slice(block);
            if self.verify != 0 {
                file.extend(RawCrc.crc32c(100_007, block).to_le_bytes());
            }
        }
        file.extend_from_slice(&self.junk_before_table);
        file.extend(self.table());
        file.extend_from_slice(&self.junk_after_table);
        file.extend(self.structure(0x06 | digest, true));
        file
    }
}

/// A compressed layer with as large a table as a file of its size can have: `layer` in blocks of
/// `block_size` bytes, without checksums, and before the block or blocks of its trailer so many more that
/// they are `blocks`, each of one byte that decodes to nothing.
pub fn mostly_table(layer: &[u8], block_size: u32, blocks: u64) -> Sparse {
    let block = block_size as usize;
    let (head, trailer) = layer.split_at(layer.len() - 4096);
    let mut first = head.to_vec();
    first.resize(head.len().next_multiple_of(block), 0);
    // The trailer ends the last block.
    let mut last = vec![0; 4096usize.next_multiple_of(block) - 4096];
    last.extend_from_slice(trailer);
    let mut spec = Spec::of(&[first, last.clone()].concat(), 1, block_size);
    (spec.verify, spec.digest) = (0, false);

    let ends = spec
        .blocks
        .split_off(spec.blocks.len() - last.len() / block);
    let filler = blocks - (spec.blocks.len() + ends.len()) as u64;
    let length = |block: &Vec<u8>| (block.len() as u32).to_le_bytes();
    let mut table: Vec<u8> = spec.blocks.iter().flat_map(length).collect();
    table.extend(1u32.to_le_bytes().repeat(filler as usize));
    table.extend(ends.iter().flat_map(length));

    let (first, ends) = (spec.blocks.concat(), ends.concat());
    let ends_at = 512 + first.len() as u64 + filler;
    let table_at = ends_at + ends.len() as u64;
    let trailer_at = table_at + table.len() as u64;
    let structure = |flags| {
        let mut bytes = spec.structure(flags, true);
        put_u64(&mut bytes, 40, table_at);
        put_u64(&mut bytes, 48, blocks);
        put_u64(&mut bytes, 56, blocks * u64::from(block_size));
        bytes
    };
    Sparse {
        size: trailer_at + 512,
        pieces: vec![
            (0, structure(0x0b)),
            (512, first),
            (ends_at, ends),
            (table_at, table),
            (trailer_at, structure(0x06)),
        ],
    }
}

/// Writes the right digest into the header or trailer at byte `at`.
pub fn seal(file: &mut [u8], at: usize) {
    put_u32(file, at + 28, 0);
    let digest = RawCrc.crc32c(0, &file[at..at + 512]);
    put_u32(file, at + 28, digest);
}
