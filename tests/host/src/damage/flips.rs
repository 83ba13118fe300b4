// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Single bits: all of those in metadata, one in each byte of stored blocks.

use super::tables::{compressed, seal_table};
use super::{one, payload, Sink};
use crate::images::{inner, pack, wrap};

/// Each bit of a layer's index, and of jump tables.
pub(super) fn metadata(sink: Sink<'_>) {
    let layer = inner();
    let plain = layer.build();
    let index = layer.index_at() as usize;
    // Records of padding are all alike.
    for bit in 8 * index..8 * (index + 16 * 7) {
        let mut bytes = plain.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        sink(one(
            format!("plain: index bit {}", bit - 8 * index),
            bytes.clone(),
        ));
        if bit % 5 == 0 {
            for name in ["pax lz4 overwritten", "zstd trailer"] {
                let payload = pack(name, &bytes).build();
                let what = format!("{name}: index bit {}", bit - 8 * index);
                sink(one(what, wrap(name, &payload)));
            }
        }
    }
    for (image, spec) in compressed() {
        let place = payload(&image);
        let table = place.start + spec.table_at() as usize;
        for bit in 8 * table..8 * (table + 4 * spec.blocks.len()) {
            for sealed in [true, false] {
                let mut file = image.file.clone();
                file[bit / 8] ^= 1 << (bit % 8);
                if sealed {
                    seal_table(&mut file, &spec, place.start, place.end);
                }
                let bit = bit - 8 * table;
                let what = format!("{}: table bit {bit}, sealed {sealed}", image.name);
                sink(one(what, file));
            }
        }
        let structures = [
            place.start..place.start + 96,
            place.end - 512..place.end - 416,
        ];
        for at in structures.into_iter().flatten() {
            let mut file = image.file.clone();
            file[at] ^= 1 << (at % 8);
            sink(one(
                format!("{}: byte {at} of a structure", image.name),
                file,
            ));
        }
    }
}

/// One bit of each stored byte: with the checksum as it was, with a right one, and without any.
pub(super) fn blocks(sink: Sink<'_>) {
    for (image, spec) in compressed() {
        for (number, block) in spec.blocks.iter().enumerate() {
            for at in 0..block.len() {
                // All bits of the first bytes, where streams say what they are.
                let bits = if at < 16 { 0..8 } else { at % 8..at % 8 + 1 };
                for bit in bits {
                    let what = format!("{}: block {number} byte {at} bit {bit}", image.name);
                    let mut bad = spec.clone();
                    bad.blocks[number][at] ^= 1 << bit;
                    let file = wrap(image.name, &bad.build());
                    sink(one(what.clone(), file));
                    if spec.verify != 0 && at % 7 == 0 {
                        bad.verify = 0;
                        let file = wrap(image.name, &bad.build());
                        sink(one(format!("{what}, without checksums"), file));
                    }
                }
            }
        }
        if spec.verify == 0 {
            continue;
        }
        let mut at = payload(&image).start + 512;
        for (number, block) in spec.blocks.iter().enumerate() {
            at += block.len() + 4;
            let places = (at - 4..at).chain([at - 5]);
            for (place, bit) in places.zip([0, 7, 3, 5, 2]) {
                let mut file = image.file.clone();
                file[place] ^= 1 << bit;
                let back = at - place;
                let what = format!(
                    "{}: {back} bytes from the end of block {number}",
                    image.name
                );
                sink(one(what, file));
            }
        }
    }
}
