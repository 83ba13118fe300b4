// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers that are damaged, and devices that go away, while they are in use.

use super::mapper::{self, Disk, Mapped, Targets};
use super::model::{self, Form};
use crate::case::Case;
use crate::cases::support::defect::{self, Cause};
use crate::cases::support::kmsg::Log;
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool;
use std::thread;
use std::time::{Duration, Instant};
use vbd_tests_host::rng::Rng;
use vbd_tests_host::zfile;

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "one_block_with_a_wrong_checksum",
        run: one_block_with_a_wrong_checksum,
    },
    Case {
        name: "one_block_below_a_zfile_target",
        run: one_block_below_a_zfile_target,
    },
    Case {
        name: "sectors_that_cannot_be_read",
        run: sectors_that_cannot_be_read,
    },
    Case {
        name: "device_that_goes_away_and_comes_back",
        run: device_that_goes_away_and_comes_back,
    },
    Case {
        name: "device_layer_and_place_of_each_fault",
        run: device_layer_and_place_of_each_fault,
    },
    Case {
        name: "slow_device",
        run: slow_device,
    },
];

const BYTES: usize = 1 << 20;

/// The block of the disk that is damaged, counted in units of 4 KiB.
const BAD: usize = 100;

/// Longest time that a read may take to fail.
const PATIENCE: Duration = Duration::from_secs(10);

/// A ZFile in which one byte of block `BAD` of the disk is wrong.
struct Damaged {
    disk: Vec<u8>,
    /// The only layer, before compression.
    blob: Vec<u8>,
    file: Vec<u8>,
    /// Where the block is stored.
    at: usize,
}

fn damaged() -> Damaged {
    let disk = Rng(91).texture(BYTES);
    let blob = model::whole(&disk);
    let spec = zfile::Spec::of(&blob, 1, 4096);
    let mut file = spec.build();
    // The layer's header is one block, so the disk's first block is the file's second.
    let before: usize = spec.blocks[..=BAD]
        .iter()
        .map(|block| block.len() + 4)
        .sum();
    let at = 512 + before;
    file[at + 10] ^= 0x40;
    Damaged {
        disk,
        blob,
        file,
        at,
    }
}

/// Reads each block of 4 KiB by itself: all are right but those in `bad`.
fn check_blocks(path: &str, disk: &[u8], bad: &[usize]) {
    let file = read::direct(path);
    for block in 0..disk.len() / 4096 {
        let offset = block as u64 * 4096;
        if bad.contains(&block) {
            read::check_eio(&file, offset, 4096);
        } else {
            read::check(&file, disk, offset, 4096);
        }
    }
}

fn one_block_with_a_wrong_checksum() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let Damaged { disk, file, at, .. } = damaged();
    let layer = Disk::new(&scratch, "layer", &file);
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &[layer.part()]));
    let log = Log::mark();
    check_blocks(&mapped.path(), &disk, &[BAD]);
    assert_eq!(mapped.counter("errors"), 1);
    assert_eq!(mapped.counter("rereads"), 1);
    assert!(mapped.counter("crc_errors") >= 2);
    assert_eq!(mapped.counter("decode_errors"), 0);
    let said: Vec<String> = log.errors();
    let start = BAD * 4096;
    let line = format!(
        "vbd_dm: {}: read of bytes {start}..{}: layer 0 ({}): zfile offset {at}: block checksum does \
         not match (found {})",
        mapped.disk(),
        start + 4096,
        layer.path(),
        BAD + 1
    );
    assert!(said.contains(&line), "not \"{line}\": {said:?}");

    // Every read that needs the block fails as a whole; those beside it do not.
    let file = read::direct(&mapped.path());
    let at = start as u64;
    for (offset, length) in [(at, 512), (at + 3584, 512), (at - 512, 1024), (0, BYTES)] {
        read::check_eio(&file, offset, length);
    }
    read::check(&file, &disk, 0, start);
    read::check(&file, &disk, at + 4096, BYTES - start - 4096);
    // In the page cache too: a failed page is not taken for a good one.
    let buffered = read::buffered(&mapped.path());
    for _ in 0..2 {
        read::check_eio(&buffered, at + 100, 100);
    }
    read::check(&buffered, &disk, at + 4096, 4096);
    drop((file, buffered, mapped, layer, targets));
}

