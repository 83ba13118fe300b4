// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Single bits: all of those in metadata, one in each byte of stored blocks.

use super::tables::{compressed, seal_table};
use super::{offer, payload, Sink};
use crate::images::{inner, stored, wrap};

/// A copy with one bit changed.
fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Each bit of a layer's index and of jump tables, and one of each byte of ZFile structures.
pub(super) fn metadata(sink: Sink<'_>) {
    let layer = inner();
    let plain = layer.build();
    let index = layer.index_at() as usize * 8;
    // Records of padding are all alike.
    for bit in 0..8 * 16 * 7 {
        let bytes = || flipped(&plain, index + bit);
        offer(sink, || format!("plain: index bit {bit}"), bytes);
        if bit % 5 == 0 {
            for name in ["pax lz4 overwritten", "zstd trailer"] {
                let what = || format!("{name}: index bit {bit}");
                offer(sink, what, || stored(name, &bytes()));
            }
        }
    }
    for (image, spec) in compressed() {
        let place = payload(&image);
        let table = 8 * (place.start + spec.table_at() as usize);
        for bit in 0..8 * 4 * spec.blocks.len() {
            for sealed in [true, false] {
                let what = || format!("{}: table bit {bit}, sealed {sealed}", image.name);
                offer(sink, what, || {
                    let mut file = flipped(&image.file, table + bit);
                    if sealed {
                        seal_table(&mut file, &spec, place.start, place.end);
                    }
                    file
                });
            }
        }
        let header = place.start..place.start + 96;
        let trailer = place.end - 512..place.end - 416;
        for at in header.chain(trailer) {
            let what = || format!("{}: byte {at} of a structure", image.name);
            offer(sink, what, || flipped(&image.file, 8 * at + at % 8));
        }
    }
}

/// One bit of each stored byte: under a right checksum, under the old one, and without any.
pub(super) fn blocks(sink: Sink<'_>) {
    for (image, spec) in compressed() {
        let crc = if spec.verify == 0 { 0 } else { 4 };
        let mut begin = payload(&image).start + 512;
        for (number, block) in spec.blocks.iter().enumerate() {
            for at in 0..block.len() {
                // All bits of the first bytes, where streams say what they are.
                let bits = if at < 16 { 0..8 } else { at % 8..at % 8 + 1 };
                for bit in bits {
                    let what = || format!("{}: block {number} byte {at} bit {bit}", image.name);
                    let built = |verify| {
                        let mut bad = spec.clone();
                        bad.blocks[number][at] ^= 1 << bit;
                        bad.verify = verify;
                        wrap(image.name, &bad.build())
                    };
                    offer(sink, what, || built(spec.verify));
                    if crc != 0 && at % 7 == 0 {
                        let what = || format!("{}, without checksums", what());
                        offer(sink, what, || built(0));
                    }
                    if crc != 0 && at % 7 == 3 {
                        let what = || format!("{}, old checksum", what());
                        offer(sink, what, || flipped(&image.file, 8 * (begin + at) + bit));
                    }
                }
            }
            for (back, bit) in (1..=crc).zip([0, 7, 3, 5]) {
                let end = begin + block.len() + crc;
                let what = || format!("{}: checksum of block {number}, byte {back}", image.name);
                offer(sink, what, || flipped(&image.file, 8 * (end - back) + bit));
            }
            begin += block.len() + crc;
        }
    }
}
