// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The format pages under `docs/` say what the code does: tables of fields, flags, limits,
//! checksums and rules are compared with it, in both directions.

mod fields;
mod table;

use std::collections::BTreeMap;
use table::{constants, table, tables, text};
use vbd_format::checksum::{SEED_BLOCK, SEED_METADATA};
use vbd_format::lsmt::Segment;
use vbd_format::zfile::Algorithm;
use vbd_format::{limits, lsmt, tar, zfile, Checksum as _, Rule};
use vbd_tests_host::crc::RawCrc;
use vbd_tests_host::mem::Mem;

fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no number"))
}

#[test]
fn rules() {
    let mut listed = BTreeMap::new();
    for table in tables("rules") {
        for [name, class, text, offset, found] in
            table.columns(["rule", "class", "text", "offset", "found"])
        {
            assert!(!offset.is_empty() && !found.is_empty(), "{name}");
            let old = listed.insert(name.clone(), (table.page, class, text));
            assert_eq!(old, None, "{name} is listed twice");
        }
    }
    let coded: BTreeMap<_, _> = Rule::ALL
        .iter()
        .map(|rule| {
            let page = match rule.part() {
                "file" | "tar" => "format-wrapping.md",
                "zfile" => "format-zfile.md",
                "lsmt" | "stack" => "format-lsmt.md",
                "writable" => "format-writable.md",
                part => panic!("no page for {part}"),
            };
            let class = format!("{:?}", rule.class());
            (
                rule.name().to_string(),
                (page, class, rule.text().to_string()),
            )
        })
        .collect();
    assert_eq!(listed, coded);
}

#[test]
fn limits_are_those_of_the_code() {
    let mut listed = BTreeMap::new();
    for table in tables("limits") {
        for [name, value] in table.columns(["constant", "value"]) {
            let old = listed.insert(name, number(&value));
            assert_eq!(old, None, "a limit is listed twice");
        }
    }
    let coded: BTreeMap<String, u64> = [
        ("SECTOR", limits::SECTOR),
        ("MAX_PADDING", limits::MAX_PADDING),
        ("MAX_LAYERS", limits::MAX_LAYERS as u64),
        ("MIN_BLOCK_SIZE", limits::MIN_BLOCK_SIZE.into()),
        ("MAX_BLOCK_SIZE", limits::MAX_BLOCK_SIZE.into()),
        ("MAX_BLOCKS", limits::MAX_BLOCKS),
        ("MAX_INDEX_RECORDS", limits::MAX_INDEX_RECORDS),
        ("MAX_LOG_RECORDS", limits::MAX_LOG_RECORDS),
        ("MAX_MERGED_RECORDS", limits::MAX_MERGED_RECORDS as u64),
        ("MAX_STACK_MEMORY", limits::MAX_STACK_MEMORY),
        ("MAX_VIRTUAL_SIZE", limits::MAX_VIRTUAL_SIZE),
        ("MAX_FILE_SIZE", limits::MAX_FILE_SIZE),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into();
    assert_eq!(listed, coded);
    let mut declared = constants(&text("kmod/format/limits.rs"), "");
    declared.sort();
    assert_eq!(declared, coded.into_keys().collect::<Vec<_>>());
}

/// Compares a table of flags with constants, which must be all of the file's.
fn flags(name: &str, source: &str, coded: &[(&str, u64)]) {
    let listed: Vec<(String, u64)> = table(name)
        .columns(["constant", "bit"])
        .into_iter()
        .map(|[name, bit]| (name, 1 << number(&bit)))
        .collect();
    let coded: Vec<(String, u64)> = coded.iter().map(|(n, v)| (n.to_string(), *v)).collect();
    assert_eq!(listed, coded);
    let names: Vec<String> = coded.into_iter().map(|(name, _)| name).collect();
    assert_eq!(constants(&text(source), "FLAG_"), names);
}

#[test]
fn flags_are_those_of_the_code() {
    flags(
        "zfile-flags",
        "kmod/format/zfile/header.rs",
        &[
            ("FLAG_HEADER", zfile::FLAG_HEADER),
            ("FLAG_DATA_FILE", zfile::FLAG_DATA_FILE),
            ("FLAG_SEALED", zfile::FLAG_SEALED),
            ("FLAG_OVERWRITTEN", zfile::FLAG_OVERWRITTEN),
            ("FLAG_DIGEST", zfile::FLAG_DIGEST),
        ],
    );
    flags(
        "lsmt-flags",
        "kmod/format/lsmt/header.rs",
        &[
            ("FLAG_HEADER", lsmt::FLAG_HEADER.into()),
            ("FLAG_DATA_FILE", lsmt::FLAG_DATA_FILE.into()),
            ("FLAG_SEALED", lsmt::FLAG_SEALED.into()),
            ("FLAG_SPARSE", lsmt::FLAG_SPARSE.into()),
        ],
    );
}

#[test]
fn magics() {
    let check = |name: &str, magic0: &[u8], magic1: &[u8]| {
        let hex = |bytes: &[u8]| {
            let digits: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
            digits.join(" ")
        };
        let want = [
            ["magic0".to_string(), hex(magic0)],
            ["magic1".to_string(), hex(magic1)],
        ];
        assert_eq!(table(name).columns(["field", "bytes"]), want);
    };
    check("zfile-magic", &zfile::MAGIC0, &zfile::MAGIC1);
    check("lsmt-magic", &lsmt::MAGIC0, &lsmt::MAGIC1);
}

#[test]
fn constants_of_the_record() {
    let listed: Vec<(String, u64)> = table("lsmt-constants")
        .columns(["constant", "value"])
        .into_iter()
        .map(|[name, value]| (name, number(&value)))
        .collect();
    let coded = [
        ("HEADER_BYTES", lsmt::HEADER_BYTES),
        ("RECORD_BYTES", lsmt::RECORD_BYTES as u64),
        ("PADDING_OFFSET", lsmt::PADDING_OFFSET),
        ("MAX_SEGMENT_SECTORS", lsmt::MAX_SEGMENT_SECTORS),
    ]
    .map(|(name, value)| (name.to_string(), value));
    assert_eq!(listed, coded);
    let mut padding = [0; 16];
    padding[..8].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x03, 0x00]);
    assert_eq!(Segment::PADDING.to_bytes(), padding);
    assert!(text("docs/format-lsmt.md").contains("`ff ff ff ff ff ff 03 00`"));
}

