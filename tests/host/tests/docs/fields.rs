// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Field tables against the structures, which must agree field by field and without a gap.

use crate::table::table;
use core::mem::{offset_of, size_of};
use vbd_format::{lsmt, zfile};

/// Size of the field that `get` reaches.
fn field_size<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! fields {
    ($type:ty: $( $field:ident )*) => {
        vec![$((
            stringify!($field),
            offset_of!($type, $field),
            field_size(|s: &$type| &s.$field),
        )),*]
    };
}

fn compare(name: &str, fields: &[(&str, usize, usize)], total: usize) {
    let listed: Vec<(String, String, String)> = table(name)
        .columns(["field", "offset", "size"])
        .into_iter()
        .map(|[field, offset, size]| (field, offset, size))
        .collect();
    let coded: Vec<(String, String, String)> = fields
        .iter()
        .map(|(field, offset, size)| (field.to_string(), offset.to_string(), size.to_string()))
        .collect();
    assert_eq!(listed, coded);
    // A field that the list above forgets would leave a gap.
    let mut end = 0;
    for (field, offset, size) in fields {
        assert_eq!(*offset, end, "before {field}");
        end += size;
    }
    assert_eq!(end, total);
}

#[test]
fn zfile_header() {
    let fields = fields!(zfile::Header:
        magic0 magic1 size digest flags index_offset index_size original_file_size index_crc
        reserved0 block_size algo level use_dict padding0 reserved1 dict_size verify padding1);
    compare("zfile-header", &fields, size_of::<zfile::Header>());
    assert_eq!(size_of::<zfile::Header>() as u64, zfile::HEADER_BYTES);
}

#[test]
fn lsmt_header() {
    let fields = fields!(lsmt::Header:
        magic0 magic1 size flags index_offset index_size virtual_size uuid parent_uuid reserved
        version sub_version user_tag);
    compare("lsmt-header", &fields, size_of::<lsmt::Header>());
    assert_eq!(size_of::<lsmt::Header>(), 390);
}

#[test]
fn segments_are_records() {
    assert_eq!(size_of::<lsmt::Segment>(), lsmt::RECORD_BYTES);
}
