// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers that a property test asks for.

use crate::lsmt::{Record, Spec, PADDING};
use vbd_format::lsmt::{load_index, probe, Segment, PADDING_OFFSET};

/// A layer to make: where its records begin, and for each one the gap before it, its length, and
/// words of which the other fields are taken.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sector that the first gap is counted from.
    pub base: u64,
    /// Gap, length, word.
    pub steps: Vec<(u64, u64, u64)>,
}

/// Sector of the index of all layers here; stored places go up to it, beyond 2 TiB.
pub const INDEX_SECTOR: u64 = 1 << 40;

impl Plan {
    /// What the plan says; records that cannot be written are left out.
    pub fn records(&self) -> Vec<Record> {
        let mut at = self.base;
        let mut records = Vec::new();
        for &(gap, len, word) in &self.steps {
            let offset = at + gap;
            if offset >= PADDING_OFFSET {
                break;
            }
            let moffset = 9 + (word >> 16) % (INDEX_SECTOR - 9 - len);
            records.push(Record {
                offset,
                len,
                moffset,
                zeroed: word & 3 == 0,
                tag: (word >> 8) as u8,
            });
            at = offset + len;
        }
        records
    }

    /// The records, through an image of this layer; padding stands between some of them.
    pub fn load(&self) -> Vec<Segment> {
        let records = self.records();
        let mut spec = Spec::new(0, Vec::new(), &[]);
        for (record, (_, _, word)) in records.iter().zip(&self.steps) {
            if word & 0x30 == 0 {
                spec.records.push(PADDING);
            }
            spec.records.push(record.bytes());
        }
        let file = spec.build_sparse(INDEX_SECTOR * 512);
        let lsmt = probe(&file).expect("a legal layer");
        let mut segments = Vec::new();
        load_index(&file, &lsmt, &mut [0; 160], |segment| {
            segments.push(segment);
            Ok(())
        })
        .expect("a legal index");

        let kept: Vec<&Record> = records.iter().filter(|r| r.len != 0).collect();
        assert_eq!(segments.len(), kept.len(), "only empty records are dropped");
        for (segment, record) in segments.iter().zip(kept) {
            assert_eq!(segment.to_bytes(), record.bytes());
        }
        segments
    }
}
