// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The optional one-member tar archive around a layer (`docs/format-wrapping.md`).
//!
//! Registries carry layers as tar archives with one member. Two forms exist: a single ustar header
//! (payload at 512), and a pax header with one 512-byte record block before it (payload at 1536).

use super::error::{Error, Rule};
use super::source::{ReadAt, Window};

/// Bytes of a tar block, and of the single-header form before the payload.
pub const BLOCK: usize = 512;

/// Bytes before the payload when a pax header is present; fixed, whatever the records' length.
pub const PAX_PAYLOAD_OFFSET: u64 = 1536;

/// Bytes that [`header`] makes; the same number as [`PAX_PAYLOAD_OFFSET`].
pub const HEADER_BYTES: usize = 3 * BLOCK;

const NAME: core::ops::Range<usize> = 0..100;
const MODE: core::ops::Range<usize> = 100..107;
const OWNER: core::ops::Range<usize> = 108..115;
const GROUP: core::ops::Range<usize> = 116..123;
const TIME: core::ops::Range<usize> = 136..148;
const OWNER_NAME: core::ops::Range<usize> = 265..297;
const GROUP_NAME: core::ops::Range<usize> = 297..329;
const CHECKSUM: core::ops::Range<usize> = 148..156;
const SIZE: core::ops::Range<usize> = 124..136;
const TYPE: usize = 156;
const SECOND_HEADER: u64 = 1024;
const MAGIC: core::ops::Range<usize> = 257..262;
const VERSION: core::ops::Range<usize> = 263..265;
const SIZE_OFFSET: u64 = 124;

/// How a layer file is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapper {
    /// No tar wrapper.
    None,
    /// One ustar header.
    Ustar,
    /// A pax header, a record block and a ustar header.
    Pax,
}

/// Finds the payload of a layer file: all of it, or the member of its tar wrapper.
///
/// Anything that does not look like tar is passed through; only a wrapper that contradicts itself
/// or the file is an error.
// Not inlined: the block shall not lie on the stack while others read.
#[inline(never)]
pub fn unwrap<S: ReadAt>(src: S) -> Result<(Wrapper, Window<S>), S::Error> {
    let file_size = src.size();
    let mut block = [0u8; BLOCK];

    if file_size < BLOCK as u64 {
        return Ok((Wrapper::None, Window::whole(src)));
    }
    src.read_exact_at(0, &mut block)?;
    if !is_header(&block) {
        return Ok((Wrapper::None, Window::whole(src)));
    }

    let (wrapper, offset, size) = match block.get(TYPE).copied() {
        Some(kind @ (b'x' | b'g')) => (
            Wrapper::Pax,
            PAX_PAYLOAD_OFFSET,
            pax_size(&src, kind, &mut block)?,
        ),
        _ => (Wrapper::Ustar, BLOCK as u64, size_field(&block, 0)?),
    };
    let window = Window::new(src, offset, size)
        .map_err(|_| Error::new(Rule::TarPayloadBounds, SIZE_OFFSET, size))?;
    Ok((wrapper, window))
}

/// Payload size of the pax form: the `size` record if it is there and not 0, else the second header's.
///
/// `block` holds the pax header, and then the blocks after it.
fn pax_size<S: ReadAt>(src: &S, kind: u8, block: &mut [u8; BLOCK]) -> Result<u64, S::Error> {
    if src.size() < PAX_PAYLOAD_OFFSET {
        return Err(Error::new(Rule::TarPayloadBounds, 0, src.size()).into());
    }
    // The records of a global header ('g') are not about the member and are ignored.
    if kind == b'x' {
        let len = size_field(block, 0)?;
        src.read_exact_at(BLOCK as u64, block)?;
        let records = usize::try_from(len)
            .ok()
            .and_then(|len| block.get(..len))
            .ok_or(Error::new(Rule::TarPaxRecord, SIZE_OFFSET, len))?;
        if let Some(size) = pax_record_size(records)? {
            if size != 0 {
                return Ok(size);
            }
        }
    }
    src.read_exact_at(SECOND_HEADER, block)?;
    Ok(size_field(block, SECOND_HEADER)?)
}

/// Value of the last `size` record in a list of `"<length> <key>=<value>\n"` records.
fn pax_record_size(mut records: &[u8]) -> Result<Option<u64>, Error> {
    const MALFORMED: Error = Error::new(Rule::TarPaxRecord, BLOCK as u64, 0);
    let mut size = None;

    while !records.is_empty() {
        let space = records.iter().position(|&b| b == b' ').ok_or(MALFORMED)?;
        let (digits, _) = records.split_at_checked(space).ok_or(MALFORMED)?;
        let len = usize::try_from(number(digits, 10).ok_or(MALFORMED)?).map_err(|_| MALFORMED)?;
        let (record, rest) = records.split_at_checked(len).ok_or(MALFORMED)?;
        let body = record
            .get(space.saturating_add(1)..)
            .and_then(|b| b.strip_suffix(b"\n"))
            .ok_or(MALFORMED)?;
        if let Some(value) = body.strip_prefix(b"size=") {
            size = Some(number(value, 10).ok_or(MALFORMED)?);
        }
        records = rest;
    }
    Ok(size)
}

