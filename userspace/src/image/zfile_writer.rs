// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Writes a ZFile as its input arrives.

use super::codec::{Crc, ZSTD_LEVEL};
use super::output::{open_unnamed, Output, Sink};
use super::pool::{BlockFormat, Packed, Pool, BATCH};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use vbd_format::checksum::SEED_METADATA;
use vbd_format::limits;
use vbd_format::zfile::{
    Algorithm, Header, FLAG_DATA_FILE, FLAG_DIGEST, FLAG_HEADER, FLAG_OVERWRITTEN, FLAG_SEALED,
    HEADER_BYTES, MAGIC0, MAGIC1,
};
use vbd_format::Checksum as _;
use zerocopy::{FromZeros as _, IntoBytes as _};

/// The value of the header's size field.
const STRUCTURE_BYTES: u32 = 96;

/// Bytes of jump table kept in memory; a longer one goes to an unnamed file.
const TABLE_MEMORY: usize = 16 << 20;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug)]
pub struct Compression {
    /// Codec.
    pub algorithm: Algorithm,
    /// ZSTD's level; LZ4 has none.
    pub level: i32,
    /// Bytes of input in a block: a power of two from 512 to 65536.
    pub block_size: u32,
    /// Whether a checksum follows each block.
    pub block_crc: bool,
    /// Whether the numbers stand in the trailer only, as a writer leaves it that cannot go back.
    pub trailer_only: bool,
    /// Compressing threads.
    pub jobs: usize,
}

impl Compression {
    /// What upstream's tools do by default: blocks of 4096 bytes with checksums.
    pub fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            level: ZSTD_LEVEL,
            block_size: 4096,
            block_crc: true,
            trailer_only: false,
            jobs: 1,
        }
    }
}

/// A ZFile that is being written to the rest of an [`Output`].
pub struct ZFileWriter {
    out: Output,
    compression: Compression,
    /// Byte of the output at which the ZFile begins.
    start: u64,
    pool: Pool,
    batch: Vec<u8>,
    /// Memory of results that have been written.
    spare: Vec<Packed>,
    table: Table,
    original_size: u64,
}

impl ZFileWriter {
    /// Begins a ZFile at the end of `out`.
    pub fn new(mut out: Output, compression: Compression) -> Result<Self> {
        let format = BlockFormat {
            algorithm: compression.algorithm,
            level: compression.level,
            block_size: compression.block_size,
            block_crc: compression.block_crc,
        };
        let pool = Pool::new(format, compression.jobs)
            .map_err(Error::io(out.path(), "cannot start to compress"))?;
        let start = out.position();
        let mut header = structure(&compression);
        header.flags.set(FLAG_HEADER | FLAG_DATA_FILE | FLAG_DIGEST);
        seal(&mut header);
        out.write(header.as_bytes())?;
        Ok(Self {
            table: Table::new(out.path()),
            out,
            compression,
            start,
            pool,
            batch: Vec::with_capacity(BATCH),
            spare: Vec::new(),
            original_size: 0,
        })
    }

    fn submit(&mut self) -> Result<()> {
        while self.pool.is_full() {
            self.drain()?;
        }
        let mut packed = self.spare.pop().unwrap_or_default();
        let mut next = std::mem::take(&mut packed.spent);
        next.reserve_exact(BATCH);
        let batch = std::mem::replace(&mut self.batch, next);
        self.pool
            .send(batch, packed)
            .map_err(Error::io(self.out.path(), "cannot compress"))
    }

    /// Writes the oldest result; says whether there was one.
    fn drain(&mut self) -> Result<bool> {
        let received = self.pool.receive();
        let Some(packed) = received.map_err(Error::io(self.out.path(), "cannot compress"))? else {
            return Ok(false);
        };
        self.out.write(packed.bytes())?;
        self.table.extend(&packed.lengths)?;
        self.spare.push(packed);
        Ok(true)
    }

