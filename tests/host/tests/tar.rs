// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Tar wrappers that must be found, and files that must be passed through.

mod property;

use property::config;
use proptest::prelude::*;
use vbd_format::tar::{checksums, unwrap, Wrapper, HEADER_BYTES};
use vbd_format::{ReadAt as _, Rule, Window};
use vbd_tests_host::mem::{Mem, Sparse};
use vbd_tests_host::tar::{
    header, pax_record, seal, seal_signed, size_text, wrap_pax, wrap_records, wrap_ustar,
};

const PAYLOAD: &[u8] = &[0xa7; 1000];

/// Wrapper, payload offset, and payload.
fn open(file: &[u8]) -> (Wrapper, u64, Vec<u8>) {
    let (wrapper, window) = unwrap(Mem(file.to_vec())).expect("accepted");
    let mut payload = vec![0; window.size() as usize];
    window.read_exact_at(0, &mut payload).expect("readable");
    (wrapper, window.offset(), payload)
}

fn pax(size: u64) -> (Wrapper, u64, Vec<u8>) {
    (Wrapper::Pax, 1536, PAYLOAD[..size as usize].to_vec())
}

#[test]
fn both_forms() {
    assert_eq!(
        open(&wrap_ustar(PAYLOAD)),
        (Wrapper::Ustar, 512, PAYLOAD.to_vec())
    );
    assert_eq!(open(&wrap_pax(PAYLOAD)), pax(1000));
    assert_eq!(open(&wrap_ustar(&[])), (Wrapper::Ustar, 512, Vec::new()));
}

#[test]
fn a_payload_may_end_with_the_file() {
    let mut file = wrap_pax(PAYLOAD);
    file.truncate(2536);
    assert_eq!(open(&file), pax(1000));
    let mut file = wrap_ustar(PAYLOAD);
    file.truncate(1512);
    assert_eq!(open(&file).2, PAYLOAD);
}

#[test]
fn a_smaller_size_cuts_the_payload() {
    let cut = wrap_records(b'x', b"12 size=600\n", &size_text(0), PAYLOAD);
    assert_eq!(open(&cut), pax(600));
}

#[test]
fn second_header_counts_without_a_pax_size() {
    for records in [
        &b""[..],
        b"9 size=0\n",
        b"10 path=a\n",
        b"12 xsize=70\n",
        b"11 SIZE=70\n",
    ] {
        let file = wrap_records(b'x', records, &size_text(777), PAYLOAD);
        assert_eq!(open(&file), pax(777), "{:?}", records.escape_ascii());
    }
}

#[test]
fn pax_size_wins_over_the_second_header_and_the_last_one_over_others() {
    let mut records = pax_record("size", "3");
    records.extend(pax_record("path", "overlaybd.commit"));
    records.extend(pax_record("size", "999"));
    records.extend(pax_record("comment", "size=5"));
    let file = wrap_records(b'x', &records, &size_text(17), PAYLOAD);
    assert_eq!(open(&file), pax(999));
}

#[test]
fn pax_records_may_fill_their_block() {
    let mut records = pax_record("size", "1000");
    let value = "x".repeat(512 - records.len() - "499 c=\n".len());
    records.extend(pax_record("c", &value));
    assert_eq!(records.len(), 512);
    assert_eq!(
        open(&wrap_records(b'x', &records, &size_text(0), PAYLOAD)),
        pax(1000)
    );
}

#[test]
fn records_of_a_global_header_are_ignored() {
    for records in [&b"12 size=600\n"[..], b"garbage", b"99 size=1\n"] {
        let file = wrap_records(b'g', records, &size_text(1000), PAYLOAD);
        assert_eq!(open(&file), pax(1000), "{:?}", records.escape_ascii());
    }
}

#[test]
fn size_fields_are_parsed_leniently() {
    for text in [
        &b"       1750 "[..],
        b"00000001750\0",
        b"00000001750 ",
        b"000000001750",
        b"1750\0garbage",
        b"1750 \0 9999",
        b"   1750",
    ] {
        let mut file = header("layer", b'0', text);
        file.extend_from_slice(PAYLOAD);
        assert_eq!(open(&file).2, PAYLOAD, "{:?}", text.escape_ascii());
    }
    // An empty field is 0.
    for text in [&b""[..], b"            "] {
        let mut file = header("layer", b'0', text);
        file.extend_from_slice(PAYLOAD);
        assert_eq!(open(&file), (Wrapper::Ustar, 512, Vec::new()));
    }
}

#[test]
fn nothing_but_spaces_is_white_in_a_size_field() {
    for text in [
        &b"\t1750      "[..],
        b"1750\n      ",
        b"\x0c1750",
        b" 17 50 ",
    ] {
        let mut file = header("layer", b'0', text);
        file.extend_from_slice(PAYLOAD);
        let error = unwrap(Mem(file)).expect_err("no number");
        assert_eq!(error.rule, Rule::TarSizeField, "{}", text.escape_ascii());
    }
}

