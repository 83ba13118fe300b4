// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers that look wrong and are legal: each is opened and reads as it must.

use vbd_format::lsmt::{MAX_SEGMENT_SECTORS, PADDING_OFFSET};
use vbd_format::Rule;
use vbd_tests_host::lsmt::{numbered, Record, Spec, PADDING};
use vbd_tests_host::mem::Mem;
use vbd_tests_host::open::{layer, sectors, Stack};
use vbd_tests_host::put_u64;

fn disk(records: &[Record]) -> Vec<u8> {
    sectors(Spec::new(8 * 512, numbered(4), records).build())
}

#[test]
fn smallest_layer() {
    for index_offset in [0, 4096, 8192, 8191, u64::MAX] {
        let mut file = Spec::new(4096, Vec::new(), &[]).build();
        assert_eq!(file.len(), 8192);
        put_u64(&mut file, 4096 + 32, index_offset);
        let layer = layer(Mem(file.clone())).expect("legal");
        assert_eq!(layer.lsmt.index_offset, index_offset);
        assert!(layer.segments.is_empty());
        assert_eq!(sectors(file), [0; 8]);
    }
}

#[test]
fn flags_seen_and_unknown() {
    for (header, trailer) in [
        (0x07, 0x06),
        (0x03, 0x06),
        (0x13, 0x16),
        (0xffff_ffff, 0xffff_fffe),
    ] {
        let mut spec = Spec::new(512, numbered(1), &[Record::data(0, 1, 8)]);
        spec.header_flags = header;
        spec.trailer_flags = trailer;
        assert_eq!(sectors(spec.build()), [1]);
    }
}

#[test]
fn header_fields_count_for_nothing() {
    let mut file = Spec::new(1024, numbered(1), &[Record::data(0, 1, 8)]).build();
    file[24..28].fill(0xff);
    file[32..4096].fill(0xff);
    assert_eq!(sectors(file), [1, 0]);
}

#[test]
fn trailer_text_and_reserved_bytes_count_for_nothing() {
    let mut file = Spec::new(1024, numbered(1), &[Record::data(0, 1, 8)]).build();
    let trailer = file.len() - 4096;
    file[trailer + 24..trailer + 28].fill(0xff);
    file[trailer + 56..].fill(0xff);
    let opened = layer(Mem(file.clone())).expect("legal");
    assert_eq!(opened.lsmt.trailer.uuid, [0xff; 37]);
    assert_eq!(sectors(file), [1, 0]);
}

#[test]
fn stored_sectors_may_be_shared_and_overlap() {
    let records = [
        Record::data(0, 2, 8),
        Record::data(2, 2, 8),
        Record::data(4, 4, 8),
    ];
    assert_eq!(disk(&records), [1, 2, 1, 2, 1, 2, 3, 4]);
}

#[test]
fn stored_order_is_free_and_neighbours_need_not_be_merged() {
    let records = [
        Record::data(0, 1, 11),
        Record::data(1, 1, 10),
        Record::data(2, 1, 9),
        Record::data(3, 1, 10),
        Record::data(4, 1, 11),
    ];
    assert_eq!(disk(&records), [4, 3, 2, 3, 4, 0, 0, 0]);
}

#[test]
fn empty_records_are_checked_and_dropped() {
    let records = [
        Record::data(0, 0, 9),
        Record::data(0, 2, 8),
        Record::data(2, 0, 11),
        Record::zero(2, 0, 8),
        Record::zero(2, 0, 12),
        Record::data(2, 1, 11),
    ];
    assert_eq!(disk(&records), [1, 2, 4, 0, 0, 0, 0, 0]);
    let file = Spec::new(4096, numbered(4), &records).build();
    assert_eq!(layer(Mem(file)).expect("legal").segments.len(), 2);
}

#[test]
fn records_may_end_past_the_disk() {
    let records = [
        Record::data(6, 4, 8),
        Record::zero(10, MAX_SEGMENT_SECTORS, 8),
        Record::zero(PADDING_OFFSET - 1, MAX_SEGMENT_SECTORS, 12),
    ];
    assert_eq!(disk(&records), [0, 0, 0, 0, 0, 0, 1, 2]);
}

