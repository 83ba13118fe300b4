// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The tar wrapper, by `docs/format-wrapping.md`.

use std::ops::Range;
use vbd_format::{Error, Rule};

/// Where the payload of a layer file lies.
pub fn payload(file: &[u8]) -> Result<Range<usize>, Error> {
    if !is_tar(file) {
        return Ok(0..file.len());
    }
    let (start, size) = match file[156] {
        kind @ (b'x' | b'g') => (1536, pax_size(file, kind == b'x')?),
        _ => (512, size_field(file, 0)?),
    };
    if start as u128 + u128::from(size) > file.len() as u128 {
        return Err(Error::new(Rule::TarPayloadBounds, 124, size));
    }
    Ok(start..start + size as usize)
}

fn is_tar(file: &[u8]) -> bool {
    if file.len() < 512 || &file[257..262] != b"ustar" || &file[263..265] != b"00" {
        return false;
    }
    let Some(stated) = octal(&file[148..156]) else {
        return false;
    };
    let mut block = file[..512].to_vec();
    block[148..156].fill(b' ');
    let unsigned: i128 = block.iter().map(|&b| i128::from(b)).sum();
    let signed: i128 = block.iter().map(|&b| i128::from(b as i8)).sum();
    [unsigned, signed].contains(&i128::from(stated))
}

fn pax_size(file: &[u8], has_records: bool) -> Result<u64, Error> {
    if file.len() < 1536 {
        return Err(Error::new(Rule::TarPayloadBounds, 0, file.len() as u64));
    }
    if has_records {
        let bytes = size_field(file, 0)?;
        if bytes > 512 {
            return Err(Error::new(Rule::TarPaxRecord, 124, bytes));
        }
        let records = &file[512..512 + bytes as usize];
        match size_record(records).ok_or(Error::new(Rule::TarPaxRecord, 512, 0))? {
            0 => (),
            size => return Ok(size),
        }
    }
    size_field(file, 1024)
}

/// The value of the last `size` record, 0 if there is none; [`None`] if a record is malformed.
fn size_record(records: &[u8]) -> Option<u64> {
    let mut size = 0;
    let mut at = 0;
    while at < records.len() {
        let digits = records[at..].iter().take_while(|&&b| b != b' ').count();
        let length = usize::try_from(decimal(&records[at..at + digits])?).ok()?;
        let record = records.get(at..at.checked_add(length)?)?;
        // A length, a space, and a line feed at least.
        let (last, text) = record.get(digits + 1..)?.split_last()?;
        if *last != b'\n' {
            return None;
        }
        if text.starts_with(b"size=") {
            size = decimal(&text[5..])?;
        }
        at += length;
    }
    Some(size)
}

fn size_field(file: &[u8], block: usize) -> Result<u64, Error> {
    let at = block + 124;
    octal(&file[at..at + 12]).ok_or(Error::new(Rule::TarSizeField, at as u64, 0))
}

/// Spaces, digits, then spaces or NULs; what comes after the first NUL does not count.
fn octal(field: &[u8]) -> Option<u64> {
    let text: Vec<u8> = field.iter().copied().take_while(|&b| b != 0).collect();
    let text = String::from_utf8(text).ok()?;
    let text = text.trim_matches(' ');
    if text.is_empty() {
        return Some(0);
    }
    digits(text, 8)
}

fn decimal(text: &[u8]) -> Option<u64> {
    digits(std::str::from_utf8(text).ok()?, 10)
}

/// A number without a sign, which the library would take.
fn digits(text: &str, radix: u32) -> Option<u64> {
    let plain = text.chars().all(|c| c.is_digit(radix));
    plain.then(|| u64::from_str_radix(text, radix).ok())?
}
