// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers whose header, trailer or index breaks a rule.

use crate::Case;
use vbd_format::lsmt::{load_index, probe};
use vbd_format::{Class, Error, Rule};
use vbd_tests_host::lsmt::{Record, Spec, PADDING};
use vbd_tests_host::mem::{Device, Mem, Sparse};
use vbd_tests_host::{put_u32, put_u64};

const SMALL: (Rule, Class) = (Rule::LsmtTooSmall, Class::NotALayer);
const HEAD_MAGIC: (Rule, Class) = (Rule::LsmtHeaderMagic, Class::NotALayer);
const HEAD_FLAGS: (Rule, Class) = (Rule::LsmtHeaderFlags, Class::NotALayer);
const TAIL_MAGIC: (Rule, Class) = (Rule::LsmtTrailerMagic, Class::Corrupt);
const TAIL_FLAGS: (Rule, Class) = (Rule::LsmtTrailerFlags, Class::Corrupt);
const TAIL_UUID: (Rule, Class) = (Rule::LsmtTrailerUuid, Class::Corrupt);
const TAIL_UNTIED: (Rule, Class) = (Rule::LsmtTrailerUntied, Class::Unsupported);
const LIMIT: (Rule, Class) = (Rule::LsmtIndexLimit, Class::TooLarge);
const BOUNDS: (Rule, Class) = (Rule::LsmtIndexBounds, Class::Corrupt);
const ORDER: (Rule, Class) = (Rule::LsmtOrder, Class::Corrupt);
const RANGE: (Rule, Class) = (Rule::LsmtRange, Class::Corrupt);
const SIZE: (Rule, Class) = (Rule::LsmtSizeLimit, Class::TooLarge);

/// The uuid of nothing.
const NONE: [u8; 37] = *b"00000000-0000-0000-0000-000000000000\0";

/// "LSMT" as the number that an error shows.
const WORD: u64 = 0x544d_534c;

fn good() -> Spec {
    Spec::new(
        1 << 20,
        vec![7; 2048],
        &[Record::data(0, 2, 8), Record::zero(4, 1, 12)],
    )
}

/// The good file: data up to 6144, index of 32 bytes, trailer at 6176.
const TRAILER: usize = 6176;

fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
    let mut file = good().build();
    assert_eq!(file.len(), TRAILER + 4096);
    change(&mut file);
    probe(&Mem(file)).map(|_| ())
}

fn padded(padding: Vec<u8>) -> Result<(), Error> {
    let mut file = good().build();
    let end = file.len() as u64;
    file.extend(padding);
    probe(&Mem(file)).map(|lsmt| assert_eq!(lsmt.end, end))
}

fn on_device(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
    let mut file = good().build();
    change(&mut file);
    probe(&Device(Mem(file))).map(|_| ())
}

fn flags(header: u32, trailer: u32) -> Result<(), Error> {
    let mut spec = good();
    spec.header_flags = header;
    spec.trailer_flags = trailer;
    probe(&Mem(spec.build())).map(|_| ())
}

fn trailer_u64(field: usize, value: u64) -> Result<(), Error> {
    changed(|file| put_u64(file, TRAILER + field, value))
}

/// A trailer that claims `index_size` records at `index_offset` in a file of `size` bytes.
fn claims(size: u64, index_offset: u64, index_size: u64) -> Result<(), Error> {
    let mut trailer = good().structure(0x06, Some(index_offset));
    put_u64(&mut trailer, 40, index_size);
    let file = Sparse {
        size,
        pieces: vec![(0, good().structure(0x07, None)), (size - 4096, trailer)],
    };
    probe(&file).map(|_| ())
}

