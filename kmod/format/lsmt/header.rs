// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Header and trailer of a layer: the same 4096-byte structure at both ends.

use super::super::error::{Error, Rule};
use super::super::limits;
use super::super::source::ReadAt;
use super::super::trailer;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromZeros as _, IntoBytes as _};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes that header and trailer take in the file; the rest after [`Header`] is zero.
pub const HEADER_BYTES: u64 = 4096;

/// First magic: "LSMT" and a version.
pub const MAGIC0: [u8; 8] = *b"LSMT\0\x01\x02\0";
/// Second magic.
pub const MAGIC1: [u8; 16] = [
    0x65, 0x7e, 0x63, 0xd2, 0x94, 0x44, 0x08, 0x4c, 0xa2, 0xd2, 0xc8, 0xec, 0x4f, 0xcf, 0xae, 0x8a,
];

/// Flag: this is a header; clear in a trailer.
pub const FLAG_HEADER: u32 = 1 << 0;
/// Flag: data file; clear in the index file of a writable pair.
pub const FLAG_DATA_FILE: u32 = 1 << 1;
/// Flag: sealed. Clear in the header of a layer that was sealed in place.
pub const FLAG_SEALED: u32 = 1 << 2;
/// Flag: sparse writable layer.
pub const FLAG_SPARSE: u32 = 1 << 4;

/// A uuid field that names nothing.
pub const UUID_NONE: [u8; 37] = *b"00000000-0000-0000-0000-000000000000\0";

/// The structure on disk, 390 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC0`].
    pub magic0: [u8; 8],
    /// [`MAGIC1`].
    pub magic1: [u8; 16],
    /// 390; not checked.
    pub size: U32,
    /// `FLAG_*`.
    pub flags: U32,
    /// Byte at which the index begins; only a trailer's is of use.
    pub index_offset: U64,
    /// Records in the index, padding included.
    pub index_size: U64,
    /// Bytes of the virtual disk; 0 = not stated here.
    pub virtual_size: U64,
    /// Text, 36 characters and NUL.
    pub uuid: [u8; 37],
    /// The same for the layer below.
    pub parent_uuid: [u8; 37],
    /// Unused.
    pub reserved: [u8; 2],
    /// 1; not checked.
    pub version: u8,
    /// 1; not checked.
    pub sub_version: u8,
    /// Free text, zero padded.
    pub user_tag: [u8; 256],
}

impl Header {
    /// Whether both magics are right.
    pub fn has_magic(&self) -> bool {
        self.magic0 == MAGIC0 && self.magic1 == MAGIC1
    }

    /// Reads the structure at byte `at` in place: kernel stacks are small. What it says is not checked.
    fn load<S: ReadAt>(&mut self, src: &S, at: u64) -> Result<(), S::Error> {
        src.read_exact_at(at, self.as_mut_bytes())
    }
}

/// What a sealed layer says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Lsmt {
    /// Bytes of the virtual disk; 0 = not stated by this layer.
    pub virtual_size: u64,
    /// Byte at which the index begins; all data lies before it.
    pub index_offset: u64,
    /// Records in the index, padding included.
    pub index_size: u64,
    /// Byte at which the layer ends: behind the trailer, and before padding.
    pub end: u64,
    /// The trailer, for those who show it to people.
    pub trailer: Header,
}

/// Offset of `flags`, for error messages.
pub(super) const FLAGS_AT: u64 = 28;
pub(super) const INDEX_OFFSET_AT: u64 = 32;
const INDEX_SIZE_AT: u64 = 40;
pub(super) const VIRTUAL_SIZE_AT: u64 = 48;
const UUID_AT: u64 = 56;

/// The structure at byte `at`; what it says is not checked.
pub fn read_header<S: ReadAt>(src: &S, at: u64) -> Result<Header, S::Error> {
    let mut header = Header::new_zeroed();
    header.load(src, at)?;
    Ok(header)
}

/// Checks header and trailer of a sealed layer and returns what the index needs.
pub fn probe<S: ReadAt>(src: &S) -> Result<Lsmt, S::Error> {
    inspect(src, Err)
}

