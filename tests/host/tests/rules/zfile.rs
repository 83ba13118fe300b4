// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! ZFiles whose header or trailer breaks a rule.

use crate::Case;
use vbd_format::zfile::{probe, ZFile};
use vbd_format::{Class, Error, Rule};
use vbd_tests_host::crc::RawCrc;
use vbd_tests_host::mem::{Device, Mem, Sparse};
use vbd_tests_host::zfile::{seal, Spec};
use vbd_tests_host::{put_u32, put_u64};

const DIGEST: (Rule, Class) = (Rule::ZFileDigest, Class::Checksum);
const HEAD_FLAGS: (Rule, Class) = (Rule::ZFileHeaderFlags, Class::Corrupt);
const SMALL: (Rule, Class) = (Rule::ZFileTooSmall, Class::Corrupt);
const TAIL_MAGIC: (Rule, Class) = (Rule::ZFileTrailerMagic, Class::Corrupt);
const TAIL_FLAGS: (Rule, Class) = (Rule::ZFileTrailerFlags, Class::Corrupt);
const ALGORITHM: (Rule, Class) = (Rule::ZFileAlgorithm, Class::Unsupported);
const BLOCK_SIZE: (Rule, Class) = (Rule::ZFileBlockSize, Class::Unsupported);
const SIZE_LIMIT: (Rule, Class) = (Rule::ZFileSizeLimit, Class::TooLarge);
const BLOCK_LIMIT: (Rule, Class) = (Rule::ZFileBlockLimit, Class::TooLarge);
const BLOCK_COUNT: (Rule, Class) = (Rule::ZFileBlockCount, Class::Corrupt);
const TABLE: (Rule, Class) = (Rule::ZFileTableBounds, Class::Corrupt);

/// Three blocks of 512 bytes, the last one short, stored as 100 + 100 + 100 bytes.
pub(crate) fn spec(overwritten: bool) -> Spec {
    let mut spec = Spec::of(&[0; 1500], 1, 512);
    spec.overwritten = overwritten;
    spec.blocks = vec![vec![9; 96]; 3];
    spec
}

/// The table of [`spec`] stands at 812, its trailer at 824.
const TAIL: usize = 824;
const TAIL_AT: u64 = TAIL as u64;

/// [`spec`] with changed bytes; `at` is the structure to seal again after the change.
pub(crate) fn changed(
    overwritten: bool,
    at: Option<usize>,
    change: impl FnOnce(&mut Vec<u8>),
) -> Mem {
    let mut file = spec(overwritten).build();
    assert_eq!(file.len(), TAIL + 512);
    change(&mut file);
    if let Some(at) = at {
        seal(&mut file, at);
    }
    Mem(file)
}

pub(crate) fn open(file: &Mem) -> Result<Option<ZFile>, Error> {
    probe(file, &RawCrc)
}

fn header_u64(field: usize, value: u64) -> Result<Option<ZFile>, Error> {
    open(&changed(true, Some(0), |f| put_u64(f, field, value)))
}

fn trailer_u64(field: usize, value: u64) -> Result<Option<ZFile>, Error> {
    open(&changed(false, Some(TAIL), |f| {
        put_u64(f, TAIL + field, value)
    }))
}

fn block_size(value: u32) -> Result<Option<ZFile>, Error> {
    open(&changed(true, Some(0), |f| put_u32(f, 72, value)))
}

fn algorithm(value: u8) -> Result<Option<ZFile>, Error> {
    open(&changed(true, Some(0), |f| f[76] = value))
}

fn digest_at(file: &Mem, at: usize) -> u64 {
    u64::from(u32::from_le_bytes(file.0[at..at + 4].try_into().unwrap()))
}

/// A claim of so many blocks in a file that is large enough for the table.
fn claims(blocks: u64) -> Result<Option<ZFile>, Error> {
    let mut header = spec(true).structure(0x1b, true);
    put_u64(&mut header, 40, 4096);
    put_u64(&mut header, 48, blocks);
    seal(&mut header, 0);
    let file = Sparse {
        size: 1 << 40,
        pieces: vec![(0, header)],
    };
    probe(&file, &RawCrc)
}

