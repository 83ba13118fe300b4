// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The rules about compressed files: header, trailer, jump table.

use super::super::super::support::device::{Module, DEVICE};
use super::super::super::support::read;
use super::super::Sandwich;
use super::{compressed, CHECKSUM, CORRUPT};
use crate::case::Case;
use rustix::io::Errno;
use vbd_tests_host::lsmt::numbered;
use vbd_tests_host::{put_u32, put_u64, zfile};

pub(in super::super::super) const CASES: &[Case] = crate::cases::cases![
    zfile_header,
    zfile_trailer,
    zfile_claims,
    zfile_table,
    verify_is_about_blocks_only,
];

fn zfile_header() {
    let stack = Sandwich::new();
    let good = compressed().build();
    let check = |content: &[u8], errno, rule: &str| {
        stack.refused(&stack.file("bad", content), "", errno, rule);
    };
    for byte in [24, 28, 32, 40, 60, 64, 73, 88, 100, 511] {
        let mut bad = good.clone();
        bad[byte] ^= 0x40;
        check(
            &bad,
            CHECKSUM,
            "zfile offset 28: header or trailer digest does not match (found *)",
        );
    }
    let sealed = |field: usize, value: u32| {
        let mut bad = good.clone();
        put_u32(&mut bad, field, value);
        zfile::seal(&mut bad, 0);
        bad
    };
    for size in [0, 1, 256, 511, 513, 4095, 12_288, 131_072, 1 << 31] {
        let text = "block size must be a power of two from 512 to 65536";
        let line = format!("zfile offset 72: {text} (found {size})");
        check(&sealed(72, size), Errno::OPNOTSUPP, &line);
    }
    for algorithm in [0, 3, 255] {
        let text = "compression algorithm must be 1 (LZ4) or 2 (ZSTD)";
        let line = format!("zfile offset 76: {text} (found {algorithm})");
        check(&sealed(76, algorithm), Errno::OPNOTSUPP, &line);
    }
    stack.works();
}

/// A trailer counts where the header leaves the numbers to it.
fn zfile_trailer() {
    let stack = Sandwich::new();
    let mut spec = compressed();
    spec.overwritten = false;
    let check = |content: &[u8], errno, rule: &str| {
        stack.refused(&stack.file("bad", content), "", errno, rule);
    };
    let good = spec.build();
    let at = good.len() - 512;
    let magic = |at: usize| {
        let text = "no trailer magic at the end of the file (truncated?)";
        format!("zfile offset {at}: {text} (found *)")
    };
    for byte in [0, 7, 8, 23] {
        let mut bad = good.clone();
        bad[at + byte] ^= 1;
        check(&bad, CORRUPT, &magic(at));
    }
    let mut bad = good.clone();
    bad.push(1);
    check(&bad, CORRUPT, &magic(at + 1));
    check(&good[..good.len() - 1], CORRUPT, &magic(at - 1));
    for flags in [0x10, 0x11, 0x12, 0x13, 0x14, 0x17] {
        let mut bad = good.clone();
        put_u32(&mut bad, at + 32, flags);
        zfile::seal(&mut bad, at);
        let text = "trailer flags must say sealed data file, not header";
        let line = format!("zfile offset {}: {text} (found {flags})", at + 32);
        check(&bad, CORRUPT, &line);
    }
    let mut bad = good.clone();
    bad[at + 100] ^= 1;
    let text = "header or trailer digest does not match";
    let line = format!("zfile offset {}: {text} (found *)", at + 28);
    check(&bad, CHECKSUM, &line);
    for flags in [0x11, 0x01] {
        let mut bad = good.clone();
        put_u32(&mut bad, 32, flags);
        zfile::seal(&mut bad, 0);
        let text = "header flags must say data file";
        check(
            &bad,
            CORRUPT,
            &format!("zfile offset 32: {text} (found {flags})"),
        );
    }
    let text = "file is too small for header and trailer";
    for size in [513, 600, 1023] {
        let line = format!("zfile offset 0: {text} (found {size})");
        check(&good[..size], CORRUPT, &line);
    }
    stack.works();

    // Where it does not, it may be anything, or missing.
    let good = compressed().build();
    let at = good.len() - 512;
    let mut other = good.clone();
    other[at..].fill(0x77);
    for file in [&good[..], &good[..at], &other] {
        let module = Module::stack(&[stack.file("good", file)], "");
        let mut disk = vec![0; 32 * 512];
        disk[..2048].copy_from_slice(&numbered(16)[..2048]);
        disk[8 * 512..16 * 512].copy_from_slice(&numbered(16)[2048..6144]);
        read::check_all(DEVICE, &disk);
        module.unload();
    }
}

