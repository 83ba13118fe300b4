// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Damaged images by the thousand: each is attached through configfs and read whole. What has to
//! become of it is worked out by the second reader (`tests/host/src/decoder.rs`), never by the
//! driver's own core.
//!
//! A run takes a sample of them, the same in every run, and the long form a much larger one: making
//! a disk takes an emulated machine a tenth of a second. The core goes through all of them on the
//! host (`tests/host/tests/damage.rs`).

mod bombs;
mod nested;
mod stand;

use crate::case::{long, Case};
use stand::Stand;
use std::time::Instant;
use vbd_tests_host::damage;

pub(super) const CASES: &[Case] = crate::cases::cases![
    tar_fields,
    zfile_fields,
    lsmt_fields,
    index_records,
    record_lists,
    jump_tables,
    truncations,
    metadata_flips,
    block_flips,
    codec_streams,
    stacks,
];

pub(super) use bombs::{CASES as BOMBS, LONG};
pub(super) use nested::CASES as NESTED;

/// Shows the cases of a kind to the driver.
fn show(name: &str) {
    let kind = damage::kind(name);
    let stride = match long() {
        true => kind.long_stride,
        false => kind.stride,
    };
    let begin = Instant::now();
    let mut stand = Stand::new();
    let mut number = 0;
    (kind.make)(&mut |make| {
        if number % stride == 0 {
            stand.show(&make());
        }
        number += 1;
    });
    let tally = stand.finish();
    let seconds = begin.elapsed().as_secs_f32();
    println!("note corrupt::{name}: {tally}, of {number} in {seconds:.1} s");
    assert!(tally.images() * stride >= number, "{tally} of {number}");
}

fn tar_fields() {
    show("tar_fields");
}

fn zfile_fields() {
    show("zfile_fields");
}

fn lsmt_fields() {
    show("lsmt_fields");
}

fn index_records() {
    show("index_records");
}

fn record_lists() {
    show("record_lists");
}

fn jump_tables() {
    show("jump_tables");
}

fn truncations() {
    show("truncations");
}

fn metadata_flips() {
    show("metadata_flips");
}

fn block_flips() {
    show("block_flips");
}

fn codec_streams() {
    show("codec_streams");
}

fn stacks() {
    show("stacks");
}
