// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reading decompressed bytes, and the three checks on each block.

mod property;

use property::config;
use proptest::prelude::*;
use vbd_format::zfile::{probe, read_blocks, unpack, unpack_head, Algorithm, Codec, Output, ZFile};
use vbd_format::{Checksum as _, Error, Rule};
use vbd_tests_host::codec::{encode, Copying, Real};
use vbd_tests_host::crc::RawCrc;
use vbd_tests_host::mem::Mem;
use vbd_tests_host::rng::Rng;
use vbd_tests_host::zfile::Spec;

/// What the header of a file of `size` bytes says.
fn zfile(algo: u8, block_size: u32, size: usize, verify: u8) -> ZFile {
    let mut spec = Spec::of(&vec![0; size], algo, block_size);
    spec.verify = verify;
    probe(&Mem(spec.build()), &RawCrc)
        .expect("legal")
        .expect("a ZFile")
}

/// A block as stored with its checksum.
fn stored(packed: &[u8]) -> Vec<u8> {
    let sum = RawCrc.crc32c(100_007, packed);
    [packed, &sum.to_le_bytes()].concat()
}

/// Whether a block has that checksum.
fn is_sum(packed: &[u8], sum: [u8; 4]) -> bool {
    RawCrc.crc32c(100_007, packed) == u32::from_le_bytes(sum)
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn any_range_equals_the_slice(
        size in 1..9000usize,
        shift in 9..=12u32,
        ranges in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 12),
    ) {
        let block_size = 1usize << shift;
        let content = Rng(size as u64).noise(size);
        let zfile = zfile(1, block_size as u32, size, 1);
        for (a, b) in ranges {
            let (a, b) = (a.index(size + 1), b.index(size + 1));
            let (start, end) = (a.min(b), a.max(b));
            let mut buf = vec![0xee; end - start];
            let mut bounce = vec![0xdd; block_size];
            let mut loaded = Vec::new();
            read_blocks(&zfile, start as u64, &mut buf, &mut bounce, |block, dst| {
                let from = block as usize * block_size;
                let block_bytes = &content[from..size.min(from + block_size)];
                assert_eq!(dst.len(), block_bytes.len(), "not the block's decoded length");
                dst.copy_from_slice(block_bytes);
                loaded.push(block as usize);
                Ok::<(), Error>(())
            })
            .expect("inside the file");
            assert!(buf == content[start..end]);
            let touched = if start == end {
                0..0
            } else {
                start / block_size..end.div_ceil(block_size)
            };
            assert_eq!(loaded, touched.collect::<Vec<_>>(), "each block once, in order");
        }
    }

    #[test]
    fn real_blocks(
        algo in 1..=2u8,
        shift in 9..=16u32,
        len in any::<prop::sample::Index>(),
        seed in any::<u64>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let block_size = 1usize << shift;
        let len = 1 + len.index(block_size);
        let plain = Rng(seed).texture(len);
        let zfile = zfile(algo, block_size as u32, block_size, 1);
        let good = stored(&encode(algo, &plain));
        assert!(good.len() <= zfile.max_stored());

        let open = |verify: bool, bytes: &[u8], len: usize| {
            let mut dst = vec![0xee; len];
            unpack(&zfile, &RawCrc, &mut Real, verify, bytes, &mut dst[..]).map(|()| dst)
        };
        assert!(open(true, &good, len) == Ok(plain.clone()));
        assert!(open(false, &good, len) == Ok(plain.clone()));

        // Longer or shorter than the block should be.
        assert_eq!(open(true, &good, len + 1), Err(Rule::ZFileBlockLength));
        if len > 1 {
            assert_eq!(open(true, &good, len - 1), Err(Rule::ZFileBlockDecode));
        }
        // One bit: always seen with the checksum, and never more than wrong bytes without it.
        let bit = bit.index(good.len() * 8);
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(true, &flipped, len), Err(Rule::ZFileBlockCrc));
        match open(false, &flipped, len) {
            Ok(dst) => assert_eq!(dst.len(), len),
            Err(rule) => assert!(matches!(rule, Rule::ZFileBlockDecode | Rule::ZFileBlockLength)),
        }
        // Cut, with and without a checksum that agrees.
        let cut = &good[..bit / 8];
        let rule = open(true, cut, len).expect_err("a block that is cut");
        match cut.split_last_chunk() {
            None => assert_eq!(rule, Rule::ZFileStoredLength),
            Some((packed, sum)) if is_sum(packed, *sum) => {
                assert!(matches!(rule, Rule::ZFileBlockDecode | Rule::ZFileBlockLength), "{rule:?}");
            }
            Some(_) => assert_eq!(rule, Rule::ZFileBlockCrc),
        }
        let cut = stored(&good[..(good.len() - 5).min(bit / 8)]);
        let rule = open(true, &cut, len).expect_err("a block that is cut");
        assert!(matches!(rule, Rule::ZFileBlockDecode | Rule::ZFileBlockLength), "{rule:?}");
    }
}

