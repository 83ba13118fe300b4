// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Changes to good images: outside, inside the compressed layer, with and without checksums that
//! give them away.

use vbd_tests_host::images::{inner, pack, payload_at, wrap, Image};
use vbd_tests_host::put;
use vbd_tests_host::rng::Rng;
use vbd_tests_host::zfile::seal;

/// Numbers that sit at borders of what code computes with.
const NUMBERS: [u64; 24] = [
    0,
    1,
    3,
    7,
    8,
    9,
    15,
    16,
    511,
    512,
    4095,
    4096,
    65535,
    65536,
    65537,
    1_000_000,
    1_000_001,
    1_000_000_000,
    u32::MAX as u64,
    1 << 50,
    (1 << 59) + 1,
    i64::MAX as u64,
    u64::MAX - 511,
    u64::MAX,
];

/// One changed copy of `image`.
pub(crate) fn mutate(image: &Image, rng: &mut Rng) -> Vec<u8> {
    let name = image.name;
    if name.contains("plain") {
        return change(&image.file, &image.structures, rng);
    }
    let layer = inner();
    let mut plain = layer.build();
    if rng.below(3) == 0 {
        // Change the layer inside, and compress it well.
        let index = layer.index_at() as usize;
        let places = [0..400, index..index + 192, index + 192..index + 592];
        plain = change(&plain, &places, rng);
    }
    let mut spec = pack(name, &plain);
    match rng.below(8) {
        0 => spec.dict = rng.noise(100),
        1 => spec.junk_before_table = rng.noise(30),
        2 => spec.original_size = near(spec.original_size, rng),
        3 if !spec.blocks.is_empty() => {
            let at = rng.below(spec.blocks.len() as u64) as usize;
            let block = std::mem::take(&mut spec.blocks[at]);
            let all = 0..block.len();
            spec.blocks[at] = change(&block, &[all], rng);
        }
        4 => spec.block_size = rng.pick(&[512, 1024, 4096, 65536]),
        _ => (),
    }
    let mut payload = spec.build();
    if rng.below(2) == 0 && payload.len() >= 1024 {
        // A number of the structure in use, under a digest that agrees.
        let at = if spec.overwritten {
            0
        } else {
            payload.len() - 512
        };
        let field = rng.pick(&[32, 40, 48, 56, 64, 72, 76, 84, 88]);
        let value = number(u64::from(payload[at + field]), payload.len(), rng);
        if field == 72 || field == 64 || field == 84 {
            put(&mut payload, at + field, (value as u32).to_le_bytes());
        } else if field < 64 {
            put(&mut payload, at + field, value.to_le_bytes());
        } else {
            payload[at + field] = value as u8;
        }
        seal(&mut payload, at);
    }
    let file = wrap(name, &payload);
    if rng.below(3) == 0 {
        let table = payload_at(name) + spec.table_at() as usize;
        let places = [0..payload_at(name) + 128, table..file.len()];
        return change(&file, &places, rng);
    }
    file
}

fn near(value: u64, rng: &mut Rng) -> u64 {
    value.wrapping_add(rng.below(1200)).wrapping_sub(600)
}

fn number(old: u64, size: usize, rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => rng.pick(&NUMBERS),
        1 => near(size as u64, rng),
        2 => near(old, rng),
        _ => rng.word() >> rng.below(64),
    }
}

/// One to three changes, most of them at `places`.
fn change(bytes: &[u8], places: &[std::ops::Range<usize>], rng: &mut Rng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..1 + rng.below(3) {
        if out.is_empty() {
            return out;
        }
        let place = &places[rng.below(places.len() as u64) as usize];
        let at = if place.is_empty() || rng.below(5) == 0 {
            rng.below(out.len() as u64) as usize
        } else {
            (place.start + rng.below(place.len() as u64) as usize).min(out.len() - 1)
        };
        match rng.below(7) {
            0 => out[at] ^= 1 << rng.below(8),
            1 => out[at] = rng.word() as u8,
            2 | 3 => {
                let at = at & !3;
                let value = number(u64::from(out[at]), bytes.len(), rng).to_le_bytes();
                let len = rng.pick(&[4, 8]).min(out.len() - at);
                out[at..at + len].copy_from_slice(&value[..len]);
            }
            4 => out.truncate(at),
            5 => {
                let count = rng.below(600) as usize;
                let noise = rng.noise(count);
                out.splice(at..at, noise);
            }
            _ => {
                let end = out.len().min(at + 1 + rng.below(600) as usize);
                out.drain(at..end);
            }
        }
    }
    out
}