#[test]
fn the_checksum_is_parsed_leniently_too() {
    let mut file = wrap_ustar(PAYLOAD);
    let sum = checksums(file[..512].try_into().unwrap())[0];
    for text in [
        format!("{sum:06o}\0 "),
        format!("{sum:07o}\0"),
        format!("{sum:>7o} "),
        format!("{sum:08o}"),
        format!(" {sum:o}\0x"),
    ] {
        file[148..156].fill(0);
        file[148..148 + text.len()].copy_from_slice(text.as_bytes());
        assert_eq!(open(&file).0, Wrapper::Ustar, "{text:?}");
    }
}

#[test]
fn signed_checksums() {
    let mut block = header("\u{e4}\u{f6}\u{fc}", b'0', &size_text(1000));
    let unsigned = checksums(block[..].try_into().unwrap());
    assert_eq!(unsigned[0] - unsigned[1], 6 * 256);
    seal_signed(&mut block);
    assert_ne!(&block[148..154], &header("", b'0', b"")[148..154]);
    block.extend_from_slice(PAYLOAD);
    assert_eq!(open(&block), (Wrapper::Ustar, 512, PAYLOAD.to_vec()));
}

#[test]
fn checksums_have_known_values() {
    assert_eq!(checksums(&[0; 512]), [256, 256]);
    assert_eq!(checksums(&[1; 512]), [504 + 256, 504 + 256]);
    // Signed: -504 + 256 cannot be written in octal.
    assert_eq!(checksums(&[0xff; 512]), [504 * 255 + 256, u64::MAX]);
}

#[test]
fn other_types_are_single_headers() {
    for kind in [0, b'0', b'5', b'L', b'X'] {
        let mut file = wrap_ustar(PAYLOAD);
        file[156] = kind;
        seal(&mut file[..512]);
        assert_eq!(open(&file).1, 512, "type {kind}");
    }
}

#[test]
fn what_is_not_tar_is_passed_through() {
    let good = wrap_ustar(PAYLOAD);
    let change = |at: usize, bytes: &[u8], sealed: bool| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        if sealed {
            seal(&mut file[..512]);
        }
        file
    };
    let files = [
        Vec::new(),
        good[..511].to_vec(),
        vec![0; 512],
        vec![0; 5000],
        vec![0xff; 5000],
        change(0, b"x", false),
        change(148, b"0000000\0", false),
        change(148, b"zzzzzz\0 ", false),
        change(257, b"USTAR", true),
        // GNU tar's own format.
        change(257, b"ustar  \0", true),
        change(263, b"01", true),
        change(263, b"\0\0", true),
        b"LSMT".iter().copied().cycle().take(9000).collect(),
    ];
    for (i, file) in files.iter().enumerate() {
        assert_eq!(
            open(file),
            (Wrapper::None, 0, file.clone()),
            "file number {i}"
        );
    }
}

#[test]
fn a_window_knows_its_place() {
    let bytes: Vec<u8> = (0..=99).collect();
    let window = Window::new(Mem(bytes.clone()), 20, 60).expect("inside");
    assert_eq!(window.offset(), 20);
    assert_eq!(window.size(), 60);
    assert_eq!(window.inner().0, bytes);
    let inner = Window::new(&window, 10, 50).expect("inside");
    let mut buf = [0; 50];
    inner.read_exact_at(0, &mut buf).expect("readable");
    assert_eq!(buf[..], bytes[30..80]);
    inner
        .read_exact_at(50, &mut [])
        .expect("an empty read at the end");
}

/// Checks the blocks that the core writes before a payload of `size` bytes.
fn check_written(size: u64) {
    let blocks = vbd_format::tar::header(size);
    let [pax, records, member] = &blocks;

    let mut want = pax_record("size", &size.to_string());
    let pax_len = want.len() as u64;
    want.resize(512, 0);
    assert_eq!(records[..], want);
    assert_eq!(pax[124..136], size_text(pax_len)[..]);
    assert_eq!((pax[156], member[156]), (b'x', b'0'));
    assert!(pax.starts_with(b"overlaybd.pax\0"));
    assert!(member.starts_with(b"overlaybd.commit\0"));
    let small = if size < 1 << 33 { size } else { 0 };
    assert_eq!(member[124..136], size_text(small)[..]);
    assert_eq!(member[100..124], *b"100644 \0     0 \0     0 \0");
    assert_eq!(member[136..148], *b"          0 ");
    for block in [pax, member] {
        let mut sealed = block.to_vec();
        seal(&mut sealed);
        assert_eq!(block[148..154], sealed[148..154], "checksum");
        assert_eq!(block[154..156], *b" \0");
        assert_eq!(block[257..265], *b"ustar\x0000");
    }

    // It is found again, in a file of that size.
    let Some(end) = size.checked_add(1536) else {
        return;
    };
    let file = Sparse {
        size: end,
        pieces: vec![(0, blocks.as_flattened().to_vec())],
    };
    let (wrapper, window) = unwrap(file).expect("accepted");
    assert_eq!(
        (wrapper, window.offset(), window.size()),
        (Wrapper::Pax, 1536, size)
    );
}

#[test]
fn written_headers_at_borders() {
    assert_eq!(HEADER_BYTES, 1536);
    let powers = (0..20).map(|n| 10u64.pow(n)).chain((0..64).map(|n| 1 << n));
    for size in powers.flat_map(|n| [n - 1, n, n + 1]).chain([u64::MAX]) {
        check_written(size);
    }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn written_headers(word in any::<u64>(), shift in 0..64u32) {
        check_written(word >> shift);
    }
}