#[test]
fn checks_in_their_order() {
    let zfile = zfile(1, 512, 512, 1);
    let open = |verify, bytes: &[u8], len: usize| {
        let mut codec = Copying::default();
        let mut dst = vec![0xee; len];
        let result = unpack(&zfile, &RawCrc, &mut codec, verify, bytes, &mut dst[..]);
        (result.map(|()| dst), codec.calls)
    };
    let good = stored(&[7; 20]);
    assert_eq!(open(true, &good, 20), (Ok(vec![7; 20]), 1));
    // A wrong checksum keeps the bytes from the decoder; without verify they reach it.
    let mut bad = good.clone();
    bad[23] ^= 0x80;
    assert_eq!(open(true, &bad, 20), (Err(Rule::ZFileBlockCrc), 0));
    assert_eq!(open(false, &bad, 20), (Ok(vec![7; 20]), 1));
    // The length checks do not depend on verify.
    for verify in [true, false] {
        assert_eq!(open(verify, &good, 19), (Err(Rule::ZFileBlockDecode), 1));
        assert_eq!(open(verify, &good, 21), (Err(Rule::ZFileBlockLength), 1));
        assert_eq!(
            open(verify, &good[..3], 20),
            (Err(Rule::ZFileStoredLength), 0)
        );
        assert_eq!(open(verify, &[], 20), (Err(Rule::ZFileStoredLength), 0));
        assert_eq!(
            open(verify, &stored(&[]), 20),
            (Err(Rule::ZFileBlockDecode), 1)
        );
    }
}

#[test]
fn the_head_of_a_block_is_checked_as_far_as_it_goes() {
    let zfile = zfile(1, 512, 512, 1);
    let open = |verify, bytes: &[u8], len: usize| {
        let mut codec = Copying::default();
        let mut dst = vec![0xee; len];
        let result = unpack_head(&zfile, &RawCrc, &mut codec, verify, bytes, &mut dst[..]);
        (result.map(|()| dst), codec.calls)
    };
    let good = stored(&(0..20).collect::<Vec<u8>>());
    for len in 1..=20 {
        assert_eq!(open(true, &good, len), (Ok((0..len as u8).collect()), 1));
    }
    assert_eq!(open(true, &good, 21), (Err(Rule::ZFileBlockLength), 1));
    // The checksum is that of the whole block, whatever is wanted of it.
    let mut bad = good.clone();
    bad[19] ^= 0x80;
    assert_eq!(open(true, &bad, 5), (Err(Rule::ZFileBlockCrc), 0));
    assert_eq!(open(false, &bad, 5), (Ok(vec![0, 1, 2, 3, 4]), 1));
    assert_eq!(open(false, &bad[..3], 1), (Err(Rule::ZFileStoredLength), 0));
    assert_eq!(
        open(true, &stored(&[]), 1),
        (Err(Rule::ZFileBlockDecode), 1)
    );
}

