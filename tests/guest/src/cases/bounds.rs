// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What images, devices and reads take of the machine, and that it is no more than the documents say.

pub(super) mod blocks;
pub(super) mod buffers;
pub(super) mod memory;
pub(super) mod sharing;

use super::support::memory::Meminfo;
use super::support::scratch::Scratch;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::zfile::mostly_table;

/// What a disk of [`layer_of`] holds, and nothing but zeroes follows it.
fn content(seed: u8) -> Vec<u8> {
    vec![seed; 4096]
}

/// A layer of `blocks` blocks of `block_size` bytes, with few bytes for each.
fn layer_of(scratch: &Scratch, name: &str, seed: u8, block_size: u32, blocks: u64) -> PathBuf {
    let layer = Spec::new(1 << 20, content(seed), &[Record::data(0, 8, 8)]).build();
    let image = mostly_table(&layer, block_size, blocks);
    let path = scratch.join(name);
    let file = File::create(&path).expect("a layer");
    file.set_len(image.size).expect("its size");
    for (at, bytes) in &image.pieces {
        file.write_all_at(bytes, *at).expect("a piece of it");
    }
    path
}

/// KiB of large pieces of the kernel's memory.
fn large_pieces() -> i64 {
    Meminfo::read().kib("VmallocUsed")
}
