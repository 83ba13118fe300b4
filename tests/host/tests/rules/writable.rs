// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Files of writable layers that break a rule, and logs as a crash leaves them.

use crate::Case;
use vbd_format::lsmt::{load_log, probe_data, probe_log, LogEnd, Segment};
use vbd_format::upper::verify_log;
use vbd_format::{Checksum, Class, Error, Rule};
use vbd_tests_host::crc::RawCrc;
use vbd_tests_host::lsmt::{Record, Spec, PADDING};
use vbd_tests_host::mem::{Mem, Sparse};
use vbd_tests_host::{put_u32, put_u64};

const SMALL: (Rule, Class) = (Rule::WritableTooSmall, Class::NotALayer);
const MAGIC: (Rule, Class) = (Rule::WritableMagic, Class::NotALayer);
const DATA: (Rule, Class) = (Rule::WritableDataFlags, Class::NotALayer);
const INDEX: (Rule, Class) = (Rule::WritableIndexFlags, Class::NotALayer);
const PLACE: (Rule, Class) = (Rule::WritableIndexOffset, Class::Corrupt);
const RECORDS: (Rule, Class) = (Rule::WritableRecordLimit, Class::TooLarge);
const SIZE: (Rule, Class) = (Rule::WritableSizeLimit, Class::TooLarge);
const RANGE: (Rule, Class) = (Rule::WritableRange, Class::Corrupt);
const GROUP: (Rule, Class) = (Rule::WritableGroup, Class::Corrupt);

fn header(flags: u32, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Spec::new(1 << 20, Vec::new(), &[]).structure(flags, None);
    if flags == 0x01 {
        put_u64(&mut bytes, 32, 4096);
    }
    change(&mut bytes);
    bytes
}

fn data(flags: u32, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
    probe_data(&Mem(header(flags, change))).map(|_| ())
}

fn index(flags: u32, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
    probe_log(&Mem(header(flags, change))).map(|_| ())
}

/// An index file that claims so many records and is empty.
fn claims(records: u64) -> Result<(), Error> {
    probe_log(&Sparse {
        size: 4096 + records * 16 + 15,
        pieces: vec![(0, header(0x01, |_| ()))],
    })
    .map(|_| ())
}

/// What a log with these bytes after the header gives, for a data file of `data_size` bytes.
fn log(bytes: &[u8], data_size: u64, room: usize) -> Result<(Vec<Segment>, LogEnd), Error> {
    let mut file = header(0x01, |_| ());
    file.extend_from_slice(bytes);
    let mut segments = Vec::new();
    let end = load_log(&Mem(file), data_size, &mut vec![0; room], |segment| {
        segments.push(segment);
        Ok(())
    })?;
    Ok((segments, end))
}

