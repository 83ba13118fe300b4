// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Index records: each field at the values where something changes, and lists of records that
//! overlap, go back, or lie where they must not.

use super::{offer, Sink};
use crate::images::{good, inner, stored};
use crate::lsmt::{Record, Spec, PADDING};

/// Layers of all forms, with another index.
fn with_records(what: &str, records: Vec<[u8; 16]>, sink: Sink<'_>) {
    for image in good() {
        // Their compression is like that of others.
        if ["ustar plain", "zstd large overwritten", "lz4 old trailer"].contains(&image.name) {
            continue;
        }
        let what = || format!("{}: {what}", image.name);
        offer(sink, what, || {
            let mut layer = inner();
            layer.records.clone_from(&records);
            stored(image.name, &layer.build())
        });
    }
}

fn fields_of(layer: &Spec) -> Vec<Record> {
    let records = layer.records.iter();
    let records = records.filter(|raw| **raw != PADDING);
    records
        .map(|raw| super::super::decoder::record(raw))
        .collect()
}

/// Each field of each record.
pub(super) fn fields(sink: Sink<'_>) {
    let layer = inner();
    let limit = layer.index_at() / 512;
    let good = fields_of(&layer);
    for number in 0..good.len() {
        let old = good[number];
        let mut change = |what: String, record: Record| {
            let mut records = layer.records.clone();
            records[number] = record.bytes();
            with_records(&format!("record {number} {what}"), records, sink);
        };
        let around = |value: u64| [value.wrapping_sub(1), value, value + 1];
        let mut offsets: Vec<u64> = [0, 1 << 32, 1 << 49, (1 << 50) - 1].map(around).concat();
        offsets.extend(
            good.iter()
                .flat_map(|r| [around(r.offset), around(r.end())].concat()),
        );
        for offset in offsets {
            // A record is packed into 128 bits: what does not fit its field is not a record.
            if offset < 1 << 50 && offset != old.offset {
                change(format!("offset = {offset:#x}"), Record { offset, ..old });
            }
        }
        for len in [
            0, 1, 2, 3, 4, 5, 6, 7, 15, 40, 63, 64, 4095, 8191, 8192, 16382, 16383,
        ] {
            if len != old.len {
                change(format!("length = {len}"), Record { len, ..old });
            }
        }
        let mut places: Vec<u64> = [0, 7, 8, limit - old.len, limit, 1 << 31, 1 << 32]
            .map(around)
            .concat();
        places.extend([1 << 46, 1 << 54, (1 << 55) - 2, (1 << 55) - 1]);
        for moffset in places {
            if moffset < 1 << 55 && moffset != old.moffset {
                let moved = Record { moffset, ..old };
                change(format!("moffset = {moffset:#x}"), moved);
                let zeroed = !old.zeroed;
                let moved = Record { zeroed, ..moved };
                change(format!("moffset = {moffset:#x}, zeroed = {zeroed}"), moved);
            }
        }
        for tag in [1, 2, 127, 128, 254, 255] {
            change(format!("tag = {tag}"), Record { tag, ..old });
        }
    }
}

/// Lists of records.
pub(super) fn lists(sink: Sink<'_>) {
    let limit = inner().index_at() / 512;
    let data = Record::data;
    let zero = Record::zero;
    let mut lists: Vec<(&str, Vec<Record>)> = vec![
        ("none", vec![]),
        ("the same twice", vec![data(1, 2, 8), data(1, 2, 8)]),
        ("overlap by one", vec![data(1, 3, 8), data(3, 3, 8)]),
        ("touch", vec![data(1, 3, 8), data(4, 3, 8)]),
        ("backwards", vec![data(4, 3, 8), data(1, 3, 8)]),
        (
            "backwards at the end",
            vec![data(0, 1, 8), data(9, 1, 8), data(8, 1, 8)],
        ),
        ("inside", vec![data(0, 9, 8), data(3, 1, 8)]),
        ("zeroes inside", vec![data(0, 9, 8), zero(3, 1, 8)]),
        ("around zeroes", vec![zero(0, 9, 8), data(3, 1, 8)]),
        ("empty inside", vec![data(0, 9, 8), data(3, 0, 9)]),
        (
            "empty between",
            vec![data(0, 3, 8), data(3, 0, 9), data(3, 1, 9)],
        ),
        ("empty at the first sector", vec![data(0, 0, 8)]),
        ("empty zeroes", vec![zero(0, 0, 8), data(0, 1, 8)]),
        ("empty at the limit", vec![data(0, 0, limit)]),
        ("zeroes at the limit", vec![zero(0, 5, limit)]),
        (
            "shared sectors",
            vec![data(0, 5, 9), data(5, 5, 9), data(10, 5, 11)],
        ),
        (
            "stored backwards",
            vec![data(0, 2, 14), data(2, 2, 12), data(4, 2, 10)],
        ),
        (
            "all data, one sector each",
            (0..9).map(|i| data(4 * i, 1, 8 + i)).collect(),
        ),
        (
            "past the disk",
            vec![data(0, 1, 8), data(39, 5, 9), data(80, 2, 9)],
        ),
        (
            "the last sectors there are",
            vec![data((1 << 50) - 2, 1, 8)],
        ),
        ("past the last sector", vec![data((1 << 50) - 2, 9, 8)]),
        ("zeroes past the last", vec![zero((1 << 50) - 2, 16383, 8)]),
        (
            "past the last, and another",
            vec![data((1 << 50) - 3, 9, 8), data((1 << 50) - 2, 1, 8)],
        ),
        (
            "beyond 2 TiB",
            vec![data(0, 1, 8), data(1 << 32, 1, 9), data(1 << 33, 1, 10)],
        ),
        (
            "the same 32 bits",
            vec![data(7, 1, 8), data((1 << 32) + 7, 1, 9)],
        ),
    ];
    let longest = (0..40).step_by(9).map(|at| data(at, 9, 8)).collect();
    lists.push(("all data again and again", longest));
    for (what, list) in &lists {
        let records: Vec<[u8; 16]> = list.iter().map(Record::bytes).collect();
        with_records(what, records.clone(), sink);
        // Padding anywhere changes nothing, whatever else it says.
        let mut odd = PADDING;
        odd[6..].fill(0xff);
        let mut padded = vec![odd];
        for record in records {
            padded.extend([record, odd, PADDING]);
        }
        with_records(&format!("{what}, padded"), padded, sink);
    }
    with_records("padding alone", vec![PADDING; 256], sink);
    with_records("zeroes for records", vec![[0; 16]; 4], sink);
    with_records("ones for records", vec![[0xff; 16]; 4], sink);
    // The index at other places than where writers put it.
    for at in [0, 1, 512, 4095, 4096, 4097, 8000, 8191] {
        let what = || format!("plain: index at {at}");
        offer(sink, what, || {
            let mut layer = inner();
            layer.records = vec![data(0, 1, 8).bytes()];
            let mut plain = layer.build();
            let trailer = plain.len() - 4096;
            crate::put_u64(&mut plain, trailer + 32, at);
            plain
        });
    }
    for junk in [1, 15, 511, 512, 4097] {
        let what = || format!("plain: {junk} bytes of junk");
        offer(sink, what, || {
            let mut layer = inner();
            layer.junk_before_index = vec![0xa5; junk];
            layer.junk_after_index = vec![0x5a; junk + 1];
            layer.build()
        });
    }
}