/// Whether a block is a ustar header with a right checksum.
fn is_header(block: &[u8; BLOCK]) -> bool {
    block.get(MAGIC) == Some(b"ustar")
        && block.get(VERSION) == Some(b"00")
        && octal(block.get(CHECKSUM).unwrap_or_default())
            .is_some_and(|sum| checksums(block).contains(&sum))
}

/// The header checksum over unsigned and over signed bytes: both were written by some tar.
pub fn checksums(block: &[u8; BLOCK]) -> [u64; 2] {
    let mut unsigned = 0u64;
    let mut signed = 0i64;

    for (i, &b) in block.iter().enumerate() {
        let b = if CHECKSUM.contains(&i) { b' ' } else { b };
        // 512 bytes of at most 255 cannot overflow.
        unsigned = unsigned.wrapping_add(u64::from(b));
        signed = signed.wrapping_add(i64::from(b as i8));
    }
    // A negative sum cannot be written as octal; u64::MAX never compares equal to one that was.
    [unsigned, u64::try_from(signed).unwrap_or(u64::MAX)]
}

fn size_field(block: &[u8; BLOCK], at: u64) -> Result<u64, Error> {
    octal(block.get(SIZE).unwrap_or_default()).ok_or(Error::new(
        Rule::TarSizeField,
        at.saturating_add(SIZE_OFFSET),
        0,
    ))
}

/// An octal field: leading spaces, digits, then spaces or NULs; an empty one is 0.
fn octal(field: &[u8]) -> Option<u64> {
    let mut text = field.split(|&b| b == 0).next()?;
    // Spaces and nothing else that is white: a line feed is no part of a number.
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    if text.is_empty() {
        return Some(0);
    }
    number(text, 8)
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &b| {
        let digit = char::from(b).to_digit(radix)?;
        n.checked_mul(u64::from(radix))?
            .checked_add(u64::from(digit))
    })
}

/// The blocks before a payload of `size` bytes: the pax form, as upstream's tools write it.
///
/// After the payload come zeroes up to a whole block, and two blocks of zeroes.
// Inlined, so that the modules, which write no layers, have no code of it.
#[inline]
pub fn header(size: u64) -> [[u8; BLOCK]; HEADER_BYTES / BLOCK] {
    let mut header = [[0u8; BLOCK]; HEADER_BYTES / BLOCK];
    let [pax, records, member] = &mut header;
    let len = put_pax_size(records, size);

    put(pax, NAME, b"overlaybd.pax");
    put_octal(pax, SIZE, len);
    finish_header(pax, b'x');

    put(member, NAME, b"overlaybd.commit");
    put_octal(member, MODE, 0o100_644);
    put_octal(member, OWNER, 0);
    put_octal(member, GROUP, 0);
    // Upstream's tools leave a 0 here; a size that fits helps programs that do not know pax.
    put_octal(member, SIZE, if size >> 33 == 0 { size } else { 0 });
    put_octal(member, TIME, 0);
    put(member, OWNER_NAME, b"root");
    put(member, GROUP_NAME, b"root");
    finish_header(member, b'0');
    header
}

/// Writes the record `"<length> size=<size>\n"` and returns its length, which counts itself.
fn put_pax_size(records: &mut [u8; BLOCK], size: u64) -> u64 {
    // A space, "size=" and the line's end, besides the two numbers.
    let rest = decimal_digits(size).saturating_add(7);
    let guess = rest.saturating_add(decimal_digits(rest));
    let len = rest.saturating_add(decimal_digits(guess));
    let end = put_decimal(records, 0, len);
    let end = put(records, end..BLOCK, b" size=");
    let end = put_decimal(records, end, size);
    put(records, end..BLOCK, b"\n");
    len
}

fn decimal_digits(value: u64) -> u64 {
    u64::from(value.checked_ilog10().unwrap_or(0)).saturating_add(1)
}

/// Writes `text` at the start of `range` and returns the byte after it.
fn put(block: &mut [u8; BLOCK], range: core::ops::Range<usize>, text: &[u8]) -> usize {
    let start = range.start;
    for (to, from) in block
        .get_mut(range)
        .unwrap_or_default()
        .iter_mut()
        .zip(text)
    {
        *to = *from;
    }
    start.saturating_add(text.len())
}

fn put_decimal(block: &mut [u8; BLOCK], start: usize, mut value: u64) -> usize {
    // At most 20 digits.
    let end = start.saturating_add(decimal_digits(value) as usize);
    for to in block
        .get_mut(start..end)
        .unwrap_or_default()
        .iter_mut()
        .rev()
    {
        *to = b'0'.saturating_add((value % 10) as u8);
        value /= 10;
    }
    end
}

/// Octal digits to the right, spaces before them and one after them.
fn put_octal(block: &mut [u8; BLOCK], range: core::ops::Range<usize>, mut value: u64) {
    let field = block.get_mut(range).unwrap_or_default();
    field.fill(b' ');
    for to in field.iter_mut().rev().skip(1) {
        *to = b'0'.saturating_add((value & 7) as u8);
        value >>= 3;
        if value == 0 {
            break;
        }
    }
}

fn finish_header(block: &mut [u8; BLOCK], kind: u8) {
    put(block, TYPE..BLOCK, &[kind]);
    put(block, MAGIC, b"ustar");
    put(block, VERSION, b"00");
    let [sum, _] = checksums(block);
    // The last byte of the field stays 0.
    put_octal(block, CHECKSUM.start..CHECKSUM.end.saturating_sub(1), sum);
}
