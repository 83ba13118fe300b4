// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Stacks of layers made byte by byte, and the disk that each has to be.

use vbd_tests_host::lsmt::{self, Record};
use vbd_tests_host::rng::Rng;
use vbd_tests_host::{tar, zfile};

/// Most sectors of a record: its length field has 14 bits.
const MOST_SECTORS: u64 = (1 << 14) - 1;

/// How a layer is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    Plain,
    /// LZ4 in blocks of 4 KiB.
    Lz4,
    /// ZSTD in blocks of 64 KiB.
    Zstd,
    /// LZ4 in a tar archive.
    Tar,
}

/// All of them, for stacks that mix.
pub(super) const MIXED: [Form; 4] = [Form::Plain, Form::Lz4, Form::Zstd, Form::Tar];

/// Layer files, bottom first, and what they show.
pub(super) struct Stack {
    pub(super) files: Vec<Vec<u8>>,
    /// The LSMT bytes of each file, which `zfile_target` shows.
    pub(super) blobs: Vec<Vec<u8>>,
    pub(super) disk: Vec<u8>,
}

/// Stores LSMT bytes.
pub(super) fn store(form: Form, blob: &[u8]) -> Vec<u8> {
    let compressed = |algo, block_size| zfile::Spec::of(blob, algo, block_size).build();
    match form {
        Form::Plain => blob.to_vec(),
        Form::Lz4 => compressed(1, 4096),
        Form::Zstd => compressed(2, 65536),
        Form::Tar => tar::wrap_pax(&compressed(1, 4096)),
    }
}

/// A stack of random segments and zeroes, with holes that show the layer below.
pub(super) fn stack(seed: u64, bytes: usize, forms: &[Form]) -> Stack {
    let mut rng = Rng(seed);
    let mut stack = Stack {
        files: Vec::new(),
        blobs: Vec::new(),
        disk: vec![0; bytes],
    };
    for form in forms {
        let blob = layer(&mut rng, &mut stack.disk);
        stack.files.push(store(*form, &blob));
        stack.blobs.push(blob);
    }
    stack
}

/// One layer over `disk`, and what that changes.
fn layer(rng: &mut Rng, disk: &mut [u8]) -> Vec<u8> {
    let sectors = (disk.len() / 512) as u64;
    let (mut data, mut records) = (Vec::new(), Vec::new());
    let mut at = rng.below(64);
    while at < sectors {
        // Mostly short runs; now and then one that several workers share.
        let longest = if rng.below(16) == 0 { 900 } else { 48 };
        let run = (1 + rng.below(longest)).min(sectors - at);
        let place = at as usize * 512..(at + run) as usize * 512;
        let stored = 8 + data.len() as u64 / 512;
        if rng.below(5) == 0 {
            records.push(Record::zero(at, run, stored));
            disk[place].fill(0);
        } else {
            let new = rng.texture(run as usize * 512);
            records.push(Record::data(at, run, stored));
            disk[place].copy_from_slice(&new);
            data.extend_from_slice(&new);
        }
        at += run;
        if rng.below(3) != 0 {
            at += rng.below(96);
        }
    }
    build(disk.len(), data, &records)
}

/// The LSMT bytes of a layer, in whole sectors as those of every writer.
fn build(disk: usize, data: Vec<u8>, records: &[Record]) -> Vec<u8> {
    let mut spec = lsmt::Spec::new(disk as u64, data, records);
    spec.junk_after_index = vec![0; (512 - records.len() * 16 % 512) % 512];
    spec.build()
}

/// The LSMT bytes of a layer that holds all of `disk` in order: disk byte `x` is at `4096 + x`.
pub(super) fn whole(disk: &[u8]) -> Vec<u8> {
    let sectors = (disk.len() / 512) as u64;
    let starts = (0..sectors).step_by(MOST_SECTORS as usize);
    let records: Vec<Record> = starts
        .map(|at| Record::data(at, MOST_SECTORS.min(sectors - at), 8 + at))
        .collect();
    build(disk.len(), disk.to_vec(), &records)
}
