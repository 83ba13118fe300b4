// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Damaged images, thousands of them, each made of a good one by one deed.
//!
//! What has to become of each is not written here: [`crate::decoder`] works it out. The host tests
//! show that the format core agrees, the cases `corrupt::` of the virtual machine that the driver
//! does. Everything is the same in every run.

mod fields;
mod flips;
mod records;
mod sizes;
mod stacks;
mod streams;
mod tables;

use crate::images::Image;
use std::ops::Range;

/// A damaged stack.
#[derive(Clone, Debug)]
pub struct Case {
    /// The image, the place and the deed.
    pub name: String,
    /// Layer files, bottom first.
    pub files: Vec<Vec<u8>>,
}

/// Makes a case.
pub type Make<'a> = &'a dyn Fn() -> Case;

/// Is offered one case after the other, and has those made that it wants: all at once they would
/// fill the memory of a small machine, and making them takes its time.
pub type Sink<'a> = &'a mut dyn FnMut(Make<'_>);

/// A kind of damage.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What it is about.
    pub name: &'static str,
    /// Offers all cases, in the same order each time.
    pub make: fn(Sink<'_>),
    /// Each so many-th case is enough where time is short; a prime, so that no loop is met at the
    /// same place only.
    pub stride: usize,
    /// The same where it may take a quarter of an hour.
    pub long_stride: usize,
}

macro_rules! kinds {
    ($($name:ident: $make:path, $stride:literal, $long_stride:literal;)*) => {
        /// All kinds of damage.
        pub const KINDS: &[Kind] = &[
            $(Kind {
                name: stringify!($name),
                make: $make,
                stride: $stride,
                long_stride: $long_stride,
            },)*
        ];
    };
}

kinds! {
    tar_fields: fields::tar, 61, 1;
    zfile_fields: fields::zfile, 149, 3;
    lsmt_fields: fields::lsmt, 73, 2;
    index_records: records::fields, 47, 2;
    record_lists: records::lists, 7, 1;
    jump_tables: tables::entries, 37, 1;
    truncations: sizes::all, 31, 1;
    metadata_flips: flips::metadata, 127, 3;
    block_flips: flips::blocks, 479, 13;
    codec_streams: streams::all, 59, 2;
    stacks: stacks::all, 7, 1;
}

/// The kind of that name.
pub fn kind(name: &str) -> Kind {
    let found = KINDS.iter().find(|kind| kind.name == name);
    *found.unwrap_or_else(|| panic!("no kind {name}"))
}

/// Offers a case of one layer file.
fn offer(sink: Sink<'_>, name: impl Fn() -> String, file: impl Fn() -> Vec<u8>) {
    sink(&|| Case {
        name: name(),
        files: vec![file()],
    });
}

/// Values of a field of `width` bytes that code may stumble over; `near` are numbers around which
/// something changes.
fn values(old: u64, width: usize, near: &[u64]) -> Vec<u64> {
    let bits = 8 * width as u32;
    let max = u64::MAX >> (64 - bits);
    let sign = 1 << (bits - 1);
    let mut values = vec![
        0,
        1,
        2,
        sign - 1,
        sign,
        sign + 1,
        max - 1,
        max,
        max / 16 + 1,
    ];
    for &edge in [old].iter().chain(near) {
        let around = [-512, -1, 0, 1, 512].map(|by| edge.wrapping_add_signed(by));
        values.extend(around);
        // A value that is right in its low half alone.
        values.push(edge | 1 << (bits / 2));
    }
    values.retain(|&value| value <= max && value != old);
    values.sort_unstable();
    values.dedup();
    values
}

fn get(bytes: &[u8], at: usize, width: usize) -> u64 {
    let mut value = [0; 8];
    value[..width].copy_from_slice(&bytes[at..at + width]);
    u64::from_le_bytes(value)
}

fn set(bytes: &mut [u8], at: usize, width: usize, value: u64) {
    bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}

/// Where a layer file's payload lies.
fn payload(image: &Image) -> Range<usize> {
    use crate::images::{padding, payload_at};
    payload_at(image.name)..image.file.len() - padding(image.name, &image.file)
}