fn zfile_claims() {
    let stack = Sandwich::new();
    let spec = compressed();
    let good = spec.build();
    let check = |field: usize, value: u64, errno, rule: &str| {
        let mut bad = good.clone();
        put_u64(&mut bad, field, value);
        zfile::seal(&mut bad, 0);
        let line = format!("zfile offset {field}: {rule} (found {value})");
        stack.refused(&stack.file("bad", &bad), "", errno, &line);
    };
    let blocks = spec.blocks.len() as u64;
    for size in [1 << 63, u64::MAX] {
        check(
            56,
            size,
            Errno::FBIG,
            "original file size is beyond the limit",
        );
    }
    for count in [1_000_000_001, 1 << 32, u64::MAX] {
        check(
            48,
            count,
            Errno::FBIG,
            "number of blocks is beyond the limit",
        );
    }
    let text = "jump table has too few blocks for the original file size";
    check(48, blocks - 1, CORRUPT, text);
    let text = "jump table does not lie between the blocks and the trailer";
    let end = good.len() as u64 - 512;
    // A header that has all numbers does without a trailer, so the table may take its place.
    for offset in [
        0,
        511,
        end - blocks * 4 + 513,
        end + 512,
        1 << 40,
        u64::MAX - 3,
        u64::MAX,
    ] {
        check(40, offset, CORRUPT, text);
    }
    stack.works();
}

fn zfile_table() {
    let stack = Sandwich::new();
    let spec = compressed();
    let good = spec.build();
    let table = usize::try_from(spec.table_at()).unwrap();
    let entry = |number: usize| {
        let at = table + number * 4;
        (at, u32::from_le_bytes(good[at..at + 4].try_into().unwrap()))
    };
    let check = |bad: &[u8], errno, rule: &str| {
        stack.refused(&stack.file("bad", bad), "", errno, rule);
    };
    // Two lengths that are possible and have the right sum.
    let mut bad = good.clone();
    let ((first_at, first), (second_at, second)) = (entry(0), entry(1));
    put_u32(&mut bad, first_at, first + 1);
    put_u32(&mut bad, second_at, second - 1);
    let line = format!("zfile offset {table}: jump table checksum does not match (found *)");
    check(&bad, CHECKSUM, &line);
    for length in [0, 4, 1 << 20, u32::MAX] {
        let mut bad = good.clone();
        let (at, _) = entry(2);
        put_u32(&mut bad, at, length);
        let text = "stored length of a block is impossible for its size";
        check(
            &bad,
            CORRUPT,
            &format!("zfile offset {at}: {text} (found {length})"),
        );
    }
    let mut bad = good.clone();
    let (at, length) = entry(spec.blocks.len() - 1);
    put_u32(&mut bad, at, length + 1);
    let text = "block ends past the start of the jump table";
    check(
        &bad,
        CORRUPT,
        &format!("zfile offset {at}: {text} (found {})", table + 1),
    );
    stack.works();
}

/// `verify=0` leaves out the checksums of blocks, and nothing else.
fn verify_is_about_blocks_only() {
    let stack = Sandwich::new();
    let spec = compressed();
    let mut bad = spec.build();
    bad[100] ^= 1;
    let line = "zfile offset 28: header or trailer digest does not match (found *)";
    stack.refused(&stack.file("bad", &bad), "verify=0", CHECKSUM, line);
    let mut bad = spec.build();
    let table = usize::try_from(spec.table_at()).unwrap();
    let length = u32::from_le_bytes(bad[table..table + 4].try_into().unwrap());
    let next = u32::from_le_bytes(bad[table + 4..table + 8].try_into().unwrap());
    put_u32(&mut bad, table, length + 1);
    put_u32(&mut bad, table + 4, next - 1);
    let line = format!("zfile offset {table}: jump table checksum does not match (found *)");
    stack.refused(&stack.file("bad", &bad), "verify=0", CHECKSUM, &line);
    stack.works();
}
