// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reads against a flat model: pieces cover a range exactly and say what each sector is.

mod property;

use property::config;
use proptest::prelude::*;
use vbd_format::lsmt::{part_end, Directory, Index, PieceKind, Pieces, Segment};
use vbd_tests_host::model::{Cell, Flat};
use vbd_tests_host::open::{directory, merge};
use vbd_tests_host::plan::Plan;

const EMPTY: &[Segment] = &[];

/// A stack, merged and flat.
fn stack(plans: &[Plan], base: u64, sectors: usize) -> (Vec<Segment>, Flat) {
    let layers: Vec<Vec<Segment>> = plans.iter().map(Plan::load).collect();
    let mut flat = Flat::new(base, sectors);
    for (i, plan) in plans.iter().enumerate() {
        flat.apply(i as u8, &plan.records());
    }
    (merge(&layers).expect("a stack"), flat)
}

/// The pieces of bytes `start..end` must be those of the model, cut at `size`.
fn compare(index: &[Segment], flat: &Flat, start: u64, end: u64, size: u64) {
    let mut at = start;
    for piece in Pieces::new(index.into(), start, end, size) {
        assert_eq!(piece.start, at, "a gap");
        assert!(piece.len != 0, "an empty piece");
        let stop = at + piece.len;
        while at < stop {
            let next = (at / 512 + 1) * 512;
            let want = match flat.at(at / 512) {
                _ if at >= size => PieceKind::Zeroed,
                Cell::Hole => PieceKind::Hole,
                Cell::Zero(_) => PieceKind::Zeroed,
                Cell::Data(layer, sector) => PieceKind::Data {
                    layer,
                    offset: sector * 512 + at % 512,
                },
            };
            let got = match piece.kind {
                PieceKind::Data { layer, offset } => PieceKind::Data {
                    layer,
                    offset: offset + (at - piece.start),
                },
                kind => kind,
            };
            assert_eq!(got, want, "byte {at} of {start}..{end}, size {size}");
            at = if at < size { next.min(size) } else { next }.min(stop);
        }
    }
    assert_eq!(at, end.max(start), "the range is not covered");
}

fn layer(base: u64) -> impl Strategy<Value = Plan> {
    prop::collection::vec((0..6u64, 0..9u64, any::<u64>()), 0..25)
        .prop_map(move |steps| Plan { base, steps })
}

fn plans(base: u64) -> impl Strategy<Value = Vec<Plan>> {
    prop::collection::vec(layer(base), 1..5)
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn pieces_equal_the_model(
        plans in plans(0),
        ranges in prop::collection::vec((0..130_000u64, 0..40_000u64), 20),
        size in 0..120_000u64,
    ) {
        let (index, flat) = stack(&plans, 0, 400);
        for (start, len) in ranges {
            compare(&index, &flat, start, start + len, size);
            compare(&index, &flat, start & !511, (start + len) & !511, size & !511);
        }
        compare(&index, &flat, 0, 400 * 512, u64::MAX);
    }

    #[test]
    fn pieces_beyond_two_tib_and_at_the_last_sector(
        far in prop::sample::select(vec![(1u64 << 32) - 20, 1 << 40, (1 << 50) - 100]),
        steps in plans(0),
        ranges in prop::collection::vec((0..60_000u64, 0..40_000u64), 10),
    ) {
        let plans: Vec<Plan> = steps.iter().map(|p| Plan { base: far, ..p.clone() }).collect();
        let sectors = 200.min((1u64 << 50) - far);
        let (index, flat) = stack(&plans, far, sectors as usize);
        let limit = (far + sectors) * 512;
        for (start, len) in ranges {
            let start = (far * 512 + start).min(limit);
            compare(&index, &flat, start, (start + len).min(limit), limit);
            compare(&index, &flat, start, (start + len).min(limit), start + len / 2);
        }
    }

    #[test]
    fn find_is_the_first_that_ends_after(plans in plans(3)) {
        let (index, _) = stack(&plans, 3, 0);
        for sector in 0..400 {
            let want = index.iter().position(|s| s.end() > sector).unwrap_or(index.len());
            assert_eq!(Index::from(&index[..]).find(sector), want);
        }
    }

    #[test]
    fn the_directory_changes_nothing(plans in plans(3), far in 0..3u32) {
        // Records that are spread over the disk, and those that crowd at its end.
        let base = [0, 1 << 20, (1 << 50) - 400][far as usize];
        let plans: Vec<Plan> = plans.into_iter().map(|plan| Plan { base, ..plan }).collect();
        let (segments, _) = stack(&plans, base, 0);
        let (grid, starts) = directory(&segments);
        assert!(starts.len() <= segments.len(), "more than a quarter of the records' memory");
        assert!(!starts.contains(&u32::MAX), "a place that was not filled");
        let plain = Index::from(&segments[..]);
        let index = Index::with(&segments, Directory::new(grid, &starts));
        let near = base.saturating_sub(5)..base + 450;
        for sector in near.chain([0, 1, 1 << 19, 1 << 40, (1 << 51) - 1, u64::MAX]) {
            assert_eq!(index.find(sector), plain.find(sector), "sector {sector}");
        }
    }

    #[test]
    fn parts(
        plans in plans(0),
        start in 0..200u64,
        sectors in 1..300u64,
        target in 1..80u64,
        shifts in prop::collection::vec(prop::option::of(9..=16u32), 5),
    ) {
        let (index, _) = stack(&plans, 0, 0);
        let (end, target) = ((start + sectors) * 512, target * 512);
        let block_size = |layer: u8| shifts[usize::from(layer)].map(|shift| 1 << shift);
        let mut at = start * 512;
        while at < end {
            let next = part_end(index[..].into(), at, end, target, block_size);
            check_part(&index, at, next, end, target, &block_size);
            at = next;
        }
        assert_eq!(at, end);
    }
}

