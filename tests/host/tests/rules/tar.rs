// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Wrappers that contradict themselves or the file, and windows that leave their source.

use crate::Case;
use vbd_format::tar::unwrap;
use vbd_format::{Class, Error, ReadAt as _, Rule, Window};
use vbd_tests_host::mem::Mem;
use vbd_tests_host::tar::{
    header, pax_record, seal, size_text, wrap_pax, wrap_records, wrap_ustar,
};

const BOUNDS: (Rule, Class) = (Rule::TarPayloadBounds, Class::Corrupt);
const RECORD: (Rule, Class) = (Rule::TarPaxRecord, Class::Corrupt);
const SIZE: (Rule, Class) = (Rule::TarSizeField, Class::Corrupt);
const WINDOW: (Rule, Class) = (Rule::WindowBounds, Class::Corrupt);

const PAYLOAD: [u8; 1000] = [0x5a; 1000];

fn open(file: Vec<u8>) -> Result<(), Error> {
    unwrap(Mem(file)).map(|_| ())
}

fn pax(records: &[u8]) -> Result<(), Error> {
    open(wrap_records(b'x', records, &size_text(1000), &PAYLOAD))
}

fn ustar(size: &[u8]) -> Result<(), Error> {
    let mut file = header("layer", b'0', size);
    file.extend_from_slice(&PAYLOAD);
    open(file)
}

fn cut(mut file: Vec<u8>, len: usize) -> Result<(), Error> {
    file.truncate(len);
    open(file)
}

fn bad_first_size() -> Result<(), Error> {
    let mut file = wrap_pax(&PAYLOAD);
    file[124..136].copy_from_slice(b"not a number");
    seal(&mut file[..512]);
    open(file)
}

fn window(offset: u64, size: u64) -> Result<(), Error> {
    Window::new(Mem(vec![0; 100]), offset, size).map(|_| ())
}

fn read(offset: u64, len: usize) -> Result<(), Error> {
    Window::new(Mem(vec![0; 100]), 20, 60)?.read_exact_at(offset, &mut vec![0; len])
}

pub(crate) fn cases() -> Vec<Case> {
    let huge = pax_record("size", &u64::MAX.to_string());
    let long = pax_record("comment", &"x".repeat(500));
    vec![
        Case::new(
            "ustar: cut short",
            BOUNDS,
            124,
            1000,
            cut(wrap_ustar(&PAYLOAD), 1511),
        ),
        Case::new(
            "ustar: size past the file",
            BOUNDS,
            124,
            1001,
            ustar(&size_text(1001)),
        ),
        Case::new(
            "ustar: largest octal",
            BOUNDS,
            124,
            (1 << 36) - 1,
            ustar(b"777777777777"),
        ),
        Case::new(
            "pax: cut in the payload",
            BOUNDS,
            124,
            1000,
            cut(wrap_pax(&PAYLOAD), 2535),
        ),
        Case::new(
            "pax: cut in the headers",
            BOUNDS,
            0,
            1535,
            cut(wrap_pax(&PAYLOAD), 1535),
        ),
        Case::new(
            "pax: cut to one block",
            BOUNDS,
            0,
            512,
            cut(wrap_pax(&PAYLOAD), 512),
        ),
        Case::new("pax: size wraps", BOUNDS, 124, u64::MAX, pax(&huge)),
        Case::new(
            "pax: size past the file",
            BOUNDS,
            124,
            99_999,
            pax(b"14 size=99999\n"),
        ),
        Case::new(
            "global: second size past the file",
            BOUNDS,
            124,
            1 << 20,
            open(wrap_records(b'g', b"", &size_text(1 << 20), &PAYLOAD)),
        ),
        Case::new(
            "pax: records longer than a block",
            RECORD,
            124,
            long.len() as u64,
            pax(&long),
        ),
        Case::new("pax: no space", RECORD, 512, 0, pax(b"15")),
        Case::new("pax: no length", RECORD, 512, 0, pax(b" size=1000\n")),
        Case::new("pax: length 0", RECORD, 512, 0, pax(b"0 size=1000\n")),
        Case::new(
            "pax: length inside its own digits",
            RECORD,
            512,
            0,
            pax(b"2 size=1000\n"),
        ),
        Case::new(
            "pax: length without the newline",
            RECORD,
            512,
            0,
            pax(b"12 size=1000\n"),
        ),
        Case::new(
            "pax: length past the records",
            RECORD,
            512,
            0,
            pax(b"14 size=1000\n"),
        ),
        Case::new(
            "pax: length that wraps",
            RECORD,
            512,
            0,
            pax(b"18446744073709551629 size=1000\n"),
        ),
        Case::new(
            "pax: length of a lot",
            RECORD,
            512,
            0,
            pax(b"18446744073709551615 size=1\n"),
        ),
        Case::new("pax: not a length", RECORD, 512, 0, pax(b"1x size=1000\n")),
        Case::new(
            "pax: zeroes after the record",
            RECORD,
            512,
            0,
            pax(b"13 size=1000\n\0\0\0"),
        ),
        Case::new("pax: empty size", RECORD, 512, 0, pax(b"8 size=\n")),
        Case::new("pax: signed size", RECORD, 512, 0, pax(b"13 size=-100\n")),
        Case::new(
            "pax: hexadecimal size",
            RECORD,
            512,
            0,
            pax(b"13 size=0x10\n"),
        ),
        Case::new(
            "pax: size of more than 64 bits",
            RECORD,
            512,
            0,
            pax(&pax_record("size", "18446744073709551616")),
        ),
        Case::new(
            "pax: second record cut",
            RECORD,
            512,
            0,
            pax(b"13 size=1000\n20 a=b\n"),
        ),
        Case::new("ustar: not octal", SIZE, 124, 0, ustar(b"00000001999 ")),
        Case::new(
            "ustar: base-256",
            SIZE,
            124,
            0,
            ustar(b"\x80\0\0\0\0\0\0\0\0\0\x03\xe8"),
        ),
        Case::new("ustar: two numbers", SIZE, 124, 0, ustar(b"1000 1000   ")),
        Case::new("pax: its own size", SIZE, 124, 0, bad_first_size()),
        Case::new(
            "global: second size",
            SIZE,
            1148,
            0,
            open(wrap_records(b'g', b"", b"8", &PAYLOAD)),
        ),
        Case::new(
            "pax: no size record, second size",
            SIZE,
            1148,
            0,
            open(wrap_records(
                b'x',
                &pax_record("path", "a"),
                b"-1",
                &PAYLOAD,
            )),
        ),
        Case::new("window past the end", WINDOW, 50, 51, window(50, 51)),
        Case::new("window after the end", WINDOW, 101, 0, window(101, 0)),
        Case::new(
            "window that wraps",
            WINDOW,
            1,
            u64::MAX,
            window(1, u64::MAX),
        ),
        Case::new("read past a window", WINDOW, 1, 60, read(1, 60)),
        Case::new("read after a window", WINDOW, 61, 0, read(61, 0)),
        Case::new("read that wraps", WINDOW, u64::MAX, 2, read(u64::MAX, 2)),
    ]
}