pub(crate) fn cases() -> Vec<Case> {
    let header = changed(true, None, |f| f[511] = 1);
    let trailer = changed(false, None, |f| f[TAIL + 96] = 1);
    let limit = 1_000_000_000;
    assert!(open(&changed(true, None, |_| ())).is_ok_and(|z| z.is_some()));
    assert!(open(&changed(false, None, |_| ())).is_ok_and(|z| z.is_some()));
    let end = |file: &Mem| open(file).map(|z| z.map(|z| z.end));
    for bytes in [0, 1, 255, 256, 257, 511, 4095] {
        for overwritten in [true, false] {
            let padded = changed(overwritten, None, |f| f.resize(f.len() + bytes, 0));
            assert_eq!(
                end(&padded),
                Ok(Some(TAIL_AT + 512)),
                "{bytes} bytes of padding"
            );
        }
    }
    let device = Device(changed(true, None, |f| f.extend([7; 512])));
    assert!(probe(&device, &RawCrc).is_ok_and(|z| z.is_some_and(|z| z.end == TAIL_AT + 512)));
    assert!(claims(limit).is_ok_and(|z| z.is_some_and(|z| z.entries == limit)));
    let mut cases = vec![
        Case::new(
            "header digest",
            DIGEST,
            28,
            digest_at(&header, 28),
            open(&header),
        ),
        Case::new(
            "trailer digest",
            DIGEST,
            TAIL_AT + 28,
            digest_at(&trailer, TAIL + 28),
            open(&trailer),
        ),
        Case::new("header not of a data file", HEAD_FLAGS, 32, 0x11, {
            open(&changed(false, Some(0), |f| f[32] = 0x11))
        }),
        Case::new("1023 bytes", SMALL, 0, 1023, {
            open(&changed(false, None, |f| f.truncate(1023)))
        }),
        Case::new(
            "512 bytes",
            SMALL,
            0,
            512,
            open(&changed(false, None, |f| f.truncate(512))),
        ),
        Case::new("one byte cut", TAIL_MAGIC, TAIL_AT - 1, 0, {
            open(&changed(false, None, |f| f.truncate(TAIL + 511)))
        }),
        Case::new("padding of a page", TAIL_MAGIC, TAIL_AT + 4096, 0, {
            open(&changed(false, None, |f| f.extend([0; 4096])))
        }),
        Case::new("padding that is not zero", TAIL_MAGIC, TAIL_AT + 1, 0, {
            open(&changed(false, None, |f| f.push(1)))
        }),
        Case::new(
            "trailer at the end of a device",
            (Rule::ZFileTrailerUntied, Class::Unsupported),
            TAIL_AT,
            TAIL_AT + 512,
            probe(&Device(changed(false, None, |_| ())), &RawCrc),
        ),
        Case::new("trailer's second magic", TAIL_MAGIC, TAIL_AT, 0, {
            open(&changed(false, Some(TAIL), |f| f[TAIL + 8] ^= 1))
        }),
        Case::new(
            "trailer says header",
            TAIL_FLAGS,
            TAIL_AT + 32,
            0x17,
            trailer_u64(32, 0x17),
        ),
        Case::new(
            "trailer not of a data file",
            TAIL_FLAGS,
            TAIL_AT + 32,
            0x14,
            trailer_u64(32, 0x14),
        ),
        Case::new(
            "trailer not sealed",
            TAIL_FLAGS,
            TAIL_AT + 32,
            0x12,
            trailer_u64(32, 0x12),
        ),
        Case::new(
            "size of 2^63 bytes",
            SIZE_LIMIT,
            56,
            1 << 63,
            header_u64(56, 1 << 63),
        ),
        Case::new(
            "size in the trailer",
            SIZE_LIMIT,
            TAIL_AT + 56,
            u64::MAX,
            trailer_u64(56, u64::MAX),
        ),
        Case::new(
            "10^9 + 1 blocks",
            BLOCK_LIMIT,
            48,
            limit + 1,
            claims(limit + 1),
        ),
        Case::new(
            "2^64 - 1 blocks",
            BLOCK_LIMIT,
            TAIL_AT + 48,
            u64::MAX,
            trailer_u64(48, u64::MAX),
        ),
        Case::new(
            "one byte more than the blocks hold",
            BLOCK_COUNT,
            48,
            3,
            header_u64(56, 1537),
        ),
        Case::new(
            "two blocks, three needed",
            BLOCK_COUNT,
            TAIL_AT + 48,
            2,
            trailer_u64(48, 2),
        ),
        Case::new(
            "largest size, few blocks",
            BLOCK_COUNT,
            48,
            3,
            header_u64(56, i64::MAX as u64),
        ),
        Case::new(
            "table before the blocks",
            TABLE,
            40,
            511,
            header_u64(40, 511),
        ),
        Case::new("table past the file", TABLE, 40, 1325, header_u64(40, 1325)),
        Case::new(
            "table offset wraps",
            TABLE,
            40,
            u64::MAX - 11,
            header_u64(40, u64::MAX - 11),
        ),
        Case::new(
            "table in the trailer",
            TABLE,
            TAIL_AT + 40,
            813,
            trailer_u64(40, 813),
        ),
        Case::new("table before the dictionary's end", TABLE, 40, 812, {
            open(&changed(true, Some(0), |f| put_u32(f, 84, 301)))
        }),
        Case::new("largest dictionary", TABLE, 40, 812, {
            open(&changed(true, Some(0), |f| put_u32(f, 84, u32::MAX)))
        }),
    ];
    for value in [0, 3, 128, 255] {
        let got = algorithm(value);
        cases.push(Case::new("algorithm", ALGORITHM, 76, u64::from(value), got));
    }
    for value in [
        0,
        1,
        256,
        513,
        12288,
        20480,
        24576,
        65535,
        131_072,
        1 << 31,
        u32::MAX,
    ] {
        let got = block_size(value);
        cases.push(Case::new(
            "block size",
            BLOCK_SIZE,
            72,
            u64::from(value),
            got,
        ));
    }
    cases
}
