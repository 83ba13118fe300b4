// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Every rule about a layer's metadata, broken one at a time.

pub(in super::super) mod zfile;

use super::super::support::device::{backfile, Module, DEVICE};
use super::super::support::read;
use super::{refused, Sandwich};
use crate::case::Case;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use vbd_tests_host::lsmt::{numbered, Record, Spec};
use vbd_tests_host::{put_u32, put_u64, tar, zfile as image};

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    lsmt_header_and_trailer,
    lsmt_index,
    lsmt_claims,
    no_size_at_all,
    tar_wrappers,
    index_in_a_damaged_block,
    claims_of_a_huge_file,
];

/// What rules of contents break with.
const CORRUPT: Errno = Errno::UCLEAN;
const CHECKSUM: Errno = Errno::BADMSG;

/// Sixteen sectors of data under three records.
fn layer() -> Spec {
    let records = [
        Record::data(0, 4, 8),
        Record::data(8, 8, 12),
        Record::zero(20, 4, 8),
    ];
    Spec::new(32 * 512, numbered(16), &records)
}

/// [`layer`] in blocks of 4 KiB.
fn compressed() -> image::Spec {
    image::Spec::of(&layer().build(), 1, 4096)
}

/// Byte at which the trailer of [`layer`] begins.
fn trailer_at() -> usize {
    usize::try_from(layer().index_at()).unwrap() + 3 * 16
}

fn lsmt_header_and_trailer() {
    let stack = Sandwich::new();
    let good = layer().build();
    let at = trailer_at();
    let check = |content: &[u8], errno, rule: &str| {
        stack.refused(&stack.file("bad", content), "", errno, rule);
    };
    for byte in [0, 7, 8, 23] {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        let text = "no layer magic at the start: not an overlaybd layer";
        check(
            &bad,
            Errno::INVAL,
            &format!("lsmt offset 0: {text} (found *)"),
        );
        let mut bad = good.clone();
        bad[at + byte] ^= 1;
        let text = "no trailer magic at the end (truncated, or not sealed)";
        check(
            &bad,
            CORRUPT,
            &format!("lsmt offset {at}: {text} (found *)"),
        );
    }
    for flags in [0, 2, 4, 6, 1, 5] {
        let mut bad = layer();
        bad.header_flags = flags;
        let text = "header flags must say header of a data file";
        let line = format!("lsmt offset 28: {text} (found {flags})");
        check(&bad.build(), Errno::INVAL, &line);
    }
    for flags in [0, 1, 2, 3, 4, 5, 7] {
        let mut bad = layer();
        bad.trailer_flags = flags;
        let text = "trailer flags must say sealed data file, not header";
        let line = format!("lsmt offset {}: {text} (found {flags})", at + 28);
        check(&bad.build(), CORRUPT, &line);
    }
    stack.works();
}

fn lsmt_index() {
    let stack = Sandwich::new();
    let index_at = layer().index_at();
    let check = |records: &[Record], rule: &str, number: u64, found: u64| {
        let mut bad = layer();
        bad.records = records.iter().map(Record::bytes).collect();
        let at = index_at + number * 16;
        let line = format!("lsmt offset {at}: {rule} (found {found})");
        stack.refused(&stack.file("bad", &bad.build()), "", CORRUPT, &line);
    };
    let order = "index records overlap or are not sorted";
    check(
        &[Record::data(0, 4, 8), Record::data(3, 4, 12)],
        order,
        1,
        3,
    );
    check(
        &[Record::data(8, 4, 8), Record::data(0, 4, 12)],
        order,
        1,
        0,
    );
    check(&[Record::data(8, 4, 8), Record::zero(8, 1, 8)], order, 1, 8);
    let three = [
        Record::data(0, 1, 8),
        Record::data(5, 1, 9),
        Record::data(4, 1, 10),
    ];
    check(&three, order, 2, 4);
    let range = "index record points outside the data area";
    for moffset in [0, 1, 7, 24, 25, 1 << 20, (1 << 55) - 1] {
        check(&[Record::data(0, 1, moffset)], range, 0, moffset);
    }
    check(&[Record::data(0, 17, 8)], range, 0, 8);
    check(
        &[Record::data(0, 1, 8), Record::data(4, 2, 23)],
        range,
        1,
        23,
    );
    check(&[Record::zero(0, 4, 7)], range, 0, 7);
    check(&[Record::zero(0, 4, 25)], range, 0, 25);
    stack.works();
}

fn lsmt_claims() {
    let stack = Sandwich::new();
    let at = trailer_at();
    let check = |field: usize, value: u64, errno, text: &str| {
        let mut bad = layer().build();
        put_u64(&mut bad, at + field, value);
        let line = format!("lsmt offset {}: {text}", at + field);
        stack.refused(&stack.file("bad", &bad), "", errno, &line);
    };
    for size in [1_000_001, 1 << 32, u64::MAX] {
        let text = format!("number of index records is beyond the limit (found {size})");
        check(40, size, Errno::FBIG, &text);
    }
    let text = |offset: u64| format!("index does not end before the trailer (found {offset})");
    let trailer = trailer_at() as u64;
    for offset in [
        trailer - 32,
        trailer,
        trailer + 1,
        1 << 63,
        u64::MAX - 8,
        u64::MAX,
    ] {
        check(32, offset, CORRUPT, &text(offset));
    }
    // Too many records for where the index is: told of the same field.
    let mut bad = layer().build();
    put_u64(&mut bad, at + 40, 4);
    let line = format!("lsmt offset {}: {}", at + 32, text(layer().index_at()));
    stack.refused(&stack.file("bad", &bad), "", CORRUPT, &line);
    for size in [(1u64 << 59) + 1, (1 << 59) + 512, u64::MAX] {
        let text = format!("virtual size is beyond the limit (found {size})");
        check(48, size, Errno::FBIG, &text);
    }
    stack.works();
    // The largest disk there can be is none too many.
    let mut spec = layer();
    spec.virtual_size = 1 << 59;
    let module = Module::stack(&[stack.file("largest", &spec.build())], "");
    assert_eq!(super::super::support::device::size(DEVICE), 1 << 59);
    let file = read::direct(DEVICE);
    assert_eq!(
        read::pread(&file, (1 << 59) - 4096, 8192).unwrap(),
        [0; 4096]
    );
    drop(file);
    module.unload();
}