    /// Writes the jump table and the trailer, and the header again unless it is to stay empty.
    pub fn finish(mut self) -> Result<Output> {
        if !self.batch.is_empty() {
            self.submit()?;
        }
        while self.drain()? {}

        if self.table.entries > limits::MAX_BLOCKS {
            return Err(Error::unfit(
                self.out.path(),
                format!(
                    "would have {} blocks, more than {}; use larger blocks",
                    self.table.entries,
                    limits::MAX_BLOCKS
                ),
            ));
        }
        let mut header = structure(&self.compression);
        header.index_offset.set(self.out.position() - self.start);
        header.index_size.set(self.table.entries);
        header.original_file_size.set(self.original_size);
        header.index_crc.set(self.table.crc);
        self.table.copy_to(&mut self.out)?;

        header.flags.set(FLAG_DATA_FILE | FLAG_SEALED | FLAG_DIGEST);
        seal(&mut header);
        self.out.write(header.as_bytes())?;
        if !self.compression.trailer_only {
            header
                .flags
                .set(FLAG_HEADER | FLAG_DATA_FILE | FLAG_OVERWRITTEN | FLAG_DIGEST);
            seal(&mut header);
            self.out.overwrite(self.start, header.as_bytes())?;
        }
        Ok(self.out)
    }
}

impl Sink for ZFileWriter {
    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.original_size += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BATCH - self.batch.len()));
            self.batch.extend_from_slice(now);
            bytes = later;
            if self.batch.len() == BATCH {
                self.submit()?;
            }
        }
        Ok(())
    }

    fn position(&self) -> u64 {
        self.original_size
    }

    /// Blocks that are compressed stay as they are.
    fn amend(&mut self, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Header or trailer without its numbers.
fn structure(compression: &Compression) -> Header {
    let mut header = Header::new_zeroed();
    header.magic0 = MAGIC0;
    header.magic1 = MAGIC1;
    header.size.set(STRUCTURE_BYTES);
    header.block_size.set(compression.block_size);
    header.algo = compression.algorithm.code();
    header.verify = u8::from(compression.block_crc);
    debug_assert_eq!(header.as_bytes().len() as u64, HEADER_BYTES);
    header
}

fn seal(header: &mut Header) {
    let digest = header.expected_digest(&Crc);
    header.digest.set(digest);
}

/// The jump table: in memory, and in an unnamed file once it is long.
struct Table {
    path: PathBuf,
    memory: Vec<u8>,
    file: Option<File>,
    entries: u64,
    crc: u32,
}

impl Table {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            memory: Vec::new(),
            file: None,
            entries: 0,
            crc: SEED_METADATA,
        }
    }

    fn extend(&mut self, lengths: &[u32]) -> Result<()> {
        let start = self.memory.len();
        for length in lengths {
            self.memory.extend_from_slice(&length.to_le_bytes());
        }
        self.crc = Crc.crc32c(self.crc, &self.memory[start..]);
        self.entries += lengths.len() as u64;
        if self.memory.len() >= TABLE_MEMORY {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                // It is needed through its descriptor only: a hidden name goes at once.
                open_unnamed(&self.path)?.0
            }
        };
        file.write_all(&self.memory)
            .map_err(Error::io(&self.path, "cannot write the jump table aside"))?;
        self.memory.clear();
        self.file = Some(file);
        Ok(())
    }

    fn copy_to(&mut self, out: &mut Output) -> Result<()> {
        if let Some(mut file) = self.file.take() {
            let failed = "cannot read the jump table back";
            let mut chunk = vec![0; 1 << 20];
            file.rewind().map_err(Error::io(&self.path, failed))?;
            loop {
                let len = file
                    .read(&mut chunk)
                    .map_err(Error::io(&self.path, failed))?;
                if len == 0 {
                    break;
                }
                out.write(&chunk[..len])?;
            }
        }
        out.write(&self.memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_long_jump_table_goes_through_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut table = Table::new(&path);
        let mut expected = Vec::new();
        let entries = (TABLE_MEMORY as u32 / 4 * 2).next_multiple_of(500);
        for first in (0..entries).step_by(500) {
            let lengths: Vec<u32> = (first..first + 500).collect();
            table.extend(&lengths).unwrap();
            expected.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
            assert!(table.memory.len() < TABLE_MEMORY + 2000);
        }
        assert!(table.file.is_some());
        assert_eq!(table.entries, u64::from(entries));
        assert_eq!(table.crc, Crc.crc32c(SEED_METADATA, &expected));

        let mut out = Output::create(&path, false).unwrap();
        table.copy_to(&mut out).unwrap();
        out.commit().unwrap();
        assert!(fs::read(&path).unwrap() == expected);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
