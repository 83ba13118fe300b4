// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Helpers of the host tests: images made byte by byte, sources in memory, flat models.
//!
//! Everything that makes an image writes the bytes by the numbers of `docs/format-*.md`, never
//! through the code under test. [`open`] is the other way round: a small reader that does nothing
//! but call the format core in the order that its users do.

pub mod codec;
pub mod compare;
pub mod crc;
pub mod damage;
pub mod decoder;
pub mod images;
pub mod lsmt;
pub mod mem;
pub mod model;
pub mod open;
pub mod plan;
pub mod rng;
pub mod tar;
pub mod upper;
pub mod zfile;

/// Writes the bytes of `value` at byte `at`.
pub fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// Writes a u32 at byte `at`.
pub fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, value.to_le_bytes());
}

/// Writes a u64 at byte `at`.
pub fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    put(bytes, at, value.to_le_bytes());
}
