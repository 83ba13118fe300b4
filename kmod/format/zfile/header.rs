// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Header and trailer of a ZFile: the same 512-byte structure at both ends.

use super::super::checksum::{Checksum, BLOCK_CRC_BYTES, SEED_METADATA};
use super::super::error::{Error, Rule};
use super::super::limits;
use super::super::source::ReadAt;
use super::super::trailer;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromZeros as _, IntoBytes as _};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of header and trailer.
pub const HEADER_BYTES: u64 = 512;

/// First magic: "ZFile" and a version.
pub const MAGIC0: [u8; 8] = *b"ZFile\0\x01\0";
/// Second magic.
pub const MAGIC1: [u8; 16] = *b"tuji.yyf@Alibaba";

/// Flag: this is a header; clear in a trailer.
pub const FLAG_HEADER: u64 = 1 << 0;
/// Flag: data file.
pub const FLAG_DATA_FILE: u64 = 1 << 1;
/// Flag: sealed.
pub const FLAG_SEALED: u64 = 1 << 2;
/// Flag, in a header: it was overwritten at the end and holds the final numbers.
pub const FLAG_OVERWRITTEN: u64 = 1 << 3;
/// Flag: `digest` and `index_crc` are set.
pub const FLAG_DIGEST: u64 = 1 << 4;

/// The structure on disk, 512 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC0`].
    pub magic0: [u8; 8],
    /// [`MAGIC1`].
    pub magic1: [u8; 16],
    /// 96; not checked.
    pub size: U32,
    /// Checksum of these 512 bytes with this field as 0.
    pub digest: U32,
    /// `FLAG_*`.
    pub flags: U64,
    /// Byte at which the jump table begins.
    pub index_offset: U64,
    /// Entries in the jump table: blocks.
    pub index_size: U64,
    /// Bytes before compression.
    pub original_file_size: U64,
    /// Checksum of the jump table.
    pub index_crc: U32,
    /// 0.
    pub reserved0: U32,
    /// Bytes of input in a block.
    pub block_size: U32,
    /// 1 = LZ4, 2 = ZSTD.
    pub algo: u8,
    /// Unused.
    pub level: u8,
    /// Unused.
    pub use_dict: u8,
    /// 0.
    pub padding0: u8,
    /// 0.
    pub reserved1: U32,
    /// Bytes of dictionary space between header and first block; no reader uses its contents.
    pub dict_size: U32,
    /// Not 0: a checksum follows each block.
    pub verify: u8,
    /// 0.
    pub padding1: [u8; 423],
}

const DIGEST_AT: u64 = 28;
const FLAGS_AT: u64 = 32;
const INDEX_OFFSET_AT: u64 = 40;
const INDEX_SIZE_AT: u64 = 48;
const ORIGINAL_SIZE_AT: u64 = 56;
const BLOCK_SIZE_AT: u64 = 72;
const ALGO_AT: u64 = 76;

impl Header {
    /// Whether both magics are right.
    pub fn has_magic(&self) -> bool {
        self.magic0 == MAGIC0 && self.magic1 == MAGIC1
    }

    /// The digest that these 512 bytes should carry.
    pub fn expected_digest(&self, crc: &impl Checksum) -> u32 {
        let bytes = self.as_bytes();
        let field = self.digest.as_bytes().len();
        let (before, rest) = bytes
            .split_at_checked(DIGEST_AT as usize)
            .unwrap_or_default();
        let (_, after) = rest.split_at_checked(field).unwrap_or_default();
        [before, U32::ZERO.as_bytes(), after]
            .iter()
            .fold(SEED_METADATA, |sum, piece| crc.crc32c(sum, piece))
    }

    /// Checks the digest of the structure at byte `at`, if its flags say that it has one.
    pub fn check_digest(&self, crc: &impl Checksum, at: u64) -> Result<(), Error> {
        if self.flags.get() & FLAG_DIGEST != 0 && self.expected_digest(crc) != self.digest.get() {
            return Err(Error::new(
                Rule::ZFileDigest,
                at.saturating_add(DIGEST_AT),
                u64::from(self.digest.get()),
            ));
        }
        Ok(())
    }

    /// The structure at byte `at`; what it says is not checked.
    pub fn read<S: ReadAt>(src: &S, at: u64) -> Result<Self, S::Error> {
        let mut header = Self::new_zeroed();
        header.load(src, at)?;
        Ok(header)
    }