#[test]
fn padding_stands_anywhere_with_any_fields() {
    let mut spec = Spec::new(4096, numbered(4), &[]);
    let odd = Record {
        offset: PADDING_OFFSET,
        len: 77,
        moffset: 0,
        zeroed: true,
        tag: 9,
    };
    spec.records = vec![
        PADDING,
        odd.bytes(),
        Record::data(1, 1, 8).bytes(),
        PADDING,
        Record::data(2, 2, 10).bytes(),
        odd.bytes(),
    ];
    assert_eq!(sectors(spec.build()), [0, 1, 3, 4, 0, 0, 0, 0]);
    spec.records = vec![PADDING; 256];
    assert_eq!(sectors(spec.build()), [0; 8]);
}

#[test]
fn tags_are_overwritten() {
    let tagged = |mut record: Record, tag| {
        record.tag = tag;
        record
    };
    let records = [
        tagged(Record::data(0, 1, 8), 255),
        tagged(Record::zero(1, 1, 8), 7),
    ];
    let file = Spec::new(4096, numbered(4), &records).build();
    let opened = layer(Mem(file.clone())).expect("legal");
    assert_eq!(opened.segments[0].tag(), 255);
    let stack = Stack::open([Mem(file.clone()), Mem(file)]).expect("legal");
    assert!(stack.index.iter().all(|segment| segment.tag() == 1));
    assert_eq!(disk(&records), [1, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn junk_around_the_index() {
    for junk in [1, 16, 511, 512, 5000] {
        let mut spec = Spec::new(4096, numbered(4), &[Record::data(0, 4, 8)]);
        spec.junk_before_index = vec![0xff; junk];
        spec.junk_after_index = vec![0xee; junk];
        assert_eq!(sectors(spec.build()), [1, 2, 3, 4, 0, 0, 0, 0]);
    }
}

#[test]
fn the_index_may_lie_over_data() {
    // Sector 8 is read as data, and sectors 9 and 10 hold an index that only the trailer knows.
    let mut spec = Spec::new(4096, numbered(4), &[Record::data(5, 1, 8)]);
    let record = spec.records[0];
    spec.data[512..528].copy_from_slice(&record);
    let mut file = spec.build();
    let trailer = file.len() - 4096;
    put_u64(&mut file, trailer + 32, 4096 + 512);
    assert_eq!(sectors(file), [0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn zeroed_records_may_point_at_the_index() {
    assert_eq!(disk(&[Record::zero(0, 8, 12)]), [0; 8]);
}

#[test]
fn any_virtual_size() {
    let spec = Spec::new(1000, numbered(4), &[Record::data(0, 4, 8)]);
    let stack = Stack::open([Mem(spec.build())]).expect("legal");
    assert_eq!(stack.virtual_size, 1000);
    let mut bytes = vec![0xee; 1100];
    stack.read(0, &mut bytes).expect("readable");
    assert!(bytes[512..1000].iter().all(|&b| b == 2));
    assert!(bytes[1000..].iter().all(|&b| b == 0));

    let largest = Spec::new(
        1 << 59,
        numbered(4),
        &[Record::data(PADDING_OFFSET - 1, 2, 8)],
    );
    let stack = Stack::open([Mem(largest.build())]).expect("legal");
    let mut bytes = vec![0xee; 2048];
    stack.read((1 << 59) - 1536, &mut bytes).expect("readable");
    assert!(bytes[..512].iter().all(|&b| b == 0));
    assert!(bytes[512..1024].iter().all(|&b| b == 1));
    assert!(bytes[1024..1536].iter().all(|&b| b == 2));
    assert!(bytes[1536..].iter().all(|&b| b == 0));
}

#[test]
fn the_topmost_size_that_is_not_zero_counts() {
    let sized = |size| Mem(Spec::new(size, Vec::new(), &[]).build());
    let open = |sizes: [u64; 3]| Stack::open(sizes.map(sized)).map(|s| s.virtual_size);
    assert_eq!(open([512, 1024, 2048]), Ok(2048));
    assert_eq!(open([4096, 1024, 0]), Ok(1024));
    assert_eq!(open([4096, 0, 0]), Ok(4096));
    assert_eq!(open([0, 0, 1]), Ok(1));
    assert_eq!(open([0, 0, 0]).map_err(|e| e.rule), Err(Rule::StackNoSize));
}