#[test]
fn bits_of_the_record() {
    let rows = table("lsmt-record").columns(["word", "bits", "field"]);
    let mut used = 0u128;
    let mut names = Vec::new();
    for [word, bits, field] in rows {
        let (low, high) = bits.split_once('-').expect("a range of bits");
        let (low, high) = (number(low) as u32, number(high) as u32);
        let mask = ((1u128 << (high - low + 1)) - 1) << (low + 64 * number(&word) as u32);
        assert_eq!(used & mask, 0, "{field} overlaps another");
        used |= mask;
        // All bits of this field and no others.
        let segment = Segment::from_bytes(mask.to_le_bytes());
        let all = (1u64 << (high - low + 1)) - 1;
        let want = |name: &str| if name == field { all } else { 0 };
        assert_eq!(segment.offset(), want("offset"));
        assert_eq!(segment.sectors(), want("sectors"));
        assert_eq!(segment.moffset(), want("moffset"));
        assert_eq!(u64::from(segment.zeroed()), want("zeroed"));
        assert_eq!(u64::from(segment.tag()), want("tag"));
        assert_eq!(segment.to_bytes(), mask.to_le_bytes());
        names.push(field);
    }
    assert_eq!(used, u128::MAX, "bits without a field");
    assert_eq!(names, ["offset", "sectors", "moffset", "zeroed", "tag"]);
}

#[test]
fn algorithms() {
    let rows = table("zfile-algorithms").columns(["algo", "name", "longest output for n bytes"]);
    let coded = [Algorithm::Lz4, Algorithm::Zstd];
    assert_eq!(rows.len(), coded.len());
    for ([code, name, bound], algorithm) in rows.iter().zip(coded) {
        assert_eq!(number(code), u64::from(algorithm.code()));
        assert_eq!(name, algorithm.name());
        let terms: Vec<&str> = bound.split(" + ").collect();
        let [n, part, rest] = terms[..] else {
            panic!("{bound}");
        };
        assert_eq!(n, "n");
        let divisor = number(part.strip_prefix("n/").expect("a part of n")) as u32;
        for n in [0, 1, 512, 4096, 65536] {
            let want = n + n / divisor + number(rest) as u32;
            assert_eq!(algorithm.bound(n), want);
        }
    }
}

#[test]
fn ends_of_a_log() {
    use lsmt::LogEnd;
    let ends = [
        LogEnd::Whole,
        LogEnd::Torn(0),
        LogEnd::Zeroes(0),
        LogEnd::NoData(0),
        LogEnd::Group(0),
    ];
    let listed: Vec<String> = table("log-end")
        .columns(["end"])
        .into_iter()
        .map(|[end]| end)
        .collect();
    let coded = ends.map(|end| format!("{end:?}").split('(').next().unwrap().to_owned());
    assert_eq!(listed, coded);
}

#[test]
fn checksums() {
    for [name, seed] in table("crc-seeds").columns(["constant", "seed"]) {
        let coded = match name.as_str() {
            "SEED_METADATA" => SEED_METADATA,
            "SEED_BLOCK" => SEED_BLOCK,
            name => panic!("no seed {name}"),
        };
        assert_eq!(number(&seed), u64::from(coded));
    }
    let rows = table("crc-check").columns(["input", "seed 0", "seed 100007"]);
    assert_eq!(rows.len(), 3);
    for [input, metadata, block] in rows {
        let bytes = match input.strip_prefix("32 bytes of ") {
            Some(hex) => vec![u8::from_str_radix(hex, 16).expect("a byte"); 32],
            None => input.clone().into_bytes(),
        };
        let sum = |seed| format!("{:08x}", RawCrc.crc32c(seed, &bytes));
        assert_eq!(
            [sum(SEED_METADATA), sum(SEED_BLOCK)],
            [metadata, block],
            "{input}"
        );
    }
}

#[test]
fn tar_member() {
    let header = tar::header(1000);
    let mut want = vec![0u8; 512];
    for [offset, size, field, bytes] in
        table("tar-member").columns(["offset", "size", "field", "bytes"])
    {
        let (at, size) = (number(&offset) as usize, number(&size) as usize);
        assert!(bytes.len() <= size, "{field}");
        want[at..at + bytes.len()].copy_from_slice(bytes.as_bytes());
        if field == "magic" {
            assert_eq!((at, size), (257, 6));
        }
    }
    // The checksum is the one field that the table cannot hold.
    let [_, _, member] = &header;
    want[148..156].copy_from_slice(&member[148..156]);
    assert_eq!(member[..], want);
    let mut file = header.as_flattened().to_vec();
    file.resize(1536 + 1000, 7);
    let (_, window) = tar::unwrap(Mem(file)).expect("a tar");
    assert_eq!(window.offset(), tar::PAX_PAYLOAD_OFFSET);
}
