// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Every field of tar headers, of ZFile headers and trailers and of LSMT headers and trailers, at
//! the values where something changes.

use super::{get, offer, payload, set, values, Sink};
use crate::images::{good, inner, pack, stored};
use crate::tar::{pax_record, seal, seal_signed, size_text};
use crate::zfile;

/// Fields of a ZFile's structure: offset and bytes.
const ZFILE: [(usize, usize); 20] = [
    (0, 8),
    (8, 8),
    (16, 8),
    (24, 4),
    (28, 4),
    (32, 8),
    (40, 8),
    (48, 8),
    (56, 8),
    (64, 4),
    (68, 4),
    (72, 4),
    (76, 1),
    (77, 1),
    (78, 1),
    (79, 1),
    (80, 4),
    (84, 4),
    (88, 1),
    (504, 8),
];

/// Fields of an LSMT structure; of texts, the first bytes.
const LSMT: [(usize, usize); 16] = [
    (0, 8),
    (8, 8),
    (16, 8),
    (24, 4),
    (28, 4),
    (32, 8),
    (40, 8),
    (48, 8),
    (56, 8),
    (85, 8),
    (92, 1),
    (93, 8),
    (130, 2),
    (132, 1),
    (133, 1),
    (134, 8),
];

/// Header and trailer of ZFiles, with the digest put right and not.
pub(super) fn zfile(sink: Sink<'_>) {
    for image in good() {
        let payload = payload(&image);
        if image.name.contains("plain") {
            continue;
        }
        let size = payload.len() as u64;
        let spec = pack(image.name, &inner().build());
        let near = |field| match field {
            40 | 48 | 56 => vec![
                size,
                size - 512,
                spec.table_at(),
                512,
                1_000_000_000,
                1 << 59,
            ],
            72 => vec![512, 1024, 4096, 65536, 131_072],
            76 => vec![1, 2, 3],
            84 => vec![size, spec.table_at() - 512],
            _ => vec![],
        };
        for (part, at) in [("header", payload.start), ("trailer", payload.end - 512)] {
            for (field, width) in ZFILE {
                let old = get(&image.file, at + field, width);
                for value in values(old, width, &near(field)) {
                    for resealed in [true, false] {
                        let digest = if resealed { "right" } else { "old" };
                        let name = image.name;
                        let what =
                            || format!("{name}: {part} {field} = {value:#x}, {digest} digest");
                        offer(sink, what, || {
                            let mut file = image.file.clone();
                            set(&mut file, at + field, width, value);
                            if resealed {
                                zfile::seal(&mut file, at);
                            }
                            file
                        });
                    }
                }
            }
        }
    }
}

/// Header and trailer of LSMT layers, plain and inside of good compression.
pub(super) fn lsmt(sink: Sink<'_>) {
    for image in good() {
        let layer = inner();
        let plain = layer.build();
        let size = plain.len() as u64;
        let near = |field| match field {
            32 => vec![layer.index_at(), size - 4096, size, 8192, 4096],
            40 => vec![1_000_000, 1 << 28, 1 << 60],
            48 => vec![512, 1 << 50, 1 << 59, 30 * 512],
            _ => vec![],
        };
        for (part, at) in [("header", 0), ("trailer", plain.len() - 4096)] {
            for (field, width) in LSMT {
                let old = get(&plain, at + field, width);
                for value in values(old, width, &near(field)) {
                    let name = image.name;
                    let what = || format!("{name}: lsmt {part} {field} = {value:#x}");
                    offer(sink, what, || {
                        let mut bytes = plain.clone();
                        set(&mut bytes, at + field, width, value);
                        stored(name, &bytes)
                    });
                }
            }
        }
    }
}

