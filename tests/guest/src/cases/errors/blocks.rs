// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! One damaged block: its reads fail after one more attempt, and are counted and told.

use super::super::support::damage::{Image, BLOCK};
use super::super::support::device::{Faults, Module, DEVICE};
use super::super::support::kmsg::Log;
use super::super::support::{content, read};
use crate::case::Case;
use vbd_tests_host::codec::encode;
use vbd_tests_host::put_u32;
use vbd_tests_host::rng::Rng;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    every_kind_of_flip,
    stored_length_is_wrong,
    stream_is_short,
    stream_is_long,
    stream_is_garbage,
    without_block_checksums,
    unverified_flip_goes_through,
    unverified_garbage_does_not,
    log_is_limited,
    in_an_upper_layer,
];

/// The damaged block of most cases.
const BAD: usize = 5;

fn image(algorithm: u8) -> Image {
    Image::new(
        content::disk(120 + u64::from(algorithm), 32 * BLOCK),
        algorithm,
    )
}

/// What the log says of a failed read of [`BAD`].
fn line(image: &Image, rule: &str) -> String {
    let (start, end) = (BAD * BLOCK, BAD * BLOCK + BLOCK);
    let (at, block) = (image.stored_at(BAD), BAD + 1);
    let layer = image.path();
    format!(
        "vbd0: read of bytes {start}..{end}: layer 0 ({}): zfile offset {at}: {rule} (found {block})",
        layer.display()
    )
}

/// Reads the bad block alone: `EIO` after one more attempt, one line, and nothing else amiss.
fn fails(image: &Image, module: &Module, faults: Faults, rule: &str) {
    let before = module.faults();
    assert_eq!(before, Faults::default());
    let log = Log::mark();
    read::check_eio(&read::direct(DEVICE), (BAD * BLOCK) as u64, BLOCK);
    assert_eq!(module.faults(), faults);
    assert_eq!(log.vbd_errors(), [line(image, rule)]);
    image.check(&[BAD]);
}

const CRC: Faults = Faults {
    crc: 2,
    decode: 0,
    rereads: 1,
    errors: 1,
};
const DECODE: Faults = Faults {
    crc: 0,
    decode: 2,
    rereads: 1,
    errors: 1,
};
const CRC_RULE: &str = "block checksum does not match";

/// A byte at the start, inside and at the end of the stored block, and each of its checksum.
fn every_kind_of_flip() {
    for algorithm in [1, 2] {
        let image = image(algorithm);
        let at = image.stored_at(BAD);
        let length = image.zfile.blocks[BAD + 1].len();
        for place in [0, 1, length / 2, length - 1, length, length + 3] {
            let mut bytes = image.build();
            bytes[at + place] ^= 0x10;
            let module = image.attach(&bytes, "");
            fails(&image, &module, CRC, CRC_RULE);
            module.unload();
        }
    }
}

/// A byte more of one block and a byte less of the next, in a table without checksum and in one
/// whose checksum is right: both blocks are bad and no other.
fn stored_length_is_wrong() {
    for digest in [false, true] {
        let mut image = image(1);
        image.zfile.digest = digest;
        let mut bytes = image.build();
        let change = |bytes: &mut [u8], block: usize, by: i32| {
            let at = image.entry_at(block);
            let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            put_u32(bytes, at, length.checked_add_signed(by).unwrap());
        };
        change(&mut bytes, BAD, 1);
        change(&mut bytes, BAD + 1, -1);
        if digest {
            seal_table(&image, &mut bytes);
        }
        let module = image.attach(&bytes, "");
        let log = Log::mark();
        read::check_eio(&read::direct(DEVICE), (BAD * BLOCK) as u64, BLOCK);
        assert_eq!(module.faults(), CRC);
        assert_eq!(log.vbd_errors(), [line(&image, CRC_RULE)]);
        image.check(&[BAD, BAD + 1]);
        module.unload();
    }
}

/// Gives header and trailer the checksum of the table as it is now.
fn seal_table(image: &Image, bytes: &mut [u8]) {
    use vbd_format::Checksum;
    let table = usize::try_from(image.zfile.table_at()).unwrap();
    let trailer = bytes.len() - 512;
    let sum = vbd_tests_host::crc::RawCrc.crc32c(0, &bytes[table..trailer]);
    for at in [0, trailer] {
        put_u32(bytes, at + 64, sum);
        vbd_tests_host::zfile::seal(bytes, at);
    }
}

/// Streams that are well formed, with a right checksum, of too few bytes.
fn stream_is_short() {
    for algorithm in [1, 2] {
        for length in [1, BLOCK / 2, BLOCK - 1] {
            let mut image = image(algorithm);
            *image.block_mut(BAD) = encode(algorithm, &content::disk(7, length));
            let module = image.attach(&image.build(), "");
            fails(
                &image,
                &module,
                DECODE,
                "block decompresses to a wrong length",
            );
            module.unload();
        }
    }
}

/// Of too many: no byte after the block's memory may be written, which its neighbours show.
fn stream_is_long() {
    for algorithm in [1, 2] {
        for length in [BLOCK + 1, 2 * BLOCK, 16 * BLOCK] {
            let mut image = image(algorithm);
            *image.block_mut(BAD) = encode(algorithm, &vec![0x77; length]);
            let module = image.attach(&image.build(), "");
            fails(&image, &module, DECODE, "block does not decompress");
            module.unload();
        }
    }
}

