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

/// Takes cases as they are made: all at once they would fill the memory of a small machine.
pub type Sink<'a> = &'a mut dyn FnMut(Case);

/// Kinds of damage: name, what it is about, and what makes it.
pub const KINDS: &[(&str, fn(Sink<'_>))] = &[
    ("tar_fields", fields::tar),
    ("zfile_fields", fields::zfile),
    ("lsmt_fields", fields::lsmt),
    ("index_records", records::fields),
    ("record_lists", records::lists),
    ("jump_tables", tables::entries),
    ("truncations", sizes::all),
    ("metadata_flips", flips::metadata),
    ("block_flips", flips::blocks),
    ("codec_streams", streams::all),
    ("stacks", stacks::all),
];

/// The kind of that name.
pub fn kind(name: &str) -> fn(Sink<'_>) {
    let mut kinds = KINDS.iter();
    let found = kinds.find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no kind {name}")).1
}

fn one(name: String, file: Vec<u8>) -> Case {
    Case {
        name,
        files: vec![file],
    }
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