/// As [`probe`], but goes on after a broken rule where `broken` answers [`Ok`].
///
/// A source that is too small and a trailer without magic leave nothing to go on with. After
/// [`Rule::LsmtIndexLimit`] or [`Rule::LsmtIndexBounds`] the index is not to be read.
// Not inlined: the headers shall not lie on the stack while others read.
#[inline(never)]
pub fn inspect<S: ReadAt>(
    src: &S,
    mut broken: impl FnMut(Error) -> Result<(), Error>,
) -> Result<Lsmt, S::Error> {
    let size = src.size();
    // Header and trailer never overlap: the smallest legal layer is both, with no data.
    let mut trailer_at = size
        .checked_sub(HEADER_BYTES)
        .filter(|&at| at >= HEADER_BYTES)
        .ok_or(Error::new(Rule::LsmtTooSmall, 0, size))?;

    let mut header = Header::new_zeroed();
    header.load(src, 0)?;
    if !header.has_magic() {
        let word = u64::from(header_word(&header));
        broken(Error::new(Rule::LsmtHeaderMagic, 0, word))?;
    }
    let flags = header.flags.get();
    if flags & FLAG_HEADER == 0 || flags & FLAG_DATA_FILE == 0 {
        broken(Error::new(
            Rule::LsmtHeaderFlags,
            FLAGS_AT,
            u64::from(flags),
        ))?;
    }

    let name = header.uuid;

    header.load(src, trailer_at)?;
    if !header.has_magic() {
        if let Some(at) = trailer::before_padding(src, &MAGIC0, HEADER_BYTES)? {
            trailer_at = at;
            header.load(src, at)?;
        }
    }
    let trailer = header;
    let at = |field: u64| trailer_at.saturating_add(field);
    if !trailer.has_magic() {
        let word = u64::from(header_word(&trailer));
        return Err(Error::new(Rule::LsmtTrailerMagic, trailer_at, word).into());
    }
    let flags = trailer.flags.get();
    if flags & (FLAG_HEADER | FLAG_DATA_FILE | FLAG_SEALED) != FLAG_DATA_FILE | FLAG_SEALED {
        broken(Error::new(
            Rule::LsmtTrailerFlags,
            at(FLAGS_AT),
            u64::from(flags),
        ))?;
    }

    if let Some(rule) = strangers(&name, &trailer.uuid, src.is_exact()) {
        let word = u64::from(first_word(&trailer.uuid));
        broken(Error::new(rule, at(UUID_AT), word))?;
    }

    let index_size = trailer.index_size.get();
    if index_size > limits::MAX_INDEX_RECORDS {
        broken(Error::new(
            Rule::LsmtIndexLimit,
            at(INDEX_SIZE_AT),
            index_size,
        ))?;
    }
    let index_offset = trailer.index_offset.get();
    // An empty index lies nowhere, so its offset is free.
    if index_size != 0 {
        index_size
            .checked_mul(super::RECORD_BYTES as u64)
            .and_then(|bytes| index_offset.checked_add(bytes))
            .filter(|&end| end <= trailer_at)
            .ok_or(Error::new(
                Rule::LsmtIndexBounds,
                at(INDEX_OFFSET_AT),
                index_offset,
            ))
            .map(|_| ())
            .or_else(&mut broken)?;
    }
    let virtual_size = trailer.virtual_size.get();
    if virtual_size > limits::MAX_VIRTUAL_SIZE {
        broken(Error::new(
            Rule::LsmtSizeLimit,
            at(VIRTUAL_SIZE_AT),
            virtual_size,
        ))?;
    }
    Ok(Lsmt {
        virtual_size,
        index_offset,
        index_size,
        end: trailer_at.saturating_add(HEADER_BYTES),
        trailer,
    })
}

/// The rule that is broken if a trailer with the uuid `trailer` is not one of a header with `header`.
///
/// A layer that was written over the front of a larger one has that one's trailer behind it. Writers
/// put the layer's uuid at both ends. Where the source's end is not the layer's, that has to be so.
fn strangers(header: &[u8; 37], trailer: &[u8; 37], exact: bool) -> Option<Rule> {
    let named = is_uuid(header) && *header != UUID_NONE;
    match (named, header == trailer) {
        (true, true) => None,
        (true, false) if is_uuid(trailer) => Some(Rule::LsmtTrailerUuid),
        _ if exact => None,
        _ => Some(Rule::LsmtTrailerUntied),
    }
}

/// Whether a field holds hexadecimal digits in groups of 8, 4, 4, 4 and 12.
fn is_uuid(field: &[u8; 37]) -> bool {
    field.iter().enumerate().all(|(at, &byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        36 => byte == 0,
        _ => byte.is_ascii_hexdigit(),
    })
}

/// The first four bytes, as a value to show where a magic was expected.
pub(super) fn header_word(header: &Header) -> u32 {
    first_word(&header.magic0)
}

/// The first four bytes of a field, as a value to show.
fn first_word(field: &[u8]) -> u32 {
    match field {
        [a, b, c, d, ..] => u32::from_le_bytes([*a, *b, *c, *d]),
        _ => 0,
    }
}