fn one_block_below_a_zfile_target() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let Damaged {
        disk, blob, file, ..
    } = damaged();
    let layer = Disk::new(&scratch, "layer", &file);
    let line = mapper::line(0, blob.len() as u64, "zfile_target", &[layer.part()]);
    let zfile = Mapped::new("zfile", &line);
    let lsmt = Mapped::new(
        "lsmt",
        &mapper::lsmt(BYTES as u64, &[zfile.part(blob.len() as u64)]),
    );
    check_blocks(&lsmt.path(), &disk, &[BAD]);
    check_blocks(&lsmt.path(), &disk, &[BAD]);
    assert_eq!(lsmt.counter("errors"), 2);
    // To the upper device the lower one is storage that cannot be read.
    assert_eq!(lsmt.counter("crc_errors"), 0);
    assert!(zfile.counter("crc_errors") > 0);
    assert!(zfile.counter("errors") > 0);
    check_blocks(&zfile.path(), &blob[..BYTES], &[BAD + 1]);
    drop(lsmt);
    drop((zfile, layer, targets));
}

fn sectors_that_cannot_be_read() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let disk = Rng(92).texture(BYTES);
    for form in [Form::Plain, Form::Lz4] {
        let blob = model::whole(&disk);
        let spec = zfile::Spec::of(&blob, 1, 4096);
        // Where the block BAD of the disk is stored, in 4 KiB blocks of the file: it may touch two.
        let (file, at, length) = match form {
            Form::Plain => (blob, 4096 * (1 + BAD), 4096),
            _ => {
                let before: usize = spec.blocks[..=BAD].iter().map(|b| b.len() + 4).sum();
                (spec.build(), 512 + before, spec.blocks[BAD + 1].len())
            }
        };
        let layer = Disk::new(&scratch, &format!("{form:?}"), &file);
        let (first, end) = (at / 4096 * 8, (at + length).div_ceil(4096) * 8);
        let sectors = file.len().div_ceil(512);
        let path = layer.path();
        let under = Mapped::new(
            "under",
            &format!(
                "0 {first} linear {path} 0,{first} {} error,{end} {} linear {path} {end}",
                end - first,
                sectors - end
            ),
        );
        let part = under.part(file.len() as u64);
        let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &[part]));
        // The blocks of the disk that are stored in what cannot be read.
        let bad: Vec<usize> = match form {
            Form::Plain => vec![BAD],
            _ => {
                let mut at = 512;
                let places = spec.blocks.iter().map(|block| {
                    let start = at;
                    at += block.len() + 4;
                    start..at
                });
                let touched = places
                    .enumerate()
                    .filter(|(_, place)| place.start < end * 512 && place.end > first * 512);
                touched.map(|(block, _)| block - 1).collect()
            }
        };
        assert!(bad.contains(&BAD));
        let log = Log::mark();
        check_blocks(&mapped.path(), &disk, &bad);
        assert_eq!(mapped.counter("errors"), bad.len() as u64);
        assert_eq!(mapped.counter("crc_errors"), 0);
        let said = log.errors();
        let begin = format!("vbd_dm: {}: read of bytes ", mapped.disk());
        let ours = said.iter().filter(|text| text.starts_with(&begin));
        assert!(ours.count() > 0, "{said:?}");
        drop(mapped);
        drop((under, layer));
    }
    drop(targets);
}

fn device_that_goes_away_and_comes_back() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(93, BYTES, &[Form::Plain, Form::Lz4]);
    let disks = Disk::all(&scratch, &stack.files);
    let parts = mapper::parts(&disks);
    let sectors = parts[1].bytes.div_ceil(512);
    let there = format!("0 {sectors} linear {} 0", parts[1].device);
    let under = Mapped::new("under", &there);
    let both = [parts[0].clone(), under.part(parts[1].bytes)];
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &both));
    let file = read::direct(&mapped.path());

    for _ in 0..3 {
        read::check(&file, &stack.disk, 0, BYTES);
        under.load(&format!("0 {sectors} error"));
        under.swap();
        // What is cached can still be read, and nothing shall be: neither pages nor decoded blocks.
        std::fs::write("/proc/sys/vm/drop_caches", "3").expect("drop_caches");
        let begin = Instant::now();
        let failed = thread::scope(|scope| {
            let readers: Vec<_> = (0..4)
                .map(|reader| {
                    let (file, disk) = (&file, &stack.disk);
                    scope.spawn(move || fails(file, disk, 94 + reader))
                })
                .collect();
            readers
                .into_iter()
                .map(|reader| reader.join().expect("a reader"))
                .sum::<u64>()
        });
        assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
        assert!(failed > 0, "no read needs the upper layer");
        assert!(mapped.counter("errors") >= failed);
        under.load(&there);
        under.swap();
    }
    read::check(&file, &stack.disk, 0, BYTES);
    drop(file);
    drop(mapped);
    drop((under, disks, targets));
}