    /// As [`Self::read`], but in place: kernel stacks are small.
    fn load<S: ReadAt>(&mut self, src: &S, at: u64) -> Result<(), S::Error> {
        src.read_exact_at(at, self.as_mut_bytes())
    }
}

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Raw LZ4 block.
    Lz4,
    /// ZSTD frames.
    Zstd,
}

impl Algorithm {
    /// The value on disk.
    pub const fn code(self) -> u8 {
        match self {
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    /// The usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Whether the first bytes of a block can be had without decompressing the rest.
    ///
    /// An LZ4 block is one sequence after the other; ZSTD works in pieces of up to 128 KiB.
    pub const fn has_heads(self) -> bool {
        matches!(self, Self::Lz4)
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Most bytes that the compressor can make of `n` bytes.
    ///
    /// LZ4: its own bound. ZSTD: its own bound, `n + n/256` and up to 64 more for small inputs.
    pub const fn bound(self, n: u32) -> u32 {
        let n = if n > limits::MAX_BLOCK_SIZE {
            limits::MAX_BLOCK_SIZE
        } else {
            n
        };
        match self {
            Self::Lz4 => n.saturating_add(n / 255).saturating_add(16),
            Self::Zstd => n.saturating_add(n / 256).saturating_add(64),
        }
    }
}

/// What a ZFile says of itself, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZFile {
    /// Compression of the blocks.
    pub algorithm: Algorithm,
    /// Bytes in a block: a power of two from 512 to 65536.
    pub block_size: u32,
    /// Bytes before compression.
    pub original_size: u64,
    /// Whether a checksum follows each block.
    pub block_crc: bool,
    /// Byte at which the first block begins.
    pub blocks_offset: u64,
    /// Byte at which the jump table begins.
    pub index_offset: u64,
    /// Entries in the jump table; may be more than the blocks needed.
    pub entries: u64,
    /// Checksum of the jump table, if the file carries one.
    pub index_crc: Option<u32>,
    /// Whether the numbers come from the header (overwritten) or from the trailer.
    pub from_header: bool,
    /// Byte at which the file ends: behind its trailer, and before padding. With the numbers in the
    /// header the trailer is not looked at, and may be missing or cut off.
    pub end: u64,
}

impl ZFile {
    /// Blocks that hold [`Self::original_size`] bytes.
    pub const fn blocks(&self) -> u64 {
        self.original_size.div_ceil(self.block_bytes())
    }

    /// The block size as the arithmetic below needs it; never 0.
    pub(super) const fn block_bytes(&self) -> u64 {
        if self.block_size == 0 {
            1
        } else {
            self.block_size as u64
        }
    }

    /// Bytes of block `block` after decompression; 0 past the end.
    pub const fn decoded_len(&self, block: u64) -> usize {
        let start = block.saturating_mul(self.block_bytes());
        let left = self.original_size.saturating_sub(start);
        // At most 65536.
        if left < self.block_bytes() {
            left as usize
        } else {
            self.block_size as usize
        }
    }

    /// Most bytes a stored block can take, checksum included: the size of a fetch buffer.
    pub const fn max_stored(&self) -> usize {
        (self.algorithm.bound(self.block_size) as usize).saturating_add(self.crc_bytes())
    }

    /// Bytes of checksum after each block.
    pub const fn crc_bytes(&self) -> usize {
        if self.block_crc {
            BLOCK_CRC_BYTES
        } else {
            0
        }
    }
}

/// Tells whether `src` is a ZFile and checks its header and trailer.
///
/// A source without the magic, or whose first block is not marked as a header, is no ZFile and no
/// error: its bytes are the layer's.
pub fn probe<S: ReadAt>(src: &S, crc: &impl Checksum) -> Result<Option<ZFile>, S::Error> {
    inspect(src, crc, Err)
}

/// As [`probe`], but goes on after a wrong digest or flag where `broken` answers [`Ok`].
// Not inlined: the header shall not lie on the stack while others read.
#[inline(never)]
pub fn inspect<S: ReadAt>(
    src: &S,
    crc: &impl Checksum,
    mut broken: impl FnMut(Error) -> Result<(), Error>,
) -> Result<Option<ZFile>, S::Error> {
    let size = src.size();
    if size < HEADER_BYTES {
        return Ok(None);
    }
    let mut header = Header::new_zeroed();
    header.load(src, 0)?;
    let flags = header.flags.get();
    if !header.has_magic() || flags & FLAG_HEADER == 0 {
        return Ok(None);
    }
    header.check_digest(crc, 0).or_else(&mut broken)?;

    if flags & FLAG_OVERWRITTEN != 0 {
        // The trailer adds nothing then, and may be missing.
        return Ok(Some(check(&header, 0, size)?));
    }
    if flags & FLAG_DATA_FILE == 0 {
        broken(Error::new(Rule::ZFileHeaderFlags, FLAGS_AT, flags))?;
    }
    let end = size.saturating_sub(HEADER_BYTES);
    if end < HEADER_BYTES {
        return Err(Error::new(Rule::ZFileTooSmall, 0, size).into());
    }
    let trailer_at = find_trailer(src)?.ok_or(Error::new(Rule::ZFileTrailerMagic, end, 0))?;
    header.load(src, trailer_at)?;
    let trailer = &header;
    let flags = trailer.flags.get();
    if flags & (FLAG_HEADER | FLAG_DATA_FILE | FLAG_SEALED) != FLAG_DATA_FILE | FLAG_SEALED {
        let at = trailer_at.saturating_add(FLAGS_AT);
        broken(Error::new(Rule::ZFileTrailerFlags, at, flags))?;
    }
    if !src.is_exact() {
        // Of a larger file that was here before, it would be as good.
        broken(Error::new(Rule::ZFileTrailerUntied, trailer_at, size))?;
    }
    trailer.check_digest(crc, trailer_at).or_else(&mut broken)?;
    Ok(Some(check(trailer, trailer_at, trailer_at)?))
}

/// The byte at which the trailer begins: at the end, or before padding; [`None`] if there is none.
pub fn find_trailer<S: ReadAt>(src: &S) -> Result<Option<u64>, S::Error> {
    let end = src.size().checked_sub(HEADER_BYTES);
    let Some(end) = end.filter(|&end| end >= HEADER_BYTES) else {
        return Ok(None);
    };
    let mut magic = [0; MAGIC0.len() + MAGIC1.len()];
    src.read_exact_at(end, &mut magic)?;
    if magic.starts_with(&MAGIC0) && magic.ends_with(&MAGIC1) {
        return Ok(Some(end));
    }
    let Some(at) = trailer::before_padding(src, &MAGIC0, HEADER_BYTES)? else {
        return Ok(None);
    };
    src.read_exact_at(at, &mut magic)?;
    Ok(magic.ends_with(&MAGIC1).then_some(at))
}

/// Checks the numbers of the structure in use, which stands at byte `at`; the jump table must end
/// at or before `limit`.
fn check(header: &Header, at: u64, limit: u64) -> Result<ZFile, Error> {
    let error = |rule, field: u64, found| Err(Error::new(rule, at.saturating_add(field), found));

    let Some(algorithm) = Algorithm::from_code(header.algo) else {
        return error(Rule::ZFileAlgorithm, ALGO_AT, u64::from(header.algo));
    };
    let block_size = header.block_size.get();
    if !block_size.is_power_of_two()
        || !(limits::MIN_BLOCK_SIZE..=limits::MAX_BLOCK_SIZE).contains(&block_size)
    {
        return error(Rule::ZFileBlockSize, BLOCK_SIZE_AT, u64::from(block_size));
    }
    let original_size = header.original_file_size.get();
    if original_size > limits::MAX_FILE_SIZE {
        return error(Rule::ZFileSizeLimit, ORIGINAL_SIZE_AT, original_size);
    }
    let entries = header.index_size.get();
    if entries > limits::MAX_BLOCKS {
        return error(Rule::ZFileBlockLimit, INDEX_SIZE_AT, entries);
    }
    let blocks_offset = HEADER_BYTES.saturating_add(u64::from(header.dict_size.get()));
    let index_offset = header.index_offset.get();
    let index_end = entries
        .checked_mul(4)
        .and_then(|bytes| index_offset.checked_add(bytes))
        .filter(|&end| end <= limit && index_offset >= blocks_offset);
    let Some(index_end) = index_end else {
        return error(Rule::ZFileTableBounds, INDEX_OFFSET_AT, index_offset);
    };
    let from_header = header.flags.get() & FLAG_HEADER != 0;

    let zfile = ZFile {
        algorithm,
        block_size,
        original_size,
        block_crc: header.verify != 0,
        blocks_offset,
        index_offset,
        entries,
        index_crc: (header.flags.get() & FLAG_DIGEST != 0).then(|| header.index_crc.get()),
        from_header,
        end: match from_header {
            true => index_end.saturating_add(HEADER_BYTES).min(limit),
            false => at.saturating_add(HEADER_BYTES),
        },
    };
    if entries < zfile.blocks() {
        return error(Rule::ZFileBlockCount, INDEX_SIZE_AT, entries);
    }
    Ok(zfile)
}
