// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Jump tables: entries at the values where something changes, and tables that are too short, too
//! long, or of blocks that swapped a byte.

use super::{get, offer, payload, set, values, Sink};
use crate::crc::RawCrc;
use crate::images::{good, inner, pack, Image};
use crate::zfile::{self, Spec};
use std::collections::BTreeSet;
use vbd_format::Checksum as _;

/// Gives both structures the checksum of the table as it is now, and right digests.
pub(super) fn seal_table(file: &mut [u8], spec: &Spec, start: usize, end: usize) {
    let table = start + spec.table_at() as usize;
    let sum = RawCrc.crc32c(0, &file[table..table + 4 * spec.blocks.len()]);
    for at in [start, end - 512] {
        // A header that is not overwritten holds no numbers.
        if at != start || spec.overwritten {
            set(file, at + 64, 4, u64::from(sum));
        }
        if spec.digest {
            zfile::seal(file, at);
        }
    }
}

pub(super) fn compressed() -> Vec<(Image, Spec)> {
    let images = good().into_iter();
    let images = images.filter(|image| !image.name.contains("plain"));
    let layer = inner().build();
    images
        .map(|image| {
            let spec = pack(image.name, &layer);
            (image, spec)
        })
        .collect()
}

/// Every kind of wrong table.
pub(super) fn entries(sink: Sink<'_>) {
    for (image, spec) in compressed() {
        let place = payload(&image);
        let table = place.start + spec.table_at() as usize;
        let count = spec.blocks.len();
        let mut tell = |what: String, file: Vec<u8>, sealed: bool| {
            let what = || format!("{}: {what}, sealed {sealed}", image.name);
            offer(sink, what, || {
                let mut file = file.clone();
                if sealed {
                    seal_table(&mut file, &spec, place.start, place.end);
                }
                file
            });
        };
        let longest = u64::from(spec.block_size) + u64::from(spec.block_size) / 255 + 20;
        let numbers = [0, 1, count / 2, count.saturating_sub(2), count - 1];
        let numbers: BTreeSet<usize> = numbers.into_iter().filter(|&n| n < count).collect();
        for number in numbers {
            let at = table + 4 * number;
            let old = get(&image.file, at, 4);
            for value in values(old, 4, &[4, longest, 1 << 16, 1 << 17, spec.table_at()]) {
                for sealed in [true, false] {
                    let mut file = image.file.clone();
                    set(&mut file, at, 4, value);
                    tell(format!("entry {number} = {value:#x}"), file, sealed);
                }
            }
        }
        // Bytes that pass from a block to its neighbour.
        for number in 0..count - 1 {
            for by in [1u32, 4, 5] {
                let mut file = image.file.clone();
                for (at, by) in [
                    (table + 4 * number, by),
                    (table + 4 * number + 4, by.wrapping_neg()),
                ] {
                    let new = (get(&file, at, 4) as u32).wrapping_add(by);
                    set(&mut file, at, 4, u64::from(new));
                }
                tell(format!("entry {number} takes {by}"), file, true);
            }
        }
        let mut swapped = image.file.clone();
        swapped.copy_within(table..table + 4, table + 4 * (count - 1));
        tell("the first length for the last".into(), swapped, true);
    }
}
