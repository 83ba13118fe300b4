// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The format core against the second reader: on upstream's kinds of images, and on each of the
//! damaged ones that the virtual machine shows to the driver.

use std::collections::BTreeMap;
use vbd_tests_host::compare::{agrees, CHUNK};
use vbd_tests_host::damage::KINDS;
use vbd_tests_host::decoder::{self, Outcome, Sector};
use vbd_tests_host::images::{disk, good};
use vbd_tests_host::lsmt::{numbered, Record, Spec};
use vbd_tests_host::zfile;

#[test]
fn the_second_reader_reads_good_images() {
    for image in good() {
        let Outcome::Open(stack) = decoder::open(&[&image.file], CHUNK) else {
            panic!("{}: refused", image.name);
        };
        assert!(stack.doubts.is_empty(), "{}", image.name);
        let disk = disk();
        assert_eq!(stack.virtual_size, disk.len() as u64);
        for (number, want) in disk.chunks(512).enumerate() {
            let got = stack.sector(number as u64);
            assert_eq!(got, Sector::Exact(want.to_vec()), "{} {number}", image.name);
        }
    }
}

/// No trailer where it should be, and two blocks that cannot be read in the way to where it may be instead:
/// which of them is told of depends on how one looks.
#[test]
fn both_readers_look_for_a_trailer_in_the_same_order() {
    let mut layer = Spec::new(1 << 16, numbered(40), &[Record::data(0, 40, 8)]).build();
    let magic = layer.len() - 4096;
    layer[magic] ^= 1;
    let spec = zfile::Spec::of(&layer, 1, 512);
    let starts: Vec<usize> = spec
        .blocks
        .iter()
        .scan(512, |at, block| {
            let start = *at;
            *at += block.len() + 4;
            Some(start)
        })
        .collect();
    let good = spec.build();
    let mut tried = 0;
    for (first, &one) in starts.iter().enumerate().skip(16) {
        for &other in &starts[first..] {
            let mut bad = good.clone();
            bad[one] ^= 0x40;
            bad[other + 1] ^= 0x40;
            agrees(&[bad]).unwrap_or_else(|what| panic!("{one} and {other}: {what}"));
            tried += 1;
        }
    }
    assert!(tried > 800, "{tried}");
}

#[test]
fn both_readers_agree_on_damaged_images() {
    let mut tally = BTreeMap::<&str, usize>::new();
    let mut wrong = Vec::new();
    let mut total = 0;
    for kind in KINDS {
        let (mut count, name) = (0, kind.name);
        (kind.make)(&mut |make| {
            let case = make();
            count += 1;
            match agrees(&case.files) {
                Ok(outcome) => *tally.entry(outcome).or_default() += 1,
                Err(what) => wrong.push(format!("{name}: {}: {what}", case.name)),
            }
        });
        println!("{name}: {count}");
        assert!(count > 30 * kind.stride, "{name}: {count} cases");
        total += count;
    }
    println!("{total}: {tally:#?}");
    assert!(
        wrong.is_empty(),
        "{} cases: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(30)]
    );
    // Enough of each: refused by most rules, opened, and opened with bad blocks.
    assert!(tally.len() > 25, "{tally:#?}");
    for outcome in ["reads", "reads in part"] {
        assert!(tally[outcome] > 500, "{outcome}: {tally:#?}");
    }
}
