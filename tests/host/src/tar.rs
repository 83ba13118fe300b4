// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Tar wrappers, as upstream's tools write them and as they should not be.

use crate::put;

/// A header block; `size` is the raw text of its size field.
pub fn header(name: &str, kind: u8, size: &[u8]) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    put(&mut block, 100, *b" 100644 ");
    put(&mut block, 108, *b"      0 ");
    put(&mut block, 116, *b"      0 ");
    block[124..124 + size.len()].copy_from_slice(size);
    put(&mut block, 136, *b"          0 ");
    block[156] = kind;
    put(&mut block, 257, *b"ustar\x0000");
    seal(&mut block);
    block
}

/// Writes the header's checksum: over unsigned bytes, right aligned, ended by NUL and space.
pub fn seal(block: &mut [u8]) {
    put(block, 148, *b"        ");
    let sum: u64 = block.iter().map(|&b| u64::from(b)).sum();
    put_checksum(block, sum);
}

/// The same over signed bytes, as some old tar programs did.
pub fn seal_signed(block: &mut [u8]) {
    put(block, 148, *b"        ");
    let sum: i64 = block.iter().map(|&b| i64::from(b as i8)).sum();
    put_checksum(
        block,
        u64::try_from(sum).expect("a sum that octal can write"),
    );
}

fn put_checksum(block: &mut [u8], sum: u64) {
    let text = format!("{sum:>6o}\0 ");
    block[148..156].copy_from_slice(text.as_bytes());
}

/// The text of a size field as upstream writes it: leading spaces, a space at the end.
pub fn size_text(size: u64) -> Vec<u8> {
    format!("{size:>11o} ").into_bytes()
}

/// A pax record with the right length in front.
pub fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let body = format!(" {key}={value}\n");
    let mut len = body.len() + 1;
    while len != body.len() + len.to_string().len() {
        len = body.len() + len.to_string().len();
    }
    format!("{len}{body}").into_bytes()
}

/// The older form: one ustar header.
pub fn wrap_ustar(payload: &[u8]) -> Vec<u8> {
    let mut file = header("overlaybd.commit", b'0', &size_text(payload.len() as u64));
    finish(&mut file, payload);
    file
}

/// The newer form: a pax header, its records, a ustar header whose size field is 0.
pub fn wrap_pax(payload: &[u8]) -> Vec<u8> {
    let records = pax_record("size", &payload.len().to_string());
    wrap_records(b'x', &records, &size_text(0), payload)
}

/// Pax or global header with any records; `size` goes into the second header.
pub fn wrap_records(kind: u8, records: &[u8], size: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut file = header("overlaybd.pax", kind, &size_text(records.len() as u64));
    file.extend_from_slice(records);
    file.resize(1024, 0);
    file.extend(header("overlaybd.commit", b'0', size));
    finish(&mut file, payload);
    file
}

fn finish(file: &mut Vec<u8>, payload: &[u8]) {
    file.extend_from_slice(payload);
    file.resize(file.len().next_multiple_of(512) + 1024, 0);
}
