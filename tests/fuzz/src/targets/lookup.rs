// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Answers from a merged index against a search from its start.

use crate::input::Input;
use vbd_format::lsmt::{part_end, Directory, Index, PieceKind, Pieces, Segment, PADDING_OFFSET};
use vbd_tests_host::open::directory;

/// Where indexes begin.
const BASES: [u64; 4] = [0, (1 << 32) - 40, 1 << 49, PADDING_OFFSET - 200];

/// Reads of one index.
const READS: usize = 6;
/// Parts that a read is cut into at most.
const PARTS: usize = 24;

/// Base, records, and then reads: start, length and virtual size.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let base = BASES[input.below(4)];
    let mut index = Vec::new();
    let mut at = base;
    for _ in 0..input.below(24) {
        let [gap, len, kind] = input.array();
        let (offset, sectors) = (at + u64::from(gap), 1 + u64::from(len));
        let moffset = u64::from(kind) << (kind & 31);
        let Some(segment) = Segment::new(offset, sectors, moffset, kind & 1 == 1) else {
            break;
        };
        index.push(segment.with_tag(kind));
        at = offset + sectors;
    }
    // With a directory, and without.
    let (grid, starts) = directory(&index);
    assert!(starts.len() <= index.len(), "{} places", starts.len());
    let with = Index::with(&index, Directory::new(grid, &starts));
    let without = Index::from(&index[..]);
    for sector in (base.saturating_sub(2)..).step_by(7).take(12) {
        let found = index
            .iter()
            .position(|segment: &Segment| segment.end() > sector);
        let found = found.unwrap_or(index.len());
        assert_eq!((with.find(sector), without.find(sector)), (found, found));
    }
    for _ in 0..READS {
        if input.is_empty() {
            break;
        }
        let start = base * 512 + input.short() * 8;
        let end = start + input.short() * 8;
        let size = match input.byte() {
            0 => base * 512 + input.short() * 8,
            1 => input.word() % (1 << 59),
            _ => 1 << 59,
        };
        answers(&index, with, start, end, size);
        parts(with, start & !511, end & !511, input.below(32) as u64 * 512);
    }
}

/// Where a byte comes from, by looking at every record.
fn origin(index: &[Segment], byte: u64, size: u64) -> PieceKind {
    let sector = byte / 512;
    let mut covering = index.iter();
    let found = covering.find(|s| s.offset() <= sector && sector < s.end());
    match found {
        _ if byte >= size => PieceKind::Zeroed,
        None => PieceKind::Hole,
        Some(segment) if segment.zeroed() => PieceKind::Zeroed,
        Some(segment) => PieceKind::Data {
            layer: segment.tag(),
            offset: segment.moffset() * 512 + (byte - segment.offset() * 512),
        },
    }
}

fn answers(index: &[Segment], asked: Index<'_>, start: u64, end: u64, size: u64) {
    let mut at = start;
    for piece in Pieces::new(asked, start, end, size) {
        assert!(piece.start == at && piece.len != 0, "{piece:?} at {at}");
        let last = at + piece.len - 1;
        for byte in [at, at + piece.len / 2, last] {
            let inside = byte - at;
            let want = origin(index, byte, size);
            let got = match piece.kind {
                PieceKind::Data { layer, offset } => PieceKind::Data {
                    layer,
                    offset: offset + inside,
                },
                other => other,
            };
            assert_eq!(got, want, "byte {byte} of {piece:?}");
        }
        at += piece.len;
    }
    assert_eq!(at, end.max(start), "pieces end early");
}

fn parts(index: Index<'_>, start: u64, end: u64, target: u64) {
    let mut at = start;
    for _ in 0..PARTS {
        if at >= end {
            break;
        }
        let next = part_end(index, at, end, target, |layer| {
            (layer & 2 == 0).then_some(4096)
        });
        assert!(
            next > at && next <= end && next % 512 == 0,
            "{next} after {at}"
        );
        assert!(
            next - at < target.max(512) + 4096,
            "a part of {}",
            next - at
        );
        at = next;
    }
}
