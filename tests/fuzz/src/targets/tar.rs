// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The tar wrapper: both readers find the same payload, and a written header is found again.

use crate::input::Input;
use vbd_format::tar::{header, unwrap, HEADER_BYTES};
use vbd_format::ReadAt as _;
use vbd_tests_host::decoder::payload;
use vbd_tests_host::mem::{Mem, Sparse};
use vbd_tests_host::tar::{seal, seal_signed};

/// What, then the file; its last byte is repeated as often as the second byte says.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let [what, more] = input.array();
    let mut file = input.rest().to_vec();
    let last = file.last().copied().unwrap_or_default();
    file.resize(file.len() + usize::from(more) * 8, last);
    if let Some(block) = file.get_mut(..512) {
        match what & 3 {
            0 => (),
            3 => {
                // Of a negative sum there is no octal text.
                let sum: i64 = block.iter().map(|&b| i64::from(b as i8)).sum();
                if sum > 8 * 128 {
                    seal_signed(block);
                }
            }
            _ => seal(block),
        }
    }
    let wanted = payload(&file);
    match (unwrap(Mem(file.clone())), &wanted) {
        (Ok((_, window)), Ok(range)) => {
            let place = window.offset() as usize..(window.offset() + window.size()) as usize;
            assert_eq!(place, *range);
            let mut bytes = vec![0; range.len()];
            window
                .read_exact_at(0, &mut bytes)
                .expect("a payload inside of the file");
            assert_eq!(bytes, file[range.clone()]);
        }
        (Err(error), Err(wanted)) => assert_eq!(error, *wanted),
        (got, wanted) => panic!("{got:?} for {wanted:?}"),
    }
    if what & 4 != 0 {
        written(Input::new(&file).word() >> (what >> 3));
    }
}

fn written(size: u64) {
    let Some(file_size) = size.checked_add(HEADER_BYTES as u64) else {
        return;
    };
    let source = Sparse {
        size: file_size,
        pieces: vec![(0, header(size).as_flattened().to_vec())],
    };
    let (_, window) = unwrap(source).expect("a wrapper of ours");
    // A size of 0 is found in the second header, where there is one, too.
    assert_eq!(
        (window.offset(), window.size()),
        (HEADER_BYTES as u64, size)
    );
}