pub(crate) fn header_cases() -> Vec<Case> {
    let at = TRAILER as u64;
    let max = 1_000_000;
    assert_eq!(changed(|_| ()), Ok(()));
    assert_eq!(on_device(|_| ()), Ok(()));
    for bytes in [1, 255, 256, 257, 511, 4095] {
        assert_eq!(padded(vec![0; bytes]), Ok(()), "{bytes} bytes of padding");
    }
    // What is no uuid says nothing.
    let unnamed = |field: &[u8; 37]| {
        let field = *field;
        changed(move |f| f[56..93].copy_from_slice(&field))
    };
    assert_eq!(unnamed(&NONE), Ok(()));
    assert_eq!(unnamed(&[0; 37]), Ok(()));
    assert_eq!(unnamed(&[b'1'; 37]), Ok(()));
    assert_eq!(claims(8192 + max * 16, 4096, max), Ok(()));
    vec![
        Case::new("empty file", SMALL, 0, 0, probe(&Mem(Vec::new()))),
        Case::new("8191 bytes", SMALL, 0, 8191, changed(|f| f.truncate(8191))),
        Case::new("first magic", HEAD_MAGIC, 0, WORD, changed(|f| f[7] ^= 1)),
        Case::new(
            "second magic",
            HEAD_MAGIC,
            0,
            WORD,
            changed(|f| f[23] ^= 0x80),
        ),
        Case::new("zeroes", HEAD_MAGIC, 0, 0, probe(&Mem(vec![0; 8192]))),
        Case::new("header bit clear", HEAD_FLAGS, 28, 0x06, flags(0x06, 0x06)),
        Case::new("an index file", HEAD_FLAGS, 28, 0x01, flags(0x01, 0x06)),
        Case::new(
            "trailer's first magic",
            TAIL_MAGIC,
            at,
            WORD,
            changed(|f| f[TRAILER + 4] ^= 1),
        ),
        Case::new(
            "trailer's second magic",
            TAIL_MAGIC,
            at,
            WORD,
            changed(|f| f[TRAILER + 8] ^= 1),
        ),
        Case::new(
            "one byte cut",
            TAIL_MAGIC,
            at - 1,
            0x4d53_4c00,
            changed(|f| {
                f[TRAILER - 1] = 0;
                f.truncate(TRAILER + 4095);
            }),
        ),
        Case::new(
            "padding of a page",
            TAIL_MAGIC,
            at + 4096,
            0,
            padded(vec![0; 4096]),
        ),
        Case::new(
            "padding that is not zero",
            TAIL_MAGIC,
            at + 4095,
            0,
            padded([vec![0; 4094], vec![1]].concat()),
        ),
        Case::new(
            "another layer's trailer",
            TAIL_UUID,
            at + 56,
            u64::from(u32::from_le_bytes(*b"8123")),
            changed(|f| f[TRAILER + 56] = b'8'),
        ),
        Case::new(
            "trailer of a layer without a name",
            TAIL_UUID,
            at + 56,
            u64::from(u32::from_le_bytes(*b"0000")),
            changed(|f| f[TRAILER + 56..TRAILER + 93].copy_from_slice(&NONE)),
        ),
        Case::new(
            "no name on a device",
            TAIL_UNTIED,
            at + 56,
            u64::from(u32::from_le_bytes(*b"0000")),
            on_device(|f| {
                f[56..93].copy_from_slice(&NONE);
                f[TRAILER + 56..TRAILER + 93].copy_from_slice(&NONE);
            }),
        ),
        Case::new(
            "name in the trailer alone on a device",
            TAIL_UNTIED,
            at + 56,
            u64::from(u32::from_le_bytes(*b"0123")),
            on_device(|f| f[56..93].copy_from_slice(&NONE)),
        ),
        Case::new(
            "no uuid in the trailer on a device",
            TAIL_UNTIED,
            at + 56,
            0x7878_7878,
            on_device(|f| f[TRAILER + 56..TRAILER + 93].fill(b'x')),
        ),
        Case::new(
            "trailer says header",
            TAIL_FLAGS,
            at + 28,
            0x07,
            flags(0x07, 0x07),
        ),
        Case::new(
            "trailer says index file",
            TAIL_FLAGS,
            at + 28,
            0x04,
            flags(0x07, 0x04),
        ),
        Case::new(
            "trailer not sealed",
            TAIL_FLAGS,
            at + 28,
            0x02,
            flags(0x07, 0x02),
        ),
        Case::new(
            "1000001 records",
            LIMIT,
            at + 40,
            max + 1,
            trailer_u64(40, max + 1),
        ),
        Case::new(
            "2^64-1 records",
            LIMIT,
            at + 40,
            u64::MAX,
            trailer_u64(40, u64::MAX),
        ),
        Case::new(
            "index one byte late",
            BOUNDS,
            at + 32,
            6145,
            trailer_u64(32, 6145),
        ),
        Case::new(
            "index in the trailer",
            BOUNDS,
            at + 32,
            at,
            trailer_u64(32, at),
        ),
        Case::new(
            "index offset wraps",
            BOUNDS,
            at + 32,
            u64::MAX - 31,
            trailer_u64(32, u64::MAX - 31),
        ),
        Case::new(
            "one record more than fits",
            BOUNDS,
            at + 32,
            6144,
            trailer_u64(40, 3),
        ),
        Case::new(
            "a million records, 16 bytes short",
            BOUNDS,
            4096 + max * 16 - 16 + 32,
            4096,
            claims(8192 + max * 16 - 16, 4096, max),
        ),
        Case::new(
            "2^59 + 1 bytes",
            SIZE,
            at + 48,
            (1 << 59) + 1,
            trailer_u64(48, (1 << 59) + 1),
        ),
        Case::new(
            "2^64 - 1 bytes",
            SIZE,
            at + 48,
            u64::MAX,
            trailer_u64(48, u64::MAX),
        ),
        Case::new(
            "flags in the wrong half",
            HEAD_FLAGS,
            28,
            0x0300_0000,
            changed(|f| {
                put_u32(f, 28, 0x0300_0000);
            }),
        ),
    ]
}