/// Sizes as texts that are numbers, nearly numbers, or anything but.
fn texts(size: u64) -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = [0, 1, 511, 512, size - 512, size - 1, size, size + 1]
        .map(size_text)
        .to_vec();
    texts.extend([size + 511, size + 512, size + 1536, 1 << 32].map(size_text));
    for text in [
        &b"777777777777"[..],
        b"00000000000\0",
        b"            ",
        b"\0\0\0\0\0\0\0\0\0\0\0\0",
        b"8          \0",
        b"-1         \0",
        b"+1         \0",
        b"0x10       \0",
        b"1 1        \0",
        b"\t17\n       \0",
        b"17\x0017       ",
        b"\x80\0\0\0\0\0\0\0\0\0\x40\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        texts.push(text.to_vec());
    }
    texts
}

/// Header blocks and records of tar wrappers, with the checksum put right and not.
pub(super) fn tar(sink: Sink<'_>) {
    for image in good() {
        let payload = payload(&image);
        if payload.start == 0 {
            continue;
        }
        let mut tell = |what: String, file: Vec<u8>| {
            let what = || format!("{}: {what}", image.name);
            offer(sink, what, || file.clone());
        };
        let size = payload.len() as u64;
        for block in (0..payload.start).step_by(1024) {
            for text in texts(size) {
                for resealed in [true, false] {
                    let mut file = image.file.clone();
                    file[block + 124..block + 124 + text.len()].copy_from_slice(&text);
                    if resealed {
                        seal(&mut file[block..block + 512]);
                    }
                    let shown = text.escape_ascii();
                    tell(format!("block {block} size {shown} {resealed}"), file);
                }
            }
            for (place, byte) in (0..512).zip([0, 1, 0x20, 0x37, 0x80, 0xff].into_iter().cycle()) {
                let mut file = image.file.clone();
                file[block + place] = byte;
                tell(format!("block {block} byte {place} = {byte:#x}"), file);
            }
            for kind in [0, b'0', b'1', b'5', b'L', b'g', b'x', b'X', 0xff] {
                let mut file = image.file.clone();
                file[block + 156] = kind;
                // Some programs have summed signed bytes.
                let seals: [fn(&mut [u8]); 2] = [seal, seal_signed];
                seals[usize::from(kind & 1)](&mut file[block..block + 512]);
                tell(format!("block {block} type {kind:#x}"), file);
            }
        }
        if payload.start == 512 {
            continue;
        }
        let mut records: Vec<Vec<u8>> = Vec::new();
        for wanted in [0, 1, 512, size - 512, size - 1, size + 1, 1 << 63, u64::MAX] {
            records.push(pax_record("size", &wanted.to_string()));
        }
        let right = pax_record("size", &size.to_string());
        let other = pax_record("path", "a layer");
        records.push([&other[..], &right].concat());
        records.push([&right[..], &other].concat());
        records.push([&right[..], &pax_record("size", "0")].concat());
        records.push([&right[..], b"0 size=1\n"].concat());
        records.push(pax_record("path", &"x".repeat(490)));
        records.push(pax_record("size", "18446744073709551616"));
        for text in [
            "",
            "9",
            " ",
            "9 ",
            "1 size=1\n",
            "9 size=1\n",
            "10 size=1\n",
            "11 size=1\n",
            "99 size=1\n",
            "-9 size=1\n",
            "+9 size=1\n",
            "09 size=1\n",
            "9  size=1\n",
            "18446744073709551615 size=1\n",
            "18446744073709551616 size=1\n",
            "8 size=\n",
            "10 size=-1\n",
            "10 size=1",
            "6 a=b\n\n",
        ] {
            records.push(text.as_bytes().to_vec());
        }
        let bytes = &image.file[payload.clone()];
        for record in records {
            for kind in [b'x', b'g'] {
                for second in [0, size] {
                    let mut file =
                        crate::tar::wrap_records(kind, &record, &size_text(second), bytes);
                    let shown = record.escape_ascii();
                    tell(format!("records {shown} {kind} {second}"), file.clone());
                    // Lengths of the records that are not theirs.
                    for length in [0, 1, record.len() as u64 + 1, 512, 513, 1 << 33] {
                        let text = size_text(length);
                        file[124..124 + text.len()].copy_from_slice(&text);
                        seal(&mut file[..512]);
                        tell(format!("records {shown} in {length}"), file.clone());
                    }
                }
            }
        }
    }
}
