// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Blocks whose checksum is right and whose stream is not: it comes out short or long, reaches back
//! to before its own output, stops in the middle, or is not one at all.

use super::tables::compressed;
use super::{offer, Sink};
use crate::codec::encode;
use crate::images::wrap;
use crate::rng::Rng;

/// Streams in place of that of a block which decodes to `plain`.
fn streams(algo: u8, plain: &[u8], good: &[u8]) -> Vec<(String, Vec<u8>)> {
    let wanted = plain.len();
    let mut rng = Rng(wanted as u64);
    let mut list: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |what: &str, stream: Vec<u8>| list.push((what.to_string(), stream));
    for cut in [1, 2, good.len() / 2, good.len() - 2, good.len() - 1] {
        add(
            &format!("cut at {cut}"),
            good[..cut.min(good.len())].to_vec(),
        );
        add(
            &format!("from {cut} on"),
            good[cut.min(good.len() - 1)..].to_vec(),
        );
    }
    for more in [1, 4, 12] {
        add("zeroes behind it", [good, &vec![0; more]].concat());
        add("ones behind it", [good, &vec![0xff; more]].concat());
    }
    add("twice", [good, good].concat());
    for by in [1, 5, 16, wanted / 2, wanted - 1] {
        add(
            &format!("{by} bytes short"),
            encode(algo, &plain[..wanted - by]),
        );
        let longer = [plain, &plain[..by]].concat();
        add(&format!("{by} bytes long"), encode(algo, &longer));
    }
    for times in [2, 16, 64] {
        if wanted * times > 1 << 20 {
            continue;
        }
        add(
            &format!("a bomb of {times}"),
            encode(algo, &vec![0; wanted * times]),
        );
    }
    add("other bytes", encode(algo, &rng.texture(wanted)));
    add("nothing", encode(algo, &[]));
    for length in [1, 2, 3, 7, 40, 300] {
        add("noise", rng.noise(length));
        add("zeroes", vec![0; length]);
        add("ones", vec![0xff; length]);
    }
    match algo {
        1 => lz4(wanted, &mut add),
        _ => zstd(plain, good, &mut add),
    }
    list
}

/// An LZ4 sequence; a length of 15 or more takes further bytes.
fn sequence(literals: &[u8], matched: Option<(u16, usize)>) -> Vec<u8> {
    let more = |out: &mut Vec<u8>, mut rest: usize| {
        while rest >= 255 {
            out.push(255);
            rest -= 255;
        }
        out.push(rest as u8);
    };
    let copied = matched.map_or(0, |(_, length)| length - 4);
    let mut out = vec![(literals.len().min(15) << 4 | copied.min(15)) as u8];
    if literals.len() >= 15 {
        more(&mut out, literals.len() - 15);
    }
    out.extend_from_slice(literals);
    if let Some((distance, _)) = matched {
        out.extend(distance.to_le_bytes());
        if copied >= 15 {
            more(&mut out, copied - 15);
        }
    }
    out
}

fn lz4(wanted: usize, add: &mut impl FnMut(&str, Vec<u8>)) {
    let seven = [7; 7];
    let half = wanted / 2;
    for distance in [0, 1, 7, 8, 9, 255, 256, 32768, 65535] {
        for length in [
            4,
            18,
            19,
            half,
            wanted - 7 - 12,
            wanted - 7 - 5,
            wanted - 7,
            wanted,
        ] {
            let begin = sequence(&seven, Some((distance, length)));
            let rest = wanted.saturating_sub(7 + length);
            let whole = [begin.clone(), sequence(&vec![9; rest], None)].concat();
            add(&format!("match of {length} at {distance}"), whole);
            add(&format!("match of {length} at {distance} last"), begin);
        }
    }
    add(
        "a match at once",
        [
            sequence(&[], Some((1, 20))),
            sequence(&vec![9; wanted - 20], None),
        ]
        .concat(),
    );
    for last in [0, 1, 4, 5, 11, 12, 13] {
        let matched = wanted - last - 20;
        let stream = [
            sequence(&[5; 20], Some((3, matched))),
            sequence(&vec![9; last], None),
        ];
        add(&format!("{last} literals at the end"), stream.concat());
    }
    for lengths in [300, 4000] {
        let endless = [vec![0xf0], vec![0xff; lengths]].concat();
        add("literals without end", endless);
        let endless = [vec![0x1f, 7, 1, 0], vec![0xff; lengths]].concat();
        add("a match without end", endless);
    }
    add("more literals than there are", vec![0x50, 1, 2, 3]);
}

