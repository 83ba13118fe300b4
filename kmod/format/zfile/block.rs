// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Blocks: which to fetch, and the three checks on each (length, checksum, decoded size).

use super::super::checksum::{Checksum, SEED_BLOCK};
use super::super::error::{Error, Rule};
use super::header::{Algorithm, ZFile};
use super::jump::JumpTable;
use core::ops::Range;

/// Memory that a block is decompressed into.
///
/// A slice, or in the kernel a run of request pages, which user space may have mapped and which is
/// therefore no slice.
pub trait Output {
    /// Length in bytes.
    fn len(&self) -> usize;

    /// Whether there is no room at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets all bytes to zero.
    fn clear(&mut self);
}

impl Output for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn clear(&mut self) {
        self.fill(0);
    }
}

/// The decoders, supplied by the caller.
pub trait Codec<O: Output + ?Sized = [u8]> {
    /// Decompresses `src` into `dst` and returns the bytes written, or [`None`] if `src` is not
    /// well formed or does not fit.
    ///
    /// Bytes of `dst` that the stream does not define must not come from anywhere but `src` and
    /// `dst` itself.
    fn decode(&mut self, algorithm: Algorithm, src: &[u8], dst: &mut O) -> Option<usize>;
}

/// A decoder that can stop early, supplied by the caller.
pub trait HeadCodec<O: Output + ?Sized = [u8]> {
    /// Fills `dst` with the first bytes of what the LZ4 block `src` decompresses to, and returns how
    /// many those are, or [`None`] if it is not well formed so far. What comes after them is not
    /// looked at.
    ///
    /// For bytes that the stream does not define, as [`Codec::decode`].
    fn decode_head(&mut self, src: &[u8], dst: &mut O) -> Option<usize>;
}

/// Checks and decompresses one stored block into `dst`, which is cleared first.
///
/// `stored` is the block as in the file, checksum included; `dst` has the block's decoded length.
/// `verify` = false skips the block's checksum, never the other two checks. On an error `dst` holds
/// nothing of use.
pub fn unpack<O: Output + ?Sized>(
    zfile: &ZFile,
    crc: &impl Checksum,
    codec: &mut impl Codec<O>,
    verify: bool,
    stored: &[u8],
    dst: &mut O,
) -> Result<(), Rule> {
    let packed = checked(zfile, crc, verify, stored)?;
    decoded(dst, |dst| codec.decode(zfile.algorithm, packed, dst))
}

/// As [`unpack`], but `dst` takes the block's first bytes only: see [`ZFile::bytes_to_decode`].
///
/// The checksum is that of the whole block; what does not decompress is found as far as `dst` goes.
pub fn unpack_head<O: Output + ?Sized>(
    zfile: &ZFile,
    crc: &impl Checksum,
    codec: &mut impl HeadCodec<O>,
    verify: bool,
    stored: &[u8],
    dst: &mut O,
) -> Result<(), Rule> {
    let packed = checked(zfile, crc, verify, stored)?;
    decoded(dst, |dst| codec.decode_head(packed, dst))
}

/// What the decoder is given of a stored block, once its checksum is found right.
fn checked<'a>(
    zfile: &ZFile,
    crc: &impl Checksum,
    verify: bool,
    stored: &'a [u8],
) -> Result<&'a [u8], Rule> {
    if !zfile.block_crc {
        return Ok(stored);
    }
    let (packed, sum) = stored.split_last_chunk().ok_or(Rule::ZFileStoredLength)?;
    if verify && crc.crc32c(SEED_BLOCK, packed) != u32::from_le_bytes(*sum) {
        return Err(Rule::ZFileBlockCrc);
    }
    Ok(packed)
}

