// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Stacks that are none.

use crate::Case;
use vbd_format::limits::{stack_memory, stacks_memory, MAX_MERGED_RECORDS};
use vbd_format::lsmt::{check_records, virtual_size, Cursor, Merge, Segment};
use vbd_format::{Class, Error, Rule};

const LAYERS: (Rule, Class) = (Rule::StackLayers, Class::TooLarge);
const NO_SIZE: (Rule, Class) = (Rule::StackNoSize, Class::Corrupt);

fn merge(layers: usize, cursors: usize) -> Result<(), Error> {
    let layers: Vec<Vec<Segment>> = vec![Vec::new(); layers];
    Merge::new(&layers, &mut vec![Cursor::default(); cursors]).map(|_| ())
}

pub(crate) fn cases() -> Vec<Case> {
    let empty = (Rule::StackEmpty, Class::NotALayer);
    assert_eq!(merge(255, 255), Ok(()));
    assert_eq!(check_records(MAX_MERGED_RECORDS), Ok(()));
    vec![
        Case::new("no layer", empty, 0, 0, merge(0, 1)),
        Case::new("256 layers", LAYERS, 0, 256, merge(256, 256)),
        Case::new(
            "one record too many",
            (Rule::StackIndexLimit, Class::TooLarge),
            0,
            MAX_MERGED_RECORDS as u64 + 1,
            check_records(MAX_MERGED_RECORDS + 1),
        ),
        Case::new("too few cursors", LAYERS, 0, 3, merge(3, 2)),
        Case::new(
            "no layer's size",
            NO_SIZE,
            0,
            0,
            virtual_size([].into_iter()),
        ),
        Case::new(
            "only zero sizes",
            NO_SIZE,
            0,
            0,
            virtual_size([0, 0, 0].into_iter()),
        ),
    ]
}

/// A machine of one GiB has room for a disk of 50 GB in blocks of 4 KiB, and one that is large enough for
/// 255 layers of that size.
#[test]
fn memory_is_a_share_of_the_machine() {
    const GIB: u64 = 1 << 30;
    let table = 50_000_000_000u64.div_ceil(4096).div_ceil(32) * 76;
    assert_eq!(stack_memory(GIB), GIB / 4);
    assert_eq!(stacks_memory(GIB), GIB / 2);
    assert!(8 * table < stack_memory(GIB));
    assert_eq!(stack_memory(32 * GIB), 8 * GIB);
    assert_eq!(stack_memory(u64::MAX), 8 * GIB);
    assert!(255 * table < 8 * GIB);
    assert_eq!(stack_memory(0), 0);
}
