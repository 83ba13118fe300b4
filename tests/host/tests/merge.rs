// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The merge of layers against a flat model: whatever the layers, each sector is that of the
//! topmost layer which has a record for it.

mod property;

use property::config;
use proptest::prelude::*;
use vbd_format::lsmt::{Cursor, Merge, Segment, PADDING_OFFSET};
use vbd_tests_host::lsmt::Record;
use vbd_tests_host::model::{Cell, Flat};
use vbd_tests_host::open::merge;
use vbd_tests_host::plan::Plan;

/// What must hold of any merged index; `sectors` of the model from its base on are compared.
fn compare(plans: &[Plan], base: u64, sectors: usize) {
    let layers: Vec<Vec<Segment>> = plans.iter().map(Plan::load).collect();
    let index = merge(&layers).expect("a stack");

    let mut model = Flat::new(base, sectors);
    for (i, plan) in plans.iter().enumerate() {
        model.apply(i as u8, &plan.records());
    }
    let mut got = Flat::new(base, sectors);
    let mut previous_end = 0;
    for segment in &index {
        assert!(segment.offset() >= previous_end, "not sorted: {segment:?}");
        assert!(segment.sectors() != 0, "empty: {segment:?}");
        previous_end = segment.end();
        let record = Record {
            offset: segment.offset(),
            len: segment.sectors(),
            moffset: segment.moffset(),
            zeroed: segment.zeroed(),
            tag: segment.tag(),
        };
        got.apply(segment.tag(), &[record]);
        // The segment is a cut of one record of its layer; front cuts move the stored place.
        let source = layers[usize::from(segment.tag())]
            .iter()
            .find(|s| s.offset() <= segment.offset() && segment.end() <= s.end())
            .unwrap_or_else(|| panic!("from nowhere: {segment:?}"));
        let cut = if source.zeroed() {
            0
        } else {
            segment.offset() - source.offset()
        };
        assert_eq!(segment.moffset(), source.moffset() + cut);
        assert_eq!(segment.zeroed(), source.zeroed());
    }
    for (i, (want, got)) in model.cells.iter().zip(&got.cells).enumerate() {
        assert_eq!(want, got, "sector {}", base + i as u64);
    }
}

fn layer(
    base: u64,
    records: impl Into<prop::collection::SizeRange>,
    gap: u64,
    len: u64,
) -> impl Strategy<Value = Plan> {
    prop::collection::vec((0..=gap, 0..=len, any::<u64>()), records)
        .prop_map(move |steps| Plan { base, steps })
}

proptest! {
    #![proptest_config(config(500))]

    /// Fragments of a few sectors, many borders that coincide.
    #[test]
    fn fragments(plans in prop::collection::vec(layer(0, 0..40, 3, 4), 1..=12)) {
        compare(&plans, 0, 300);
    }

    /// Long records over short ones and the other way round.
    #[test]
    fn mixed_lengths(
        long in prop::collection::vec(layer(0, 0..4, 500, 3000), 1..=4),
        short in prop::collection::vec(layer(100, 0..60, 40, 60), 1..=4),
        turn in any::<bool>(),
    ) {
        let mut plans = [long, short].concat();
        if turn {
            plans.reverse();
        }
        compare(&plans, 0, 15_000);
    }

    /// Around 2 TiB, where upstream's 32-bit keys wrap.
    #[test]
    fn around_two_tib(plans in prop::collection::vec(layer((1 << 32) - 100, 0..30, 9, 12), 1..=6)) {
        compare(&plans, (1 << 32) - 100, 800);
    }

    /// At the end of what 50 bits address; records may end past it.
    #[test]
    fn at_the_last_sector(plans in prop::collection::vec(layer((1 << 50) - 60, 0..30, 5, 30), 1..=6)) {
        compare(&plans, (1 << 50) - 60, 60);
    }
}

proptest! {
    #![proptest_config(config(25))]

    /// As many layers as a stack may have.
    #[test]
    fn many_layers(plans in prop::collection::vec(layer(0, 0..12, 30, 20), 200..=255)) {
        compare(&plans, 0, 600);
    }

    /// The longest records.
    #[test]
    fn longest_records(plans in prop::collection::vec(layer(0, 1..6, 100, 16383), 1..=6)) {
        compare(&plans, 0, 100_000);
    }
}