/// Clears `dst`, and has it filled to its end.
fn decoded<O: Output + ?Sized>(
    dst: &mut O,
    decode: impl FnOnce(&mut O) -> Option<usize>,
) -> Result<(), Rule> {
    // An LZ4 match of distance 0 copies what stands in the output: it must be ours.
    dst.clear();
    match decode(dst) {
        None => Err(Rule::ZFileBlockDecode),
        Some(len) if len != dst.len() => Err(Rule::ZFileBlockLength),
        Some(_) => Ok(()),
    }
}

/// A wanted part of a block is small if it is at most one of so many: only for a small one a decoder
/// stops early.
///
/// Whoever reads a block in pieces from its begin has the first one decoded twice: a quarter more work at
/// most. Whoever reads small pieces at random saves half of it.
const SMALL_PART: usize = 4;

impl ZFile {
    /// How many bytes of block `block` to decode, from its begin, for somebody who wants those at
    /// `part` of them for the first time.
    pub fn bytes_to_decode(&self, block: u64, part: &Range<usize>) -> usize {
        let whole = self.decoded_len(block);
        let small = part.len() <= self.block_size as usize / SMALL_PART;
        if small && self.algorithm.has_heads() {
            part.end.min(whole)
        } else {
            whole
        }
    }
}

/// Consecutive blocks that one read fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First block.
    pub first: u64,
    /// Number of blocks, at least 1.
    pub count: u64,
    /// Byte in the ZFile at which the first block is stored.
    pub offset: u64,
    /// Stored bytes of all.
    pub len: usize,
}

impl Run {
    /// The longest run from block `first` to at most `last` whose stored bytes fit `room`.
    ///
    /// [`None`] if `first` is past the end or does not fit alone; a room of
    /// [`ZFile::max_stored`] bytes fits any block.
    pub fn new(table: &JumpTable<'_>, first: u64, last: u64, room: usize) -> Option<Self> {
        let start = table.stored(first).filter(|stored| stored.len <= room)?;
        let mut run = Self {
            first,
            count: 1,
            offset: start.offset,
            len: start.len,
        };
        let mut block = first;
        while block < last {
            block = block.saturating_add(1);
            let Some(len) = table
                .stored_len(block)
                .and_then(|len| run.len.checked_add(len))
                .filter(|&len| len <= room)
            else {
                break;
            };
            run.len = len;
            run.count = run.count.saturating_add(1);
        }
        Some(run)
    }

    /// Whether the run holds block `block`.
    pub const fn contains(&self, block: u64) -> bool {
        block >= self.first && block.wrapping_sub(self.first) < self.count
    }
}

/// Reads decompressed bytes `offset..` into `buf`, block by block.
///
/// `load(block, dst)` fills `dst`, of the block's decoded length. Blocks that `buf` covers whole are
/// loaded in place, others through `bounce`, which must hold a block.
pub fn read_blocks<E: From<Error>>(
    zfile: &ZFile,
    mut offset: u64,
    mut buf: &mut [u8],
    bounce: &mut [u8],
    mut load: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let bounds = Error::new(Rule::ZFileReadBounds, offset, buf.len() as u64);

    while !buf.is_empty() {
        let block = offset.checked_div(zfile.block_bytes()).ok_or(bounds)?;
        let skip = offset.checked_rem(zfile.block_bytes()).ok_or(bounds)? as usize;
        let decoded = zfile.decoded_len(block);
        let len = decoded
            .checked_sub(skip)
            .filter(|&len| len != 0)
            .ok_or(bounds)?
            .min(buf.len());

        let (head, rest) = buf.split_at_mut_checked(len).ok_or(bounds)?;
        if len == decoded {
            load(block, head)?;
        } else {
            let bounce = bounce.get_mut(..decoded).ok_or(bounds)?;
            load(block, bounce)?;
            let end = skip.saturating_add(len);
            head.copy_from_slice(bounce.get(skip..end).ok_or(bounds)?);
        }
        offset = offset.checked_add(len as u64).ok_or(bounds)?;
        buf = rest;
    }
    Ok(())
}