/// Loads an index of these records, which stands at byte 8192: sectors 8 to 15 are data.
fn index(records: &[[u8; 16]]) -> Result<(), Error> {
    let mut spec = Spec::new(1 << 30, vec![7; 4096], &[]);
    spec.records = records.to_vec();
    load(&spec, 32)
}

fn load(spec: &Spec, room: usize) -> Result<(), Error> {
    let file = Mem(spec.build());
    let lsmt = probe(&file)?;
    load_index(&file, &lsmt, &mut vec![0; room], |_| Ok(()))
}

fn ranges(record: Record) -> Result<(), Error> {
    index(&[record.bytes()])
}

pub(crate) fn index_cases() -> Vec<Case> {
    let first = Record::data(100, 4, 8).bytes();
    let far = (1 << 55) - 1;
    assert_eq!(index(&[first, Record::data(104, 1, 8).bytes()]), Ok(()));
    assert_eq!(ranges(Record::data(0, 8, 8)), Ok(()));
    vec![
        Case::new(
            "overlap",
            ORDER,
            8208,
            103,
            index(&[first, Record::data(103, 4, 8).bytes()]),
        ),
        Case::new("the same again", ORDER, 8208, 100, index(&[first, first])),
        Case::new(
            "descending",
            ORDER,
            8208,
            0,
            index(&[first, Record::data(0, 1, 8).bytes()]),
        ),
        Case::new(
            "overlap across padding and pieces of the buffer",
            ORDER,
            8192 + 48,
            103,
            index(&[first, PADDING, PADDING, Record::data(103, 1, 8).bytes()]),
        ),
        Case::new(
            "overlap by an empty record",
            ORDER,
            8208,
            103,
            index(&[first, Record::data(103, 0, 9).bytes()]),
        ),
        Case::new(
            "zeroed records overlap",
            ORDER,
            8208,
            5,
            index(&[Record::zero(0, 6, 8).bytes(), Record::zero(5, 6, 8).bytes()]),
        ),
        Case::new(
            "in the header",
            RANGE,
            8192,
            7,
            ranges(Record::data(0, 1, 7)),
        ),
        Case::new(
            "at sector 0",
            RANGE,
            8192,
            0,
            ranges(Record::data(0, 16, 0)),
        ),
        Case::new(
            "at the index",
            RANGE,
            8192,
            16,
            ranges(Record::data(0, 1, 16)),
        ),
        Case::new(
            "into the index",
            RANGE,
            8192,
            15,
            ranges(Record::data(0, 2, 15)),
        ),
        Case::new(
            "one sector too long",
            RANGE,
            8192,
            8,
            ranges(Record::data(0, 9, 8)),
        ),
        Case::new(
            "far away",
            RANGE,
            8192,
            far,
            ranges(Record::data(0, 16383, far)),
        ),
        Case::new(
            "empty at sector 8",
            RANGE,
            8192,
            8,
            ranges(Record::data(0, 0, 8)),
        ),
        Case::new(
            "empty at the index",
            RANGE,
            8192,
            16,
            ranges(Record::data(0, 0, 16)),
        ),
        Case::new(
            "zeroed at sector 0",
            RANGE,
            8192,
            0,
            ranges(Record::zero(0, 1, 0)),
        ),
        Case::new(
            "zeroed in the header",
            RANGE,
            8192,
            7,
            ranges(Record::zero(0, 1, 7)),
        ),
        Case::new(
            "zeroed past the index",
            RANGE,
            8192,
            17,
            ranges(Record::zero(0, 1, 17)),
        ),
        Case::new("index offset rounds down", RANGE, 8192 + 511, 15, {
            let mut spec = Spec::new(1 << 30, vec![7; 4096], &[Record::data(0, 2, 15)]);
            spec.junk_before_index = vec![1; 511];
            load(&spec, 4096)
        }),
        Case::new("no room for a record", LIMIT, 8192, 1, {
            load(&Spec::new(0, vec![7; 4096], &[Record::data(0, 1, 8)]), 15)
        }),
    ]
}