#[test]
fn far_apart_windows_do_not_meet() {
    let bases = [0, (1 << 32) - 5, 1 << 33, (1 << 49) + 7, (1 << 50) - 40];
    let steps = vec![(1, 5, 77), (0, 5, 0), (3, 2, u64::MAX)];
    let plans: Vec<Plan> = bases
        .iter()
        .map(|&base| Plan {
            base,
            steps: steps.clone(),
        })
        .collect();
    for base in bases {
        compare(&plans, base, 40);
    }
    let layers: Vec<Vec<Segment>> = plans.iter().map(Plan::load).collect();
    assert_eq!(merge(&layers).expect("a stack").len(), 15);
}

#[test]
fn a_cut_past_fifty_bits_does_not_come_out_at_the_disk_s_start() {
    // The top record ends past 2^50, and the one below goes on: what is left of it has no address.
    let last = PADDING_OFFSET - 1;
    let below = Segment::new(last, 16383, 100, false).expect("legal");
    let above = Segment::new(last, 10, 200, false).expect("legal");
    let short = Segment::new(last, 1, 300, false).expect("legal");
    let index = merge(&[vec![below], vec![above]]).expect("a stack");
    assert_eq!(index, [above.with_tag(1)]);
    // The very last sector has an address, though no record can begin there.
    let index = merge(&[vec![below], vec![short]]).expect("a stack");
    assert_eq!(index.len(), 2);
    assert_eq!(index[0], short.with_tag(1));
    assert_eq!(
        (index[1].offset(), index[1].moffset(), index[1].tag()),
        (PADDING_OFFSET, 101, 0)
    );
    assert!(index[1].end() > PADDING_OFFSET);
}

#[test]
fn neighbours_of_one_layer_are_kept_apart() {
    let records = [Record::data(0, 5, 8), Record::data(5, 5, 13)];
    let plan = |records: &[Record]| -> Vec<Segment> {
        records
            .iter()
            .map(|r| Segment::from_bytes(r.bytes()))
            .collect()
    };
    assert_eq!(merge(&[plan(&records)]).expect("a stack").len(), 2);
    // Hidden as a whole, cut at both ends, and split.
    let top = plan(&[Record::zero(0, 5, 8), Record::data(7, 1, 8)]);
    let index = merge(&[plan(&records), top]).expect("a stack");
    let places: Vec<(u64, u64, u64, u8)> = index
        .iter()
        .map(|s| (s.offset(), s.sectors(), s.moffset(), s.tag()))
        .collect();
    assert_eq!(
        places,
        [(0, 5, 8, 1), (5, 2, 13, 0), (7, 1, 8, 1), (8, 2, 16, 0)]
    );
}

#[test]
fn empty_layers_and_dirty_cursors() {
    let one = vec![Segment::new(3, 4, 8, false).expect("legal")];
    let layers = [Vec::new(), one.clone(), Vec::new()];
    let mut cursors = vec![Cursor::default(); 7];
    for _ in 0..3 {
        let index: Vec<Segment> = Merge::new(&layers, &mut cursors)
            .expect("a stack")
            .collect();
        assert_eq!(index, [one[0].with_tag(1)]);
        // A sweep that was left half way must not matter to the next.
        let noise = [one.clone(), one.clone(), one.clone(), one.clone()];
        assert!(Merge::new(&noise, &mut cursors)
            .expect("a stack")
            .next()
            .is_some());
    }
    assert_eq!(merge(&[Vec::<Segment>::new()]), Ok(Vec::new()));
}

#[test]
fn the_model_itself() {
    let mut flat = Flat::new(10, 4);
    flat.apply(0, &[Record::data(8, 4, 20), Record::zero(13, 9, 0)]);
    flat.apply(1, &[Record::zero(11, 1, 0)]);
    let want = [Cell::Data(0, 22), Cell::Zero(1), Cell::Hole, Cell::Zero(0)];
    assert_eq!(flat.cells, want);
    assert_eq!(flat.at(9), Cell::Hole);
    assert_eq!(flat.at(12), Cell::Hole);
    assert_eq!(flat.at(13), Cell::Zero(0));
    assert_eq!(flat.at(14), Cell::Hole);
}
