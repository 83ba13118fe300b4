// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Good images in all forms, all of the same small disk.

use crate::lsmt::{Record, Spec, PADDING};
use crate::rng::Rng;
use crate::{tar, zfile};
use std::ops::Range;

/// A good layer file.
#[derive(Clone, Debug)]
pub struct Image {
    /// What it is, in words that [`pack`] and [`wrap`] understand.
    pub name: &'static str,
    /// Its bytes.
    pub file: Vec<u8>,
    /// Byte ranges of headers, trailers, jump table and index.
    pub structures: Vec<Range<usize>>,
}

const SECTORS: usize = 40;

fn content() -> Vec<u8> {
    Rng(1).texture(9 * 512)
}

fn records() -> Vec<Record> {
    vec![
        Record::data(1, 3, 8),
        Record::zero(4, 2, 11),
        Record::data(10, 5, 12),
        Record::data(15, 1, 8),
        Record::data(30, 1, 16),
    ]
}

/// What the disk reads as.
pub fn disk() -> Vec<u8> {
    let content = content();
    let mut disk = vec![0; SECTORS * 512];
    for r in records().iter().filter(|r| !r.zeroed) {
        let (to, from, len) = (r.offset * 512, (r.moffset - 8) * 512, r.len * 512);
        disk[to as usize..(to + len) as usize]
            .copy_from_slice(&content[from as usize..(from + len) as usize]);
    }
    disk
}

/// The layer that all images hold, before compression.
pub fn inner() -> Spec {
    let mut spec = Spec::new((SECTORS * 512) as u64, content(), &records());
    spec.records.resize(12, PADDING);
    spec
}

/// Compresses as the image of that name is compressed.
pub fn pack(name: &str, layer: &[u8]) -> zfile::Spec {
    let (algo, block_size) = match name {
        "lz4 overwritten" | "pax lz4 overwritten" => (1, 4096),
        "zstd trailer" => (2, 512),
        "zstd large overwritten" => (2, 65536),
        _ => (1, 1024),
    };
    let mut spec = zfile::Spec::of(layer, algo, block_size);
    spec.overwritten = name.contains("overwritten");
    spec.digest = !name.contains("old");
    spec.verify = u8::from(!name.contains("zstd"));
    spec
}

/// Stores LSMT bytes as the image of that name does.
pub fn stored(name: &str, layer: &[u8]) -> Vec<u8> {
    if name.contains("plain") {
        wrap(name, layer)
    } else {
        wrap(name, &pack(name, layer).build())
    }
}

/// Wraps as the image of that name is wrapped.
pub fn wrap(name: &str, payload: &[u8]) -> Vec<u8> {
    match name.split(' ').next() {
        Some("ustar") => tar::wrap_ustar(payload),
        Some("pax") => tar::wrap_pax(payload),
        _ => payload.to_vec(),
    }
}

/// Byte of the file at which the payload begins.
pub fn payload_at(name: &str) -> usize {
    match name.split(' ').next() {
        Some("ustar") => 512,
        Some("pax") => 1536,
        _ => 0,
    }
}

/// Zeroes that a tar wrapper puts behind the payload.
pub fn padding(name: &str, file: &[u8]) -> usize {
    if payload_at(name) == 0 {
        return 0;
    }
    let payload = if name.contains("plain") {
        inner().build()
    } else {
        pack(name, &inner().build()).build()
    };
    file.len() - payload_at(name) - payload.len()
}

/// Bytes of trailer that an overwritten header makes unnecessary; a tar wrapper still needs them.
pub fn tail(name: &str) -> usize {
    if payload_at(name) == 0 {
        512
    } else {
        0
    }
}

/// All images.
pub fn good() -> Vec<Image> {
    [
        "plain",
        "ustar plain",
        "lz4 overwritten",
        "pax lz4 overwritten",
        "zstd trailer",
        "zstd large overwritten",
        "lz4 old trailer",
        "ustar lz4 old trailer",
    ]
    .map(image)
    .to_vec()
}

fn image(name: &'static str) -> Image {
    let layer = inner();
    let start = payload_at(name);
    let (payload, mut structures) = if name.contains("plain") {
        let payload = layer.build();
        let index = layer.index_at() as usize;
        let used = [0..400, index..index + 192, index + 192..index + 592];
        (payload, used.to_vec())
    } else {
        let spec = pack(name, &layer.build());
        let payload = spec.build();
        let used = [0..128, spec.table_at() as usize..payload.len() - 400];
        (payload, used.to_vec())
    };
    for range in &mut structures {
        *range = range.start + start..range.end + start;
    }
    structures.push(0..start);
    Image {
        name,
        file: wrap(name, &payload),
        structures,
    }
}
