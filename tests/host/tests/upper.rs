// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A writable layer against power cuts: whatever is lost of what was not flushed, each sector holds
//! what was flushed, or something younger.

use vbd_format::upper::{home_places, CLUSTER_SECTORS};
use vbd_tests_host::rng::Rng;
use vbd_tests_host::upper::{Break, Limits, Op, Sim};

/// Power cuts that a test tries at least, all runs together.
const CUTS: u64 = 100_000;

fn run(limits: Limits, seed: u64, broken: Break) -> Result<u64, String> {
    Sim::new(limits, seed, broken).run()
}

/// Small disks, where everything meets everything, and many cuts.
const SMALL: Limits = Limits {
    sectors: 300,
    operations: 60,
    depth: 3,
    cuts: 2,
};

/// Disks of several regions.
const LARGE: Limits = Limits {
    sectors: 9000,
    operations: 80,
    depth: 3,
    cuts: 1,
};

#[test]
fn no_power_cut_loses_what_was_flushed() {
    let mut cuts = 0;
    let mut seed = 0;
    while cuts < CUTS {
        seed += 1;
        cuts += run(SMALL, seed, Break::Nothing).unwrap_or_else(|wrong| panic!("{seed}: {wrong}"));
    }
    println!("{cuts} power cuts in {seed} runs");
}

#[test]
fn regions_do_not_mix() {
    for seed in 0..12 {
        run(LARGE, seed, Break::Nothing).unwrap_or_else(|wrong| panic!("{seed}: {wrong}"));
    }
}

#[test]
fn pairs_of_others_are_continued() {
    for seed in 0..80 {
        let run = Sim::continued(SMALL, seed, Break::Nothing).run();
        run.unwrap_or_else(|wrong| panic!("{seed}: {wrong}"));
    }
}

/// Every sequence of so many operations on three sectors of two clusters, and after each step of it every
/// subset of what was not synced.
#[test]
fn short_sequences_hold_whatever_arrives() {
    const LENGTH: u32 = 4;
    const TINY: Limits = Limits {
        sectors: 130,
        operations: 0,
        depth: 0,
        cuts: 0,
    };
    let ops = [
        Op::Write(0),
        Op::Write(1),
        Op::Write(128),
        Op::Discard(0),
        Op::Discard(128),
        Op::Zeroes(1),
        Op::Flush,
    ];
    let mut cuts = 0;
    for number in 0..(ops.len() as u32).pow(LENGTH) {
        let choose =
            |place: u32| ops[(number / (ops.len() as u32).pow(place)) as usize % ops.len()];
        let sequence: Vec<Op> = (0..LENGTH).map(choose).collect();
        let sim = Sim::new(TINY, 0, Break::Nothing);
        cuts += sim
            .exhaust(&sequence)
            .unwrap_or_else(|wrong| panic!("{sequence:?}: {wrong}"));
    }
    println!("{cuts} power cuts");
}

/// A window is a cluster's alone if no other begins in it or reaches into it.
#[test]
fn windows_that_nobody_shares_are_homes() {
    let mut rng = Rng(5);
    for count in 0..60 {
        let windows: Vec<u64> = (0..count)
            .map(|_| 8 * rng.below(40 * (count + 1)))
            .collect();
        let mut sorted = windows.clone();
        let is_home = home_places(&mut sorted);
        for (index, &window) in windows.iter().enumerate() {
            let mut others = windows
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index);
            let alone = others.all(|(_, &other)| other.abs_diff(window) >= CLUSTER_SECTORS);
            assert_eq!(
                is_home(window),
                alone && window >= 8,
                "{window} of {windows:?}"
            );
        }
    }
}

/// Nothing is guessed when a record is damaged that was on disk before others were written.
#[test]
fn a_log_that_is_damaged_in_its_middle_is_refused() {
    let mut tried = 0;
    for seed in 0..150 {
        let sim = Sim::new(SMALL, seed, Break::Nothing);
        sim.run().unwrap_or_else(|wrong| panic!("{seed}: {wrong}"));
        match sim.damaged() {
            None => {}
            Some(Ok(end)) => panic!("{seed}: the log ends at {end}, and nobody minds"),
            Some(Err(error)) => {
                tried += 1;
                let known = ["a group of records is damaged", "points into the header"];
                assert!(known.iter().any(|k| error.contains(k)), "{seed}: {error}");
            }
        }
    }
    assert!(tried > 75, "only {tried} logs have groups to damage");
}

/// Each rule, broken, is noticed within so many runs.
#[test]
fn a_broken_rule_is_noticed() {
    for broken in [
        Break::RecordsFirst,
        Break::LogUnsynced,
        Break::DataUnsynced,
        Break::FailedSyncForgotten,
        Break::LogNotCut,
        Break::PlaceTwice,
        Break::TailInWindow,
        Break::StoredLate,
    ] {
        let noticed = (0..200).find_map(|seed| run(SMALL, seed, broken).err());
        assert!(noticed.is_some(), "nobody notices {broken:?}");
    }
}