fn stream_is_garbage() {
    let mut rng = Rng(121);
    for algorithm in [1, 2] {
        let whole = image(algorithm).zfile.blocks[BAD + 1].clone();
        for garbage in [
            rng.noise(700),
            rng.noise(4000),
            vec![0xff; 300],
            vec![0; 64],
            whole[..whole.len() / 2].to_vec(),
            whole[1..].to_vec(),
        ] {
            let mut image = image(algorithm);
            *image.block_mut(BAD) = garbage;
            let module = image.attach(&image.build(), "");
            let log = Log::mark();
            read::check_eio(&read::direct(DEVICE), (BAD * BLOCK) as u64, BLOCK);
            assert_eq!(module.faults(), DECODE);
            let said = log.vbd_errors();
            let rules = [
                "block does not decompress",
                "block decompresses to a wrong length",
            ];
            let known = rules.iter().any(|rule| said == [line(&image, rule)]);
            assert!(known, "{said:#?}");
            image.check(&[BAD]);
            module.unload();
        }
    }
}

/// A layer without block checksums: what does not decode to the right length is found out.
fn without_block_checksums() {
    for algorithm in [1, 2] {
        let mut image = image(algorithm);
        image.zfile.verify = 0;
        *image.block_mut(BAD) = encode(algorithm, &content::disk(8, BLOCK - 1));
        for verify in ["verify=1", "verify=0"] {
            let module = image.attach(&image.build(), verify);
            fails(
                &image,
                &module,
                DECODE,
                "block decompresses to a wrong length",
            );
            module.unload();
        }
    }
}

/// With `verify=0` a checksum is not looked at: a literal byte that was flipped comes out flipped,
/// and nothing else is any different.
fn unverified_flip_goes_through() {
    let noise = Rng(122).noise(16 * BLOCK);
    for algorithm in [1, 2] {
        let mut image = Image::new(noise.clone(), algorithm);
        let mut bytes = image.build();
        let at = image.stored_at(BAD) + image.zfile.blocks[BAD + 1].len() / 2;
        bytes[at] ^= 0x10;
        let module = image.attach(&bytes, "verify=1");
        fails(&image, &module, CRC, CRC_RULE);
        module.unload();

        let module = image.attach(&bytes, "verify=0");
        let file = read::direct(DEVICE);
        let got = read::pread(&file, (BAD * BLOCK) as u64, BLOCK).expect("an unverified block");
        let good = &image.disk[BAD * BLOCK..][..BLOCK];
        let different = got.iter().zip(good).filter(|(a, b)| a != b);
        let different: Vec<u8> = different.map(|(a, b)| a ^ b).collect();
        assert_eq!(different, [0x10]);
        image.disk[BAD * BLOCK..][..BLOCK].copy_from_slice(&got);
        read::check_all(DEVICE, &image.disk);
        assert_eq!(module.faults(), Faults::default());
        drop(file);
        module.unload();
    }
}

fn unverified_garbage_does_not() {
    for algorithm in [1, 2] {
        let mut image = image(algorithm);
        *image.block_mut(BAD) = encode(algorithm, &vec![0x77; 2 * BLOCK]);
        let module = image.attach(&image.build(), "verify=0");
        fails(&image, &module, DECODE, "block does not decompress");
        module.unload();
    }
}

/// Every bad read is counted, and only some are told.
fn log_is_limited() {
    let image = image(1);
    let mut bytes = image.build();
    bytes[image.stored_at(BAD)] ^= 1;
    let module = image.attach(&bytes, "");
    let log = Log::mark();
    let file = read::direct(DEVICE);
    for _ in 0..60 {
        read::check_eio(&file, (BAD * BLOCK) as u64, BLOCK);
    }
    let said = log.vbd_errors();
    let line = line(&image, CRC_RULE);
    assert!(said.iter().all(|said| *said == line), "{said:#?}");
    // Ten in five seconds; a slow machine may take a little longer for all of them.
    assert!(
        (1..=30).contains(&said.len()),
        "{} lines for 60 errors",
        said.len()
    );
    let faults = Faults {
        crc: 120,
        decode: 0,
        rereads: 60,
        errors: 60,
    };
    assert_eq!(module.faults(), faults);
    drop(file);
    image.check(&[BAD]);
    module.unload();
}

/// The line names the layer that is bad, and what other layers hold of the block is read.
fn in_an_upper_layer() {
    use vbd_tests_host::lsmt::{Record, Spec};
    let image = image(1);
    let mut bytes = image.build();
    let at = image.stored_at(BAD);
    bytes[at] ^= 1;
    let middle = image.file(&bytes);
    let scratch = super::super::support::scratch::Scratch::new();
    let size = image.disk.len() as u64;
    // The lowest layer is hidden by the bad one, the topmost covers one sector of the bad block.
    let bottom = Spec::new(size, vec![1; 512], &[Record::data(40, 1, 8)]).build();
    let top = Spec::new(size, vec![2; 512], &[Record::data(42, 1, 8)]).build();
    let layers = [
        scratch.file("bottom", &bottom),
        middle,
        scratch.file("top", &top),
    ];
    let module = Module::stack(&layers, "");
    let file = read::direct(DEVICE);
    let log = Log::mark();
    read::check_eio(&file, 41 * 512, 512);
    let rule = format!("zfile offset {at}: {CRC_RULE} (found {})", BAD + 1);
    let (start, end) = (41 * 512, 42 * 512);
    assert_eq!(
        log.vbd_errors(),
        [format!(
            "vbd0: read of bytes {start}..{end}: layer 1 ({}): {rule}",
            image.path().display()
        )]
    );
    assert_eq!(
        read::pread(&file, 42 * 512, 512).expect("a sector of the top layer"),
        [2; 512]
    );
    read::check_eio(&file, 40 * 512, BLOCK);
    drop(file);
    module.unload();
}
