// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Merging of indexes against sectors one by one.

use crate::input::Input;
use vbd_format::lsmt::{Segment, PADDING_OFFSET};
use vbd_tests_host::lsmt::Record;
use vbd_tests_host::model::{Cell, Flat};
use vbd_tests_host::open::merge;

/// Sectors of the model.
const SECTORS: u64 = 1200;
/// Where disks begin: at the start, around 32 bits, and so that they end past the last sector.
const BASES: [u64; 4] = [0, (1 << 32) - 600, 1 << 41, PADDING_OFFSET - 500];

/// Base, number of layers; gap, length, place and kind of records.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let base = BASES[input.below(4)];
    let mut layers: Vec<Vec<Segment>> = Vec::new();
    let mut flat = Flat::new(base, SECTORS as usize);
    let count = 1 + input.below(9);
    for layer in 0..count {
        let mut at = base;
        let mut segments = Vec::new();
        let mut records = Vec::new();
        for _ in 0..input.below(32) {
            let [gap, len, kind] = input.array();
            let offset = at + u64::from(gap & 0x7f) * if kind & 2 == 0 { 1 } else { 8 };
            let record = Record {
                offset,
                len: 1 + u64::from(len) % 190,
                moffset: 8 + u64::from(kind) * 1000 + offset % 7,
                zeroed: kind & 1 == 1,
                tag: 0,
            };
            if record.offset >= PADDING_OFFSET || record.end() > base + SECTORS {
                break;
            }
            at = record.end();
            let segment = Segment::new(record.offset, record.len, record.moffset, record.zeroed);
            segments.push(segment.expect("fields of their size"));
            records.push(record);
        }
        flat.apply(layer as u8, &records);
        layers.push(segments);
    }
    let merged = merge(&layers).expect("few layers");
    let mut sectors = vec![Cell::Hole; SECTORS as usize];
    let mut end = 0;
    for segment in &merged {
        assert!(
            segment.sectors() != 0 && segment.offset() >= end,
            "order of {merged:?}"
        );
        end = segment.end();
        for i in 0..segment.sectors() {
            let place = (segment.offset() + i - base) as usize;
            sectors[place] = match segment.zeroed() {
                true => Cell::Zero(segment.tag()),
                false => Cell::Data(segment.tag(), segment.moffset() + i),
            };
        }
    }
    for (sector, (got, want)) in sectors.iter().zip(&flat.cells).enumerate() {
        // What has no address need not be there.
        let addressed = base + sector as u64 <= PADDING_OFFSET;
        let dropped = !addressed && *got == Cell::Hole;
        assert!(
            got == want || dropped,
            "sector {sector}: {got:?} for {want:?}"
        );
    }
}
