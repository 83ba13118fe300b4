// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Files of writable layers, by both readers.

use crate::image::records;
use crate::input::Input;
use vbd_format::lsmt::{load_log, probe_data, probe_log, LogEnd};
use vbd_format::Error;
use vbd_tests_host::decoder::{data_header, log, log_header};
use vbd_tests_host::lsmt::Spec;
use vbd_tests_host::mem::Mem;
use vbd_tests_host::put;

/// Bytes of a header that mean something, besides texts.
const USED: usize = 56;

/// Kind, size of the buffer and of the data file; perhaps a header; records; perhaps more bytes.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let [kind, room] = input.array();
    let data_size = input.short() << (kind & 7);
    let mut file = Spec::new(1 << 20, Vec::new(), &[]).structure(1, Some(4096));
    if kind & 8 != 0 {
        put(&mut file, 24, input.array::<{ USED - 24 }>());
    }
    if kind & 16 != 0 {
        put(&mut file, 0, input.array::<24>());
    }
    file.extend(records(&mut input).into_iter().flatten());
    file.extend_from_slice(input.rest());
    if kind & 32 != 0 {
        file.truncate(data_size as usize);
    }
    check(&file, data_size, 16 + usize::from(room));
}

fn check(file: &[u8], data_size: u64, room: usize) {
    let source = Mem(file.to_vec());
    let got = probe_data(&source).map(|found| (found.virtual_size, found.sparse));
    assert_eq!(got, data_header(file));
    let got = probe_log(&source).map(|found| found.virtual_size);
    let wanted = log_header(file);
    assert_eq!(got, wanted);
    if wanted.is_err() {
        return;
    }
    let mut records = Vec::new();
    let mut buf = vec![0; room];
    let end: Result<LogEnd, Error> = load_log(&source, data_size, &mut buf, |segment| {
        records.push(segment.to_bytes());
        Ok(())
    });
    match (end, log(file, data_size)) {
        (Ok(end), Ok(wanted)) => {
            assert_eq!(end, wanted.end);
            let wanted: Vec<[u8; 16]> = wanted.records.iter().map(|r| r.bytes()).collect();
            assert_eq!(records, wanted);
        }
        (Err(error), Err(wanted)) => assert_eq!(error, wanted),
        (got, wanted) => panic!("{got:?} for {wanted:?}"),
    }
}
