// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layer files out of few bytes: what is said is how they differ from good ones, so that a fuzzer
//! need not find out about magics, checksums and 4096 bytes of header.

use crate::input::Input;
use vbd_format::Checksum as _;
use vbd_tests_host::codec::encode;
use vbd_tests_host::crc::RawCrc;
use vbd_tests_host::lsmt::{Record, Spec, PADDING};
use vbd_tests_host::rng::Rng;
use vbd_tests_host::{put_u32, tar, zfile};

/// Sectors of data that a layer has at most.
const DATA: usize = 8;

/// A list of records: most of them good ones, since lists end at the first that is not.
pub(crate) fn records(input: &mut Input<'_>) -> Vec<[u8; 16]> {
    let mut at = 0;
    let mut records = Vec::new();
    for _ in 0..input.below(48) {
        let [kind, gap, len, place] = input.array();
        let record = match kind & 15 {
            0 => input.array(),
            1 => {
                let mut padding = PADDING;
                padding[8..].copy_from_slice(&input.array::<8>());
                padding
            }
            _ => {
                let gap = u64::from(gap) << (if kind & 64 == 0 { 0 } else { 24 });
                let record = Record {
                    offset: (at + gap) % (1 << 50),
                    len: u64::from(len) * if kind & 128 == 0 { 1 } else { 64 },
                    moffset: u64::from(place),
                    zeroed: kind & 32 != 0,
                    tag: kind,
                };
                at = record.end();
                record.bytes()
            }
        };
        records.push(record);
    }
    records
}

/// Changes a few bytes: some fields by number, some places anywhere.
fn patch(input: &mut Input<'_>, bytes: &mut [u8], fields: &[usize]) {
    for _ in 0..input.below(4) {
        let (place, value) = (input.short(), input.array::<8>());
        let width = [1, 2, 4, 8][usize::from(value[7] & 3)];
        let at = match fields.get((place & 15) as usize) {
            Some(field) if place & 16 == 0 => *field,
            _ => (place >> 5) as usize % bytes.len().max(1),
        };
        if let Some(room) = bytes.get_mut(at..at + width) {
            room.copy_from_slice(&value[..width]);
        }
    }
}

/// A layer's LSMT bytes.
pub(crate) fn lsmt(input: &mut Input<'_>) -> Vec<u8> {
    let [sectors, seed, size] = input.array();
    let data = Rng(u64::from(seed)).texture(512 * (usize::from(sectors) % (DATA + 1)));
    let mut spec = Spec::new(u64::from(size) * 512, data, &[]);
    spec.records = records(input);
    let mut bytes = spec.build();
    let trailer = bytes.len() - 4096;
    let fields = [28, 32, 40, 48];
    patch(
        input,
        &mut bytes,
        &[fields, fields.map(|f| trailer + f)].concat(),
    );
    bytes
}

/// Puts right what the bits of `what` name: the digests of header and trailer, and the checksums of
/// table and blocks as far as they have a place.
pub(crate) fn seal(payload: &mut [u8], what: u8) {
    let size = payload.len();
    if size < 1024 {
        return;
    }
    let numbers = if payload[32] & 8 != 0 { 0 } else { size - 512 };
    let word = |bytes: &[u8], at: usize| {
        let raw = bytes[at..at + 8].try_into().expect("8 bytes");
        usize::try_from(u64::from_le_bytes(raw)).unwrap_or(usize::MAX)
    };
    let table = word(payload, numbers + 40);
    let entries = word(payload, numbers + 48);
    let place = entries
        .checked_mul(4)
        .and_then(|bytes| table.checked_add(bytes));
    if let Some(end) = place.filter(|&end| end <= size) {
        if what & 8 != 0 && payload[numbers + 88] != 0 {
            let dict = word(payload, numbers + 80) >> 32;
            let mut at = 512usize.saturating_add(dict);
            for entry in 0..entries {
                let length = word(&[&payload[table + 4 * entry..][..4], &[0; 4]].concat(), 0);
                let block = at.checked_add(length).and_then(|end| payload.get(at..end));
                let Some((bytes, _)) = block.and_then(|block| block.split_last_chunk::<4>()) else {
                    break;
                };
                let sum = RawCrc.crc32c(100_007, bytes);
                put_u32(payload, at + length - 4, sum);
                at += length;
            }
        }
        if what & 4 != 0 {
            let sum = RawCrc.crc32c(0, &payload[table..end]);
            put_u32(payload, numbers + 64, sum);
        }
    }
    for (bit, at) in [(1, 0), (2, size - 512)] {
        if what & bit != 0 {
            zfile::seal(payload, at);
        }
    }
}

/// Compresses a block; with ZSTD into a frame that says it was not worth while, since a fuzzer has no
/// time for its compressor.
fn pack(algo: u8, block: &[u8]) -> Vec<u8> {
    if algo == 1 {
        return encode(algo, block);
    }
    let size = block.len() as u32;
    // One segment with four bytes of size, and in it the last block, raw.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend(size.to_le_bytes());
    frame.extend(&(size << 3 | 1).to_le_bytes()[..3]);
    frame.extend_from_slice(block);
    frame
}

/// A layer file.
pub(crate) fn file(input: &mut Input<'_>) -> Vec<u8> {
    let [form, how] = input.array();
    let layer = lsmt(input);
    let mut payload = layer;
    if form & 4 != 0 {
        let algo = if form & 8 == 0 { 1 } else { 2 };
        let block_size = 512 << (form >> 5);
        let mut spec = zfile::Spec::of(&[], algo, block_size);
        spec.original_size = payload.len() as u64;
        let blocks = payload.chunks(block_size as usize);
        spec.blocks = blocks.map(|block| pack(algo, block)).collect();
        spec.verify = how & 1;
        spec.digest = how & 2 != 0;
        spec.overwritten = how & 4 != 0;
        spec.dict = vec![0; usize::from(input.byte())];
        let table = spec.table_at() as usize;
        payload = spec.build();
        let end = payload.len() - 512;
        let fields =
            [32, 40, 48, 56, 64, 72, 76, 84, 88]
                .map(|f| if spec.overwritten { f } else { end + f });
        patch(
            input,
            &mut payload,
            &[&fields[..], &[table, 512, 516, 520, end - 4]].concat(),
        );
        // Most changes are of no use behind a checksum that gives them away.
        if how & 8 == 0 {
            seal(&mut payload, how >> 4 | 7);
        }
    }
    let mut file = match form & 3 {
        1 => tar::wrap_ustar(&payload),
        2 => tar::wrap_pax(&payload),
        _ => return payload,
    };
    patch(input, &mut file, &[124, 156, 512, 1148]);
    if how & 8 == 0 {
        tar::seal(&mut file[..512]);
    }
    file
}
