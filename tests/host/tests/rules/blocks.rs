// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! ZFiles whose jump table or blocks break a rule.

use crate::zfile::{changed, open, spec};
use crate::Case;
use vbd_format::zfile::{check_lz4, load_jump_table, read_blocks, unpack, Algorithm, Codec};
use vbd_format::{Class, Error, Rule};
use vbd_tests_host::crc::RawCrc;
use vbd_tests_host::mem::Mem;
use vbd_tests_host::open::groups_into;
use vbd_tests_host::put_u32;

const TABLE_CRC: (Rule, Class) = (Rule::ZFileTableCrc, Class::Checksum);
const LENGTH: (Rule, Class) = (Rule::ZFileStoredLength, Class::Corrupt);
const BLOCK_END: (Rule, Class) = (Rule::ZFileBlockBounds, Class::Corrupt);
const MEMORY: (Rule, Class) = (Rule::ZFileTableMemory, Class::TooLarge);
const BLOCK_CRC: (Rule, Class) = (Rule::ZFileBlockCrc, Class::Checksum);
const DECODE: (Rule, Class) = (Rule::ZFileBlockDecode, Class::Corrupt);
const DECODED: (Rule, Class) = (Rule::ZFileBlockLength, Class::Corrupt);
const UNDEFINED: (Rule, Class) = (Rule::ZFileBlockUndefined, Class::Corrupt);
const READ: (Rule, Class) = (Rule::ZFileReadBounds, Class::Corrupt);

/// Loads the table of `file` through `room` bytes.
fn table(file: &Mem, room: usize) -> Result<(), Error> {
    let zfile = open(file)?.expect("a ZFile");
    load_jump_table(
        file,
        &zfile,
        &RawCrc,
        &mut vec![0; room],
        groups_into(&mut Vec::new()),
    )
}

/// [`spec`] with other stored lengths in its table, under a right checksum.
fn lengths(algo: u8, verify: u8, lengths: [u32; 3]) -> Result<(), Error> {
    let mut spec = spec(true);
    spec.algo = algo;
    spec.verify = verify;
    spec.digest = false;
    spec.junk_before_table = vec![0; 2000];
    let at = spec.table_at() as usize;
    let mut file = spec.build();
    for (i, len) in lengths.into_iter().enumerate() {
        put_u32(&mut file, at + 4 * i, len);
    }
    table(&Mem(file), 128)
}

pub(crate) fn table_cases() -> Vec<Case> {
    let good = changed(true, None, |_| ());
    let crc = changed(true, None, |f| f[816] ^= 0x40);
    // With 2000 bytes to spare the table stands at 2812, or 2800 without block checksums.
    assert_eq!(lengths(1, 1, [5, 534, 5]), Ok(()));
    assert_eq!(lengths(2, 1, [5, 582, 5]), Ok(()));
    assert_eq!(lengths(1, 0, [1, 530, 1]), Ok(()));
    assert_eq!(table(&good, 128), Ok(()));
    vec![
        Case::new(
            "table checksum",
            TABLE_CRC,
            812,
            stored_crc(&crc),
            table(&crc, 128),
        ),
        Case::new("empty block", LENGTH, 2804, 0, lengths(1, 0, [1, 0, 1])),
        Case::new("only a checksum", LENGTH, 2820, 4, lengths(1, 1, [5, 5, 4])),
        Case::new(
            "LZ4 bound + 1",
            LENGTH,
            2816,
            535,
            lengths(1, 1, [5, 535, 5]),
        ),
        Case::new(
            "LZ4 bound + 1, no checksum",
            LENGTH,
            2800,
            531,
            lengths(1, 0, [531, 1, 1]),
        ),
        Case::new(
            "ZSTD bound + 1",
            LENGTH,
            2816,
            583,
            lengths(2, 1, [5, 583, 5]),
        ),
        Case::new(
            "2^32 - 1",
            LENGTH,
            2812,
            0xffff_ffff,
            lengths(1, 1, [u32::MAX, 5, 5]),
        ),
        Case::new("block into the table", BLOCK_END, 820, 813, {
            table(
                &changed(true, None, |f| {
                    f[820] = 101;
                    f[36] = 0;
                    f[32] = 0x0b;
                }),
                128,
            )
        }),
        Case::new("no room for a group", MEMORY, 812, 3, table(&good, 127)),
    ]
}