#[test]
fn small_parts_of_lz4_blocks_are_decoded_as_far_as_they_go() {
    let disk = 3 * 65536 + 3000;
    let lz4 = zfile(1, 65536, disk, 1);
    // A quarter of a block is small, wherever it lies; one byte more is not.
    for (part, decoded) in [
        (0..1, 1),
        (0..4096, 4096),
        (4096..8192, 8192),
        (61440..65536, 65536),
        (0..16384, 16384),
        (9000..25384, 25384),
        (0..16385, 65536),
        (4096..65536, 65536),
    ] {
        assert_eq!(lz4.bytes_to_decode(1, &part), decoded, "{part:?}");
    }
    // The last block is shorter, and there is nothing behind it.
    assert_eq!(lz4.bytes_to_decode(3, &(512..1024)), 1024);
    assert_eq!(lz4.bytes_to_decode(3, &(2999..4096)), 3000);
    assert_eq!(lz4.bytes_to_decode(4, &(0..512)), 0);
    // Other decoders cannot stop.
    let zstd = zfile(2, 65536, disk, 1);
    assert_eq!(zstd.bytes_to_decode(1, &(0..512)), 65536);
}

/// A checksum that inverts nothing moves on by a byte without a trace when the next byte is its own
/// lowest: a block that lacks its last byte then has the right checksum, and only the decoder finds out.
#[test]
fn a_block_without_its_last_byte_may_have_the_right_checksum() {
    let packed = [
        0x1f, 0xa4, 0x01, 0x00, 0xab, 0x60, 0xa4, 0xa4, 0xa4, 0xa4, 0xa4, 0xa4,
    ];
    let zfile = zfile(1, 512, 512, 1);
    let good = stored(&packed);
    let open = |bytes: &[u8]| unpack(&zfile, &RawCrc, &mut Real, true, bytes, &mut [0; 197][..]);
    assert_eq!(open(&good), Ok(()));
    let (rest, sum) = good[..15].split_last_chunk().expect("a checksum");
    assert!(is_sum(rest, *sum));
    assert_eq!(open(&good[..15]), Err(Rule::ZFileBlockDecode));
    assert_eq!(open(&good[..14]), Err(Rule::ZFileBlockCrc));
}

#[test]
fn without_block_checksums_all_stored_bytes_go_to_the_decoder() {
    let zfile = zfile(2, 512, 512, 0);
    let mut dst = [0xee; 6];
    let result = unpack(
        &zfile,
        &RawCrc,
        &mut Copying::default(),
        true,
        b"abcdef",
        &mut dst[..],
    );
    assert_eq!(result, Ok(()));
    assert_eq!(&dst, b"abcdef");
    let result = unpack(
        &zfile,
        &RawCrc,
        &mut Copying::default(),
        true,
        b"",
        &mut dst[..],
    );
    assert_eq!(result, Err(Rule::ZFileBlockDecode));
}

/// Output that is no slice, as in the kernel: two pages.
struct Pages([Vec<u8>; 2]);

impl Output for Pages {
    fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    fn clear(&mut self) {
        self.0.iter_mut().for_each(|page| page.fill(0));
    }
}

impl Codec<Pages> for Copying {
    fn decode(&mut self, _: Algorithm, src: &[u8], dst: &mut Pages) -> Option<usize> {
        assert!(dst.0.iter().flatten().all(|&b| b == 0), "not cleared");
        let places = dst.0.iter_mut().flatten();
        Some(places.zip(src).map(|(to, from)| *to = *from).count())
    }
}

#[test]
fn output_need_not_be_a_slice() {
    let zfile = zfile(1, 512, 512, 1);
    let mut pages = Pages([vec![0xee; 3], vec![0xee; 2]]);
    assert!(!pages.is_empty());
    assert!(Pages([Vec::new(), Vec::new()]).is_empty());
    let open = |packed: &[u8], pages: &mut Pages| {
        unpack(
            &zfile,
            &RawCrc,
            &mut Copying::default(),
            true,
            &stored(packed),
            pages,
        )
    };
    assert_eq!(open(b"abcde", &mut pages), Ok(()));
    assert_eq!(pages.0, [b"abc".to_vec(), b"de".to_vec()]);
    assert_eq!(open(b"abcd", &mut pages), Err(Rule::ZFileBlockLength));
    assert_eq!(pages.0[1], [b'd', 0], "stale bytes");
}

