// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Files that end early or late: around every structure, block, record and field.

use super::{offer, payload, Sink};
use crate::images::{good, inner, pack, wrap};
use std::collections::BTreeSet;

/// Bytes of a payload at which something begins or ends.
fn borders(name: &str, payload: &[u8]) -> BTreeSet<usize> {
    let size = payload.len();
    let mut borders = BTreeSet::from([0, 8, 24, 32, 40, 56, 96, 512, 1024, 4096, 8192, size]);
    let layer = inner();
    let structure = if name.contains("plain") {
        let index = layer.index_at() as usize;
        borders.extend((0..=layer.records.len()).map(|number| index + 16 * number));
        borders.extend((4096..index).step_by(512));
        4096
    } else {
        let spec = pack(name, &layer.build());
        let table = spec.table_at() as usize;
        borders.extend((0..=spec.blocks.len()).map(|number| table + 4 * number));
        let crc = if spec.verify == 0 { 0 } else { 4 };
        let mut at = 512;
        for block in &spec.blocks {
            borders.extend([at, at + block.len()]);
            at += block.len() + crc;
        }
        512
    };
    let end = size - structure;
    borders.extend([0, 8, 24, 28, 32, 40, 48, 56, 64, 72, 76, 96].map(|field| end + field));
    borders
}

/// Cuts and extensions.
pub(super) fn all(sink: Sink<'_>) {
    for image in good() {
        let place = payload(&image);
        let bytes = &image.file[place.clone()];
        let whole = bytes.len();
        for border in borders(image.name, bytes) {
            for length in [border.wrapping_sub(1), border, border + 1] {
                if length > whole {
                    continue;
                }
                let what = || format!("{}: {length} of {whole}", image.name);
                offer(sink, what, || image.file[..place.start + length].to_vec());
                if place.start != 0 {
                    // A wrapper that is right about what it has.
                    let what = || format!("{}, wrapped well", what());
                    offer(sink, what, || wrap(image.name, &bytes[..length]));
                }
            }
        }
        for length in [0, 1, 511, 512, 513, 1023, 1024, 1535, 1536, 1537] {
            if length < image.file.len() {
                let what = || format!("{}: {length} bytes", image.name);
                offer(sink, what, || image.file[..length].to_vec());
            }
        }
        for more in [1, 16, 511, 512, 4096] {
            for byte in [0, 0xff] {
                let what = || format!("{}: {more} bytes of {byte:#x} more", image.name);
                let longer = || [bytes, &vec![byte; more]].concat();
                offer(sink, what, || wrap(image.name, &longer()));
            }
        }
    }
}