/// A group of records with its marker, by the numbers of `docs/format-writable.md`.
fn group(number: u32, records: &[[u8; 16]]) -> Vec<u8> {
    let mut bytes = records.concat();
    let crc = RawCrc.crc32c(0x5642_4447, &bytes);
    bytes.extend_from_slice(&PADDING[..8]);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Where the log of these groups is good up to.
fn groups(bytes: &[u8]) -> Result<u64, Error> {
    let mut file = header(0x01, |_| ());
    file.extend_from_slice(bytes);
    verify_log(&Mem(file), &RawCrc, &mut [0; 48]).map(|log| log.end)
}

#[test]
fn a_group_is_whole_or_the_last_one() {
    let records = [Record::data(0, 2, 8).bytes(), PADDING];
    let (one, two, three) = (group(1, &records), group(2, &[]), group(3, &records));
    let all = [&one[..], &two, &three].concat();
    let end = 4096 + all.len() as u64;
    assert_eq!(groups(&all), Ok(end));
    // Records without a marker, and one that is not whole, are for others to judge.
    assert_eq!(
        groups(&[&all[..], &records[0], &[7]].concat()),
        Ok(end + 17)
    );
    let mut last = all.clone();
    last[all.len() - 40] ^= 1;
    assert_eq!(groups(&last), Ok(end - three.len() as u64));
    let without_two = [&one[..], &three].concat();
    let broken = Error::new(Rule::WritableGroup, 4096 + one.len() as u64, 3);
    assert_eq!(groups(&without_two), Err(broken));
}

/// Two groups, the first of them with a record that is not the one that was written.
fn damaged() -> Result<u64, Error> {
    let mut bytes = group(1, &[Record::data(0, 2, 8).bytes()]);
    bytes[0] ^= 1;
    bytes.extend(group(2, &[]));
    groups(&bytes)
}

pub(crate) fn cases() -> Vec<Case> {
    let word = 0x544d_534c;
    assert_eq!(data(0x03, |_| ()), Ok(()));
    assert_eq!(data(0x13, |_| ()), Ok(()));
    assert_eq!(index(0x01, |_| ()), Ok(()));
    assert_eq!(claims(128_000_000), Ok(()));
    let into_header = Record::data(0, 1, 7).bytes();
    vec![
        Case::new("empty", SMALL, 0, 0, probe_data(&Mem(Vec::new()))),
        Case::new(
            "4095 bytes",
            SMALL,
            0,
            4095,
            index(0x01, |f| f.truncate(4095)),
        ),
        Case::new("first magic", MAGIC, 0, word, data(0x03, |f| f[7] ^= 1)),
        Case::new("second magic", MAGIC, 0, word, index(0x01, |f| f[23] ^= 1)),
        Case::new("index as data", DATA, 28, 0x01, data(0x01, |_| ())),
        Case::new("trailer as data", DATA, 28, 0x02, data(0x02, |_| ())),
        Case::new("data as index", INDEX, 28, 0x03, index(0x03, |_| ())),
        Case::new("sealed index", INDEX, 28, 0x05, index(0x05, |_| ())),
        Case::new(
            "trailer as index",
            INDEX,
            28,
            0x00,
            index(0x00, |f| put_u32(f, 28, 0)),
        ),
        Case::new(
            "records elsewhere",
            PLACE,
            32,
            0,
            index(0x01, |f| put_u64(f, 32, 0)),
        ),
        Case::new("too many", RECORDS, 4096, 128_000_001, claims(128_000_001)),
        Case::new("no room", RECORDS, 4096, 1, log(&PADDING, 8192, 15)),
        Case::new(
            "huge",
            SIZE,
            48,
            (1 << 59) + 1,
            data(0x03, |f| put_u64(f, 48, (1 << 59) + 1)),
        ),
        Case::new(
            "huge index",
            SIZE,
            48,
            u64::MAX,
            index(0x01, |f| put_u64(f, 48, u64::MAX)),
        ),
        Case::new(
            "into the header",
            RANGE,
            4096,
            7,
            log(&into_header, 8192, 16),
        ),
        Case::new("a damaged group", GROUP, 4096, 2, damaged()),
    ]
}

#[test]
fn logs_end_where_a_crash_left_them() {
    let one = Record::data(0, 2, 8).bytes();
    let tagged = Record {
        tag: 9,
        ..Record::zero(4, 8, 10)
    }
    .bytes();
    let empty = Record::data(5, 0, 8).bytes();
    let good = Segment::from_bytes(one);
    let zero = Segment::from_bytes(tagged).with_tag(0);
    // Two sectors of data: the data file ends at sector 10.
    let size = 10 * 512;
    for room in [16, 33, 4096] {
        let log = |parts: &[&[u8]]| log(&parts.concat(), size + 511, room).unwrap();
        assert_eq!(log(&[]), (vec![], LogEnd::Whole));
        assert_eq!(
            log(&[&one, &PADDING, &empty, &tagged]),
            (vec![good, zero], LogEnd::Whole)
        );
        for torn in 1..16 {
            assert_eq!(
                log(&[&one, &tagged[..torn]]),
                (vec![good], LogEnd::Torn(4112)),
            );
        }
        assert_eq!(
            log(&[&one, &[0; 16], &one]),
            (vec![good], LogEnd::Zeroes(4112))
        );
        let missing = Record::data(0, 2, 9).bytes();
        assert_eq!(
            log(&[&one, &missing, &one]),
            (vec![good], LogEnd::NoData(4112))
        );
        let beyond = Record::zero(0, 2, 11).bytes();
        assert_eq!(log(&[&beyond]), (vec![], LogEnd::NoData(4096)));
    }
}
