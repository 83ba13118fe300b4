// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! ZFiles: header, trailer, jump table and blocks, by both readers.

use crate::image::seal;
use crate::input::Input;
use vbd_format::zfile::{self, JumpTable, Run};
use vbd_format::{Error, ReadAt as _, Rule, Window};
use vbd_tests_host::crc::RawCrc;
use vbd_tests_host::decoder::{Block, ZFile};
use vbd_tests_host::mem::Mem;
use vbd_tests_host::open::{groups_into, Payload};

/// Bytes of header and trailer that mean something.
const USED: usize = 96;
/// Blocks that are read at most.
const BLOCKS: u64 = 12;

/// What to put right, size of the buffer for the table; header, trailer, and what is between them.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let [what, room] = input.array();
    let header: [u8; USED] = input.array();
    let trailer: [u8; USED] = input.array();
    let mut payload = vec![0; 512];
    payload[..USED].copy_from_slice(&header);
    payload.extend_from_slice(input.rest());
    let end = payload.len();
    payload.resize(end + 512, 0);
    payload[end..end + USED].copy_from_slice(&trailer);
    seal(&mut payload, what);
    if what & 64 != 0 {
        payload.truncate(end);
    }
    // At least a group of entries.
    check(&payload, 128 + usize::from(room));
}

fn check(payload: &[u8], room: usize) {
    let source = Mem(payload.to_vec());
    let _ = zfile::inspect(&source, &RawCrc, |_| Ok(()));
    let wanted = ZFile::open(payload);
    let got = zfile::probe(&source, &RawCrc);
    let zfile = match got {
        Ok(Some(zfile)) => zfile,
        Ok(None) => return assert!(matches!(wanted, Ok(None)), "{wanted:?}"),
        Err(error) => return assert_eq!(Err(error), wanted.map(|_| ())),
    };
    let mut groups = Vec::new();
    let mut buf = vec![0; room];
    let sink = groups_into(&mut groups);
    let loaded = zfile::load_jump_table(&source, &zfile, &RawCrc, &mut buf, sink);
    if let Err(error) = loaded {
        return assert_eq!(Err(error), wanted.map(|_| ()));
    }
    let wanted = wanted.expect("a good ZFile").expect("a ZFile");
    assert_eq!(zfile.original_size, wanted.original_size);
    assert_eq!(u64::from(zfile.block_size), wanted.block_size);
    assert_eq!(zfile.from_header, wanted.from_header);
    assert_eq!(zfile.blocks(), wanted.stored.len() as u64);
    let table = JumpTable::new(&zfile, &groups);
    assert_eq!(table.stored(zfile.blocks()), None);
    for (number, place) in wanted.stored.iter().enumerate() {
        let stored = table.stored(number as u64).expect("a block");
        assert_eq!(
            (stored.offset, stored.len),
            (place.start as u64, place.len())
        );
        assert!(stored.len <= zfile.max_stored());
    }
    if let Some(run) = Run::new(&table, 0, BLOCKS, zfile.max_stored()) {
        let last = (run.first + run.count - 1) as usize;
        assert_eq!(run.offset + run.len as u64, wanted.stored[last].end as u64);
    }
    let window = Window::new(source, 0, payload.len() as u64).expect("all of it");
    let packed = Payload::Packed(window, zfile, groups);
    for number in 0..zfile.blocks().min(BLOCKS) {
        // A whole block, and a part that ends in the next one.
        let start = number * wanted.block_size;
        let length = zfile.decoded_len(number);
        let mut whole = vec![0xee; length];
        let read = packed.read_exact_at(start, &mut whole);
        judge(&wanted.block(number), read, &whole);
        let left = (zfile.original_size - start - 1).min(length as u64);
        let mut part = vec![0xee; left as usize];
        if packed.read_exact_at(start + 1, &mut part).is_ok() && length > 1 {
            assert_eq!(part[..length - 1], whole[1..], "a part of block {number}");
        }
    }
    let past = packed.read_exact_at(zfile.original_size, &mut [0]);
    assert_eq!(past.map_err(|error| error.rule), Err(Rule::ZFileReadBounds));
}

fn judge(wanted: &Block, read: Result<(), Error>, got: &[u8]) {
    match (wanted, read) {
        (Block::Exact(bytes) | Block::Perhaps(bytes, _), Ok(())) => assert!(got == bytes, "bytes"),
        (Block::Undefined(_), Ok(())) => (),
        (
            Block::Perhaps(_, errors) | Block::Undefined(errors) | Block::Bad(errors, _),
            Err(error),
        ) => {
            assert!(errors.contains(&error), "{error} for {errors:?}")
        }
        (wanted, read) => panic!("{read:?} for {wanted:?}"),
    }
}