fn stored_crc(file: &Mem) -> u64 {
    use vbd_format::Checksum as _;
    u64::from(RawCrc.crc32c(0, &file.0[812..824]))
}

/// A decoder that says it wrote so much.
struct Says(Option<usize>);

impl Codec for Says {
    fn decode(&mut self, _: Algorithm, _: &[u8], _: &mut [u8]) -> Option<usize> {
        self.0
    }
}

/// One block of [`spec`], which decodes to 512 bytes; errors of a block carry no place yet.
fn block(stored: &[u8], says: Option<usize>) -> Result<(), Error> {
    let zfile = open(&changed(true, None, |_| ()))?.expect("a ZFile");
    unpack(
        &zfile,
        &RawCrc,
        &mut Says(says),
        true,
        stored,
        &mut [0; 512],
    )
    .map_err(|rule| Error::new(rule, 0, 0))
}

/// An LZ4 block of 10 bytes.
fn lz4(block: &[u8]) -> Result<(), Error> {
    check_lz4(block, 10).map_err(|rule| Error::new(rule, 0, 0))
}

fn read(offset: u64, len: usize, bounce: usize) -> Result<(), Error> {
    let zfile = open(&changed(true, None, |_| ()))?.expect("a ZFile");
    let (mut buf, mut bounce) = (vec![0; len], vec![0; bounce]);
    read_blocks(&zfile, offset, &mut buf, &mut bounce, |_, _| Ok(()))
}

pub(crate) fn block_cases() -> Vec<Case> {
    let stored = &spec(true).build()[512..612];
    let mut flipped = stored.to_vec();
    flipped[0] ^= 1;
    assert_eq!(block(stored, Some(512)), Ok(()));
    assert_eq!(lz4(&[0x10, 7, 1, 0, 0x50, 1, 2, 3, 4, 5]), Ok(()));
    assert_eq!(read(1, 1499, 512), Ok(()));
    vec![
        Case::new(
            "block too short for a checksum",
            LENGTH,
            0,
            0,
            block(&stored[..3], Some(512)),
        ),
        Case::new(
            "block checksum",
            BLOCK_CRC,
            0,
            0,
            block(&flipped, Some(512)),
        ),
        Case::new(
            "block cut",
            BLOCK_CRC,
            0,
            0,
            block(&stored[..99], Some(512)),
        ),
        Case::new("decoder refuses", DECODE, 0, 0, block(stored, None)),
        Case::new("decodes short", DECODED, 0, 0, block(stored, Some(511))),
        Case::new("decodes to nothing", DECODED, 0, 0, block(stored, Some(0))),
        Case::new("says too much", DECODED, 0, 0, block(stored, Some(513))),
        Case::new(
            "LZ4 distance 0",
            UNDEFINED,
            0,
            0,
            lz4(&[0x10, 7, 0, 0, 0x50, 1, 2, 3, 4, 5]),
        ),
        Case::new(
            "LZ4 distance 2",
            UNDEFINED,
            0,
            0,
            lz4(&[0x10, 7, 2, 0, 0x50, 1, 2, 3, 4, 5]),
        ),
        Case::new("LZ4 without an end", DECODE, 0, 0, lz4(&[0x10, 7, 1, 0])),
        Case::new("LZ4 literals cut", DECODE, 0, 0, lz4(&[0xa0, 7, 1])),
        Case::new("LZ4 length cut", DECODE, 0, 0, lz4(&[0xf0, 255])),
        Case::new(
            "LZ4 too long",
            DECODE,
            0,
            0,
            lz4(&[0x16, 7, 1, 0, 0x50, 1, 2, 3, 4, 5]),
        ),
        Case::new(
            "LZ4 short",
            DECODED,
            0,
            0,
            lz4(&[0x90, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ),
        Case::new("one byte past the end", READ, 1, 1500, read(1, 1500, 512)),
        Case::new("from the end", READ, 1500, 1, read(1500, 1, 512)),
        Case::new("from far away", READ, u64::MAX, 1, read(u64::MAX, 1, 512)),
        Case::new("bounce too small", READ, 1, 100, read(1, 100, 511)),
    ]
}