/// Reads random places; each is right or fails with `EIO`. Returns how many failed.
fn fails(file: &std::fs::File, disk: &[u8], seed: u64) -> u64 {
    let mut rng = Rng(seed);
    let mut failed = 0;
    for _ in 0..40 {
        let length = 512 * (1 + rng.below(64)) as usize;
        let offset = rng.below((disk.len() - length) as u64 / 512) * 512;
        match read::pread(file, offset, length) {
            Ok(got) => read::same(&got, read::expected(disk, offset, length), offset),
            Err(error) => {
                assert_eq!(
                    error.raw_os_error(),
                    Some(rustix::io::Errno::IO.raw_os_error())
                );
                failed += 1;
            }
        }
    }
    failed
}

/// As of a device of `vbd.ko`: which disk, which layer by the name in the table, and where in it.
fn device_layer_and_place_of_each_fault() {
    for defect in defect::all() {
        let targets = Targets::begin();
        let scratch = Scratch::new();
        let bottom = Disk::new(&scratch, "bottom", &defect::bottom());
        let layer = Disk::new(&scratch, "layer", &defect.file);
        let (size, path) = (defect.file.len() as u64, layer.path());
        let sectors = size / 512;
        let (good, bad) = match &defect.cause {
            Cause::Sectors(bad) => (bad.start, bad.end),
            _ => (sectors, sectors),
        };
        let mut table = format!("0 {good} linear {path} 0");
        if good < bad {
            table += &format!(
                ",{good} {} error,{bad} {} linear {path} {bad}",
                bad - good,
                sectors - bad
            );
        }
        let under = Mapped::new("under", &table);
        read::read_ahead(&under.disk(), 0);
        let upper = match &defect.cause {
            Cause::Sectors(_) => under.part(size),
            _ => layer.part(),
        };
        let bytes = 64 * 4096;
        let mapped = Mapped::new("dm", &mapper::lsmt(bytes, &[bottom.part(), upper.clone()]));
        if let Cause::Cut(cut) = defect.cause {
            let mut options = std::fs::OpenOptions::new();
            let file = options.write(true).open(scratch.join("layer"));
            file.expect("the file").set_len(cut).expect("truncate");
            tool::run("losetup", &["--set-capacity", &path]);
        }
        read::drop_caches();
        let bad = defect::bad();
        let log = Log::mark();
        read::check_eio(&read::direct(&mapped.path()), bad.start as u64, bad.len());
        let said = log.errors().into_iter();
        let said: Vec<String> = said.filter(|line| line.starts_with("vbd_dm: ")).collect();
        let line = format!(
            "vbd_dm: {}: read of bytes {}..{}: layer 1 ({}): {}",
            mapped.disk(),
            bad.start,
            bad.end,
            upper.device,
            defect.rule
        );
        assert_eq!(said, [line], "{}", defect.name);
        drop(mapped);
        drop((under, layer, bottom, targets));
    }
}

fn slow_device() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(95, BYTES, &[Form::Lz4]);
    let disks = Disk::all(&scratch, &stack.files);
    let part = disks[0].part();
    let sectors = part.bytes.div_ceil(512);
    let slow = Mapped::new("slow", &format!("0 {sectors} delay {} 0 20", part.device));
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &[slow.part(part.bytes)]));
    read::drop_caches();
    let begin = Instant::now();
    thread::scope(|scope| {
        for reader in 0..8 {
            let (path, disk) = (mapped.path(), &stack.disk);
            scope.spawn(move || {
                let piece = disk.len() / 8;
                read::check(&read::direct(&path), disk, (reader * piece) as u64, piece);
            });
        }
    });
    // Reads wait side by side, not one after the other.
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    drop(mapped);
    drop((slow, disks, targets));
}
