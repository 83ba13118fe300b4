// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! ZFiles that look wrong and are legal: each is opened and reads as it must.

use vbd_format::zfile::Algorithm;
use vbd_format::{ReadAt as _, Rule};
use vbd_tests_host::codec::encode;
use vbd_tests_host::lsmt::{numbered, Record, Spec};
use vbd_tests_host::mem::Mem;
use vbd_tests_host::open::{layer, layer_with, sectors, Payload};
use vbd_tests_host::rng::Rng;
use vbd_tests_host::{put_u32, put_u64, tar, zfile};

/// A layer whose last block is short at all block sizes.
fn layer_bytes() -> Vec<u8> {
    let records = [Record::data(0, 2, 8), Record::data(4, 2, 10)];
    let mut spec = Spec::new(4096, numbered(4), &records[..]);
    spec.data = numbered(4).repeat(64);
    spec.build()
}

const SHOWN: [u8; 8] = [1, 2, 0, 0, 3, 4, 0, 0];

#[test]
fn every_block_size_and_algorithm() {
    for algo in [1, 2] {
        for shift in 9..=16 {
            for verify in [0, 1, 255] {
                let mut spec = zfile::Spec::of(&layer_bytes(), algo, 1 << shift);
                spec.verify = verify;
                assert_eq!(sectors(spec.build()), SHOWN, "{algo} {shift} {verify}");
            }
        }
    }
}

#[test]
fn zfile_header_forms() {
    for overwritten in [true, false] {
        for digest in [true, false] {
            let mut spec = zfile::Spec::of(&layer_bytes(), 1, 4096);
            spec.overwritten = overwritten;
            spec.digest = digest;
            let opened = layer(Mem(spec.build())).expect("legal");
            let Payload::Packed(_, zfile, _) = &opened.payload else {
                panic!("not seen as a ZFile");
            };
            assert_eq!(zfile.from_header, overwritten);
            assert_eq!(zfile.index_crc.is_some(), digest);
            assert_eq!(zfile.algorithm, Algorithm::Lz4);
            assert_eq!(sectors(spec.build()), SHOWN);
        }
    }
}

#[test]
fn overwritten_header_needs_no_trailer() {
    let spec = zfile::Spec::of(&layer_bytes(), 1, 4096);
    let mut file = spec.build();
    let trailer = file.len() - 512;
    file[trailer..].fill(0xaa);
    assert_eq!(sectors(file.clone()), SHOWN);
    file.truncate(trailer);
    assert_eq!(sectors(file.clone()), SHOWN);
    // Neither the data bit nor the sealed bit nor unknown bits are looked at.
    for flags in [0x19, 0x1d, 0xffff_ffff_ffff_ffff] {
        put_u64(&mut file, 32, flags);
        zfile::seal(&mut file, 0);
        assert_eq!(sectors(file.clone()), SHOWN);
    }
}

#[test]
fn unused_fields_of_a_zfile() {
    let mut file = zfile::Spec::of(&layer_bytes(), 2, 8192).build();
    put_u32(&mut file, 24, 0xffff_ffff);
    put_u32(&mut file, 68, 0xffff_ffff);
    file[77..80].fill(0xff);
    put_u32(&mut file, 80, 0xffff_ffff);
    file[89..512].fill(0xff);
    zfile::seal(&mut file, 0);
    assert_eq!(sectors(file), SHOWN);
}

#[test]
fn checksum_fields_without_the_digest_flag() {
    let mut spec = zfile::Spec::of(&layer_bytes(), 1, 4096);
    spec.digest = false;
    let mut file = spec.build();
    put_u32(&mut file, 28, 0x1234_5678);
    put_u32(&mut file, 64, 0x1234_5678);
    assert_eq!(sectors(file), SHOWN);
}

#[test]
fn dictionary_space_and_junk() {
    let mut spec = zfile::Spec::of(&layer_bytes(), 1, 4096);
    spec.dict = vec![0x55; 1234];
    spec.junk_before_table = vec![0x66; 77];
    spec.junk_after_table = vec![0x77; 99];
    assert_eq!(sectors(spec.build()), SHOWN);
    spec.overwritten = false;
    assert_eq!(sectors(spec.build()), SHOWN);
}