fn check_part(
    index: &[Segment],
    at: u64,
    next: u64,
    end: u64,
    target: u64,
    block_size: &impl Fn(u8) -> Option<u32>,
) {
    assert!(at < next && next <= end, "{at} {next} {end}");
    assert_eq!(next % 512, 0);
    let cut = at + target;
    if cut >= end {
        assert_eq!(next, end);
        return;
    }
    let hit = index
        .iter()
        .find(|s| s.offset() * 512 <= cut && cut < s.end() * 512 && !s.zeroed());
    let Some(segment) = hit else {
        assert_eq!(next, cut, "a cut in zeroes need not move");
        return;
    };
    let block = u64::from(block_size(segment.tag()).unwrap_or(1));
    let stored = segment.moffset() * 512 + cut - segment.offset() * 512;
    let block_end = cut + (stored.div_ceil(block) * block - stored);
    let want = block_end.min(segment.end() * 512).min(end);
    assert_eq!(next, want, "cut at {cut}, block of {block}");
}

#[test]
fn every_alignment_of_start_end_and_size() {
    let plan = |steps: &[(u64, u64, u64)]| Plan {
        base: 0,
        steps: steps.to_vec(),
    };
    let (index, flat) = stack(
        &[
            plan(&[(1, 3, 0x12_3401), (0, 1, 0x77_0001)]),
            plan(&[(2, 1, 0), (1, 1, 0x99_0001)]),
        ],
        0,
        8,
    );
    assert_eq!(index.len(), 4);
    let places = [
        0, 1, 511, 512, 513, 1023, 1024, 1300, 1536, 2047, 2048, 2049, 2560, 3000,
    ];
    for size in places {
        for start in places {
            for end in places {
                compare(&index, &flat, start, end, size);
            }
        }
    }
    for start in 0..2700 {
        compare(&index, &flat, start, start + 700, 2600);
        compare(&index, &flat, 100, start, 2222);
    }
}

#[test]
fn no_index_and_no_range() {
    assert_eq!(Pieces::new(EMPTY.into(), 5, 5, 100).next(), None);
    assert_eq!(Pieces::new(EMPTY.into(), 6, 5, 100).next(), None);
    let pieces: Vec<_> = Pieces::new(EMPTY.into(), 10, 600, 512)
        .map(|p| (p.start, p.len, p.kind))
        .collect();
    assert_eq!(
        pieces,
        [(10, 502, PieceKind::Hole), (512, 88, PieceKind::Zeroed)]
    );
    let all: Vec<_> = Pieces::new(EMPTY.into(), 0, u64::MAX, u64::MAX).collect();
    assert_eq!(all.len(), 1);
    assert_eq!(Index::from(EMPTY).find(0), 0);
    assert_eq!(part_end(EMPTY.into(), 0, 4096, 512, |_| None), 512);
    assert_eq!(part_end(EMPTY.into(), 0, 4096, u64::MAX, |_| None), 4096);
    assert_eq!(part_end(EMPTY.into(), 4096, 4096, 512, |_| None), 4096);
}

#[test]
fn part_ends_at_block_ends() {
    // Virtual sectors 0..100 stored from sector 11: at 4 KiB, blocks end at sectors 5, 13, 21 …
    let index = [Segment::new(0, 100, 11, false).expect("legal")];
    let end = |at: u64, to: u64, target: u64, block| {
        part_end(index[..].into(), at * 512, to * 512, target * 512, |_| {
            block
        }) / 512
    };
    assert_eq!(end(0, 100, 4, Some(4096)), 5);
    assert_eq!(end(0, 100, 5, Some(4096)), 5);
    assert_eq!(end(0, 100, 6, Some(4096)), 13);
    assert_eq!(end(0, 10, 6, Some(4096)), 10);
    assert_eq!(end(0, 100, 99, Some(65536)), 100);
    assert_eq!(end(0, 100, 6, None), 6);
    assert_eq!(end(0, 300, 98, Some(65536)), 100);
    assert_eq!(end(0, 300, 150, Some(65536)), 150);
}

#[test]
fn part_end_makes_progress_whatever_the_target() {
    let index = [Segment::new(0, 100, 8, false).expect("legal")];
    for target in [0, 512] {
        assert_eq!(
            part_end(index[..].into(), 0, 51200, target, |_| Some(512)),
            512
        );
        assert_eq!(
            part_end(index[..].into(), 0, 51200, target, |_| Some(4096)),
            4096
        );
        assert_eq!(
            part_end(index[..].into(), 99 * 512, 51200, target, |_| None),
            51200
        );
    }
}

#[test]
fn part_end_at_the_largest_stored_place() {
    // 55 bits of sectors: the end of such a block is 2^64, which is no number to compute.
    let last = (1 << 55) - 1;
    let index = [Segment::new(0, 2, last - 1, false).expect("legal")];
    assert_eq!(
        part_end(index[..].into(), 0, 4096, 512, |_| Some(65536)),
        1024
    );
    assert_eq!(part_end(index[..].into(), 0, 4096, 512, |_| Some(0)), 512);
}