fn zstd(plain: &[u8], good: &[u8], add: &mut impl FnMut(&str, Vec<u8>)) {
    let skippable = |bytes: usize| {
        let head = [0x50, 0x2a, 0x4d, 0x18];
        [&head, &(bytes as u32).to_le_bytes()[..], &vec![0xaa; bytes]].concat()
    };
    add(
        "a skippable frame before",
        [skippable(9), good.to_vec()].concat(),
    );
    add(
        "a skippable frame after",
        [good.to_vec(), skippable(9)].concat(),
    );
    add("a skippable frame alone", skippable(30));
    let mut lies = skippable(4);
    lies[4..8].fill(0xff);
    add("a skippable frame without end", lies);
    let (begin, end) = plain.split_at(plain.len() / 3);
    add("two frames", [encode(2, begin), encode(2, end)].concat());
    for level in [1, 9, 19] {
        let stream = zstd::bulk::compress(plain, level).expect("zstd compresses");
        add(&format!("level {level}"), stream);
    }
    for checksum in [true, false] {
        let mut encoder = zstd::bulk::Compressor::new(3).expect("a compressor");
        encoder.include_checksum(checksum).expect("a parameter");
        encoder.include_contentsize(false).expect("a parameter");
        let mut stream = encoder.compress(plain).expect("zstd compresses");
        add(&format!("no size, checksum {checksum}"), stream.clone());
        if let Some(last) = stream.last_mut() {
            *last ^= 1;
        }
        add(&format!("no size, checksum {checksum}, last bit"), stream);
    }
    // Frame header: descriptor, then window, dictionary and content size as it says.
    for descriptor in 0..=255 {
        let mut stream = good.to_vec();
        stream[4] = descriptor;
        add(&format!("descriptor {descriptor:#x}"), stream);
    }
    for (what, header) in [
        ("a window of 2^41", &[0x00, 0xf8][..]),
        ("a window of 128 MiB", &[0x00, 0x88]),
        ("a dictionary", &[0x01, 0x58, 0x07]),
        (
            "a size of 2^64 - 1",
            &[0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
    ] {
        for kind in 0..4u8 {
            // One last block: raw, repeated, compressed, reserved.
            let head = (plain.len() as u32) << 3 | u32::from(kind) << 1 | 1;
            let mut stream = vec![0x28, 0xb5, 0x2f, 0xfd];
            stream.extend_from_slice(header);
            stream.extend_from_slice(&head.to_le_bytes()[..3]);
            stream.extend_from_slice(if kind == 1 { &plain[..1] } else { plain });
            add(&format!("{what}, block kind {kind}"), stream);
        }
    }
}

/// Streams in blocks of the header, of data, and of index and trailer.
pub(super) fn all(sink: Sink<'_>) {
    for (image, spec) in compressed() {
        if image.name.starts_with("ustar") {
            continue;
        }
        let layer = crate::images::inner().build();
        let size = spec.block_size as usize;
        let count = spec.blocks.len();
        let numbers: std::collections::BTreeSet<usize> = [0, 4608 / size, count - 1].into();
        for number in numbers {
            let plain = &layer[number * size..layer.len().min((number + 1) * size)];
            for (what, stream) in streams(spec.algo, plain, &spec.blocks[number]) {
                let what = || format!("{}: block {number}: {what}", image.name);
                offer(sink, what, || {
                    let mut bad = spec.clone();
                    bad.blocks[number].clone_from(&stream);
                    wrap(image.name, &bad.build())
                });
            }
        }
    }
}