/// A decoder that notes which algorithm it was asked for.
struct Noting(Vec<Algorithm>);

impl Codec for Noting {
    fn decode(&mut self, algorithm: Algorithm, _: &[u8], dst: &mut [u8]) -> Option<usize> {
        self.0.push(algorithm);
        Some(dst.len())
    }
}

#[test]
fn the_decoder_is_told_the_algorithm() {
    let mut noting = Noting(Vec::new());
    for algo in [1, 2] {
        let zfile = zfile(algo, 512, 512, 1);
        let block = stored(&[1]);
        unpack(&zfile, &RawCrc, &mut noting, true, &block, &mut [0; 9][..]).expect("decoded");
        assert_eq!(zfile.algorithm.code(), algo);
    }
    assert_eq!(noting.0, [Algorithm::Lz4, Algorithm::Zstd]);
    assert_eq!(Algorithm::Lz4.name(), "lz4");
    assert_eq!(Algorithm::Zstd.name(), "zstd");
}

#[test]
fn an_lz4_match_of_distance_0_never_shows_what_was_in_the_output() {
    // Token: no literals, a match of 8 bytes at distance 0; then 5 literals.
    let packed = [0x04, 0, 0, 0x50, b'a', b'b', b'c', b'd', b'e'];
    let zfile = zfile(1, 512, 512, 1);
    let mut dst = [0xee; 13];
    let result = unpack(
        &zfile,
        &RawCrc,
        &mut Real,
        true,
        &stored(&packed),
        &mut dst[..],
    );
    assert!(!dst.contains(&0xee), "{result:?}");
}

#[test]
fn a_failing_load_ends_the_read() {
    let zfile = zfile(1, 512, 2048, 1);
    let failed = Error::new(Rule::ZFileBlockCrc, 3, 4);
    let mut calls = 0;
    let result = read_blocks(&zfile, 0, &mut [0; 2048], &mut [], |block, _| {
        calls += 1;
        if block == 1 {
            Err(failed)
        } else {
            Ok(())
        }
    });
    assert_eq!((result, calls), (Err(failed), 2));
}

#[test]
fn whole_blocks_need_no_bounce() {
    let zfile = zfile(1, 512, 1300, 1);
    let load = |_, dst: &mut [u8]| {
        dst.fill(1);
        Ok::<(), Error>(())
    };
    for (offset, len) in [
        (0, 512),
        (512, 512),
        (1024, 276),
        (0, 1300),
        (0, 0),
        (9999, 0),
    ] {
        let mut buf = vec![0; len];
        assert_eq!(read_blocks(&zfile, offset, &mut buf, &mut [], load), Ok(()));
        assert!(buf.iter().all(|&b| b == 1));
    }
    let error = read_blocks(&zfile, 0, &mut [0; 511], &mut [], load);
    assert_eq!(error, Err(Error::new(Rule::ZFileReadBounds, 0, 511)));
}

#[test]
fn decoded_lengths_and_bounds() {
    let zfile = zfile(1, 512, 1300, 1);
    assert_eq!(zfile.blocks(), 3);
    assert_eq!(
        [0, 1, 2, 3, 4].map(|b| zfile.decoded_len(b)),
        [512, 512, 276, 0, 0]
    );
    assert_eq!(zfile.decoded_len(u64::MAX), 0);
    assert_eq!(zfile.crc_bytes(), 4);
    assert_eq!(zfile.max_stored(), 512 + 2 + 16 + 4);
    for shift in 9..=16 {
        let n = 1u32 << shift;
        assert_eq!(Algorithm::Lz4.bound(n), n + n / 255 + 16);
        let zstd = zstd::zstd_safe::compress_bound(n as usize);
        assert!(Algorithm::Zstd.bound(n) as usize >= zstd, "{n}: {zstd}");
    }
}