#[test]
fn more_blocks_than_the_size_needs() {
    let mut spec = zfile::Spec::of(&layer_bytes(), 1, 4096);
    spec.blocks.extend([vec![1; 5], vec![2; 4000]]);
    assert_eq!(sectors(spec.build()), SHOWN);
}

#[test]
fn empty_zfile_is_a_zfile() {
    let spec = zfile::Spec::of(&[], 1, 4096);
    let error = layer(Mem(spec.build())).expect_err("no layer inside");
    assert_eq!((error.rule, error.found), (Rule::LsmtTooSmall, 0));
}

#[test]
fn zstd_frames_of_all_kinds() {
    let plain = layer_bytes();
    let mut spec = zfile::Spec::of(&plain, 2, 8192);
    let halves = plain[..8192].split_at(3000);
    // Two frames; then a skippable one before the data; then a frame with checksum.
    spec.blocks[0] = [encode(2, halves.0), encode(2, halves.1)].concat();
    let mut skippable = vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    skippable.extend(encode(2, &plain[8192..16384]));
    spec.blocks[1] = skippable;
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).expect("an encoder");
    encoder.include_checksum(true).expect("an option");
    encoder.include_contentsize(false).expect("an option");
    std::io::Write::write_all(&mut encoder, &plain[16384..24576]).expect("memory");
    spec.blocks[2] = encoder.finish().expect("memory");
    let opened = layer(Mem(spec.build())).expect("legal");
    let mut got = vec![0; plain.len()];
    opened.payload.read_exact_at(0, &mut got).expect("readable");
    assert!(got == plain);
}

#[test]
fn blocks_that_did_not_compress() {
    for (algo, block_size) in [(1, 65536), (2, 65536), (1, 4096), (2, 512)] {
        let mut spec = Spec::new(4096, Rng(9).noise(300 << 10), &[Record::data(0, 8, 8)]);
        spec.data[..2048].copy_from_slice(&numbered(4));
        spec.data[2048..4096].copy_from_slice(&numbered(4));
        let packed = zfile::Spec::of(&spec.build(), algo, block_size);
        let longest = packed.blocks.iter().map(Vec::len).max().unwrap_or(0);
        assert!(longest > block_size as usize, "the noise did compress");
        assert_eq!(sectors(packed.build()), [1, 2, 3, 4, 1, 2, 3, 4]);
    }
}

#[test]
fn what_is_no_zfile_is_the_layer_itself() {
    // Neither a wrong magic nor a block that is not marked as header makes a ZFile.
    let content = [layer_bytes(), Rng(1).noise(20_000)].concat();
    let good = zfile::Spec::of(&content, 1, 4096).build();
    for (at, value) in [(0, b'z'), (23, b'A'), (32, 0x1a)] {
        let mut file = good.clone();
        file[at] = value;
        let error = layer(Mem(file)).expect_err("no layer");
        assert_eq!((error.rule, error.offset), (Rule::LsmtHeaderMagic, 0));
    }
    // A ZFile in a ZFile is taken for a layer, and is none.
    let twice = zfile::Spec::of(&good, 1, 4096).build();
    let error = layer(Mem(twice)).expect_err("no layer");
    assert_eq!(
        (error.rule, error.found),
        (Rule::LsmtHeaderMagic, 0x6c69_465a)
    );
}

#[test]
fn wrappers_hold_both_kinds() {
    let plain = layer_bytes();
    let packed = zfile::Spec::of(&plain, 1, 4096).build();
    for payload in [&plain, &packed] {
        assert_eq!(sectors(tar::wrap_ustar(payload)), SHOWN);
        assert_eq!(sectors(tar::wrap_pax(payload)), SHOWN);
    }
    // A payload that is cut by a wrong size still reads when the trailer is not needed.
    let records = tar::pax_record("size", &(packed.len() - 300).to_string());
    let cut = tar::wrap_records(b'x', &records, &tar::size_text(0), &packed);
    assert_eq!(sectors(cut), SHOWN);
}

#[test]
fn any_buffer_size_loads_the_same() {
    let file = zfile::Spec::of(&layer_bytes(), 1, 512).build();
    let want = layer(Mem(file.clone())).expect("legal").segments;
    assert_eq!(want.len(), 2);
    for room in [128, 129, 255, 256, 4095, 65536] {
        let got = layer_with(Mem(file.clone()), room).expect("legal");
        assert_eq!(got.segments, want);
    }
}