fn no_size_at_all() {
    let stack = Sandwich::new();
    let mut spec = layer();
    spec.virtual_size = 0;
    let layer = stack.file("without", &spec.build());
    let parameters = backfile(&[&layer, &layer]);
    let line = "stack offset 0: no layer states a virtual size; give one (found 0)";
    refused(&parameters, CORRUPT, line);
    refused(&format!("{parameters} size=0"), CORRUPT, line);
    let module = Module::load(&format!("{parameters} size=2048"));
    read::check_all(DEVICE, &numbered(4));
    module.unload();
}

fn tar_wrappers() {
    let stack = Sandwich::new();
    let payload = layer().build();
    let check = |content: &[u8], errno, rule: &str| {
        stack.refused(&stack.file("bad", content), "", errno, rule);
    };
    let records = |text: &[u8]| tar::wrap_records(b'x', text, &tar::size_text(0), &payload);
    let bounds = "tar payload ends past the end of the file";
    for size in [1 << 20, u64::MAX] {
        let bad = records(&tar::pax_record("size", &size.to_string()));
        check(
            &bad,
            CORRUPT,
            &format!("tar offset 124: {bounds} (found {size})"),
        );
    }
    let malformed = "tar offset 512: pax record is malformed (found 0)";
    for text in [
        &b"19 size=1234\n"[..],
        b"size=1234\n",
        b"99 size=1\n",
        b"12 size=12x4\n",
    ] {
        check(&records(text), CORRUPT, malformed);
    }
    let mut bad = tar::header("overlaybd.commit", b'0', b"not octal ");
    bad.extend_from_slice(&payload);
    let line = "tar offset 124: tar size field is not an octal number (found 0)";
    check(&bad, CORRUPT, line);
    let mut bad = tar::header("overlaybd.commit", b'0', &tar::size_text(1 << 24));
    bad.extend_from_slice(&payload);
    let line = format!("tar offset 124: {bounds} (found {})", 1 << 24);
    check(&bad, CORRUPT, &line);
    // A size that is too small cuts the payload off, which its own rules notice.
    let less = payload.len() - 512;
    let bad = records(&tar::pax_record("size", &less.to_string()));
    let text = "no trailer magic at the end (truncated, or not sealed)";
    check(
        &bad,
        CORRUPT,
        &format!("lsmt offset {}: {text} (found *)", less - 4096),
    );
    stack.works();
}

/// The index is read through the blocks, whose checksums count while a layer is opened, too.
fn index_in_a_damaged_block() {
    let stack = Sandwich::new();
    let spec = compressed();
    let index_block = usize::try_from(layer().index_at() / 4096).unwrap();
    let at: usize = 512
        + spec.blocks[..index_block]
            .iter()
            .map(|b| b.len() + 4)
            .sum::<usize>();
    let mut bad = spec.build();
    bad[at + 2] ^= 1;
    let path = stack.file("bad", &bad);
    let layers = [&*stack.bottom, &*path, &*stack.top];
    let line = format!(
        "layer 1 ({}): zfile offset {at}: block checksum does not match (found \
         {index_block})",
        path.display()
    );
    refused(&backfile(&layers), CHECKSUM, &line);
    stack.works();
}

/// Numbers that fit the file because the file is huge; memory must not be taken for them.
fn claims_of_a_huge_file() {
    let stack = Sandwich::new();
    let path = stack.scratch.join("huge");
    let file = File::create(&path).expect("a file");
    let size = 1u64 << 40;
    file.set_len(size).expect("a sparse file");
    let mut spec = layer();
    spec.records = vec![[0; 16]; 1_000_000];
    file.write_all_at(&spec.structure(7, None), 0)
        .expect("the header");
    let trailer = spec.structure(6, Some(size - (1 << 30)));
    file.write_all_at(&trailer, size - 4096)
        .expect("the trailer");
    let rule = "index record points outside the data area";
    let line = format!("lsmt offset {}: {rule} (found 0)", size - (1 << 30));
    stack.refused(&path, "", CORRUPT, &line);

    let spec = compressed();
    let mut header = spec.structure(0x1b, true);
    let table = size - (8 << 30);
    put_u64(&mut header, 40, table);
    put_u64(&mut header, 48, 1_000_000_000);
    put_u64(&mut header, 56, 65_536 * 1_000_000_000);
    put_u32(&mut header, 72, 65_536);
    image::seal(&mut header, 0);
    file.write_all_at(&header, 0).expect("the header");
    let trailer = spec.structure(0x16, true);
    file.write_all_at(&trailer, size - 512)
        .expect("the trailer");
    // Its table would take 2.4 GB, and that is known before any of it is read.
    let rule =
        "jump tables and indexes of the stack would take 2375000016 bytes of memory so far; a \
                stack may have * on this machine";
    stack.refused(&path, "", Errno::FBIG, rule);
    stack.works();
}
