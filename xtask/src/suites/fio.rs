// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! fio: it writes images whose every block tells what it is, and reads them from disks of vbd.
//!
//! Blocks with `crc32c` carry their place and a checksum, in which nothing can be changed or moved
//! unnoticed. A block of an older layer is as good there, so generations that are told apart by a
//! pattern are read too.

pub(super) mod report;

use super::guest::{self, Check, Group, Judge, Needs, TOOLS};
use super::layers::Layers;
use super::Place;
use crate::run::quoted;
use crate::test::steps::{Count, Step};
use anyhow::Result;
use report::{finds, reads_all};

pub(super) const PROGRAM: &str = "/usr/bin/fio";
const MIB: u64 = 1 << 20;
/// Bytes of the images; each is read whole many times.
pub(super) const SIZE: u64 = 24 * MIB;

/// What blocks hold besides their header: text that compresses.
const TEXT: &str = "--verify_pattern=\"vbd was here \"%o";
const CRC: &[&str] = &["--verify=crc32c", "--verify_interval=4k"];

/// Layers of one image each: name, whether it is the one that compresses, options of vbdctl.
const FORMATS: &[(&str, bool, &[&str])] = &[
    ("plain", false, &["-f", "plain"]),
    ("lz4-4k", true, &["-f", "lz4"]),
    ("lz4-4k-random", false, &["-f", "lz4"]),
    ("lz4-64k", true, &["-f", "lz4", "-b", "64K"]),
    ("zstd-64k", true, &["-f", "zstd", "-b", "64K"]),
];

/// The layers of a stack, bottom first.
const STACK: &[&[&str]] = &[
    &["-f", "plain"],
    &["-f", "lz4"],
    &["-f", "zstd", "-b", "64K"],
    &["-f", "lz4", "-b", "64K", "--tar"],
];

/// A way of reading: name, jobs side by side, options.
type Read<'a> = (&'a str, u64, &'a [&'a str]);

const READS: &[Read] = &[
    (
        "sequential 4k",
        1,
        &["--rw=read", "--bs=4k", "--ioengine=psync"],
    ),
    (
        "sequential 1m, direct, libaio",
        1,
        &[
            "--rw=read",
            "--bs=1m",
            "--direct=1",
            "--ioengine=libaio",
            "--iodepth=8",
        ],
    ),
    (
        "random 4k, direct, io_uring",
        2,
        &[
            "--rw=randread",
            "--bs=4k",
            "--direct=1",
            "--ioengine=io_uring",
            "--iodepth=32",
        ],
    ),
    (
        "random 4k to 64k, mapped",
        2,
        &[
            "--rw=randread",
            "--bsrange=4k-64k",
            "--blockalign=4k",
            "--ioengine=mmap",
        ],
    ),
    (
        "random 4k to 512k, buffered, io_uring",
        2,
        &[
            "--rw=randread",
            "--bsrange=4k-512k",
            "--blockalign=4k",
            "--ioengine=io_uring",
            "--iodepth=16",
        ],
    ),
    (
        "random 128k, direct, libaio",
        4,
        &[
            "--rw=randread",
            "--bs=128k",
            "--direct=1",
            "--ioengine=libaio",
            "--iodepth=32",
        ],
    ),
];

/// What generations of an image rewrite: place and length, in bytes. No boundary is one of blocks.
const GENERATIONS: [(u64, u64); 4] = [
    (0, SIZE),
    (MIB + 512, 8 * MIB + 1536),
    (3 * MIB + 2560, MIB + 512),
    (9 * MIB - 4608, 2 * MIB),
];

pub(super) fn run(place: &Place, step: &Step) -> Result<Count> {
    let layers = Layers::new(place, step, "fio")?;
    let mut groups = Vec::new();
    let fio = Fio {
        place,
        step,
        layers: &layers,
    };
    fio.write("random", &[&CRC[..1], &["--rw=write", "--bs=4k"]].concat())?;
    write_text(place, &layers, step, "text")?;
    for (name, compresses, options) in FORMATS {
        let image = if *compresses { "text" } else { "random" };
        layers.create(image, name, options, &[])?;
        groups.push(group(name, vec![name.to_string()], every_way(CRC)));
    }
    groups.push(group(
        "stack, crc32c",
        fio.stack("crc", &|number| {
            let random = format!("--randseed={}", number + 1);
            let rewrite = [
                "--rw=randwrite",
                "--bs=4k",
                "--io_size=4m",
                TEXT,
                random.as_str(),
            ];
            let whole = ["--rw=write", "--bs=4k", TEXT];
            let words: &[&str] = if number == 0 { &whole } else { &rewrite };
            [&CRC[..1], words]
                .concat()
                .into_iter()
                .map(str::to_string)
                .collect()
        })?,
        every_way(CRC),
    ));
    groups.push(group(
        "stack, generations",
        fio.stack("generations", &|number| {
            let (offset, length) = GENERATIONS[number];
            let mut words = pattern(number, offset, length);
            words.extend(["--rw=write".to_string(), "--bs=512".to_string()]);
            words
        })?,
        generations(),
    ));
    layers.create("random", "damaged", &["-f", "plain"], &[])?;
    layers.damage("damaged")?;
    groups.push(group(
        "damaged, without checksums",
        vec!["damaged".into()],
        vec![check(
            "has to be found",
            CRC,
            &READS[0],
            finds("verify failed"),
        )],
    ));
    layers.create("text", "damaged-lz4", &["-f", "lz4"], &[])?;
    layers.damage("damaged-lz4")?;
    groups.push(group(
        "damaged, with checksums",
        vec!["damaged-lz4".into()],
        vec![check(
            "has to be an error",
            CRC,
            &READS[0],
            finds("Input/output error"),
        )],
    ));
    let needs = Needs {
        programs: &[PROGRAM],
        ..Needs::default()
    };
    guest::run(place, &layers, step, needs, groups)
}

/// Has fio write an image of text in whose every block there is a checksum.
pub(super) fn write_text(place: &Place, layers: &Layers, step: &Step, image: &str) -> Result<()> {
    let words = [&CRC[..1], &["--rw=write", "--bs=4k", TEXT]].concat();
    Fio {
        place,
        step,
        layers,
    }
    .write(image, &words)
}

/// The options by which fio reads such an image from a disk and believes no block.
pub(super) fn verifying(disk: &str) -> String {
    format!(
        "--name=verify --filename={disk} --readonly --verify=crc32c --verify_interval=4k --verify_fatal=1"
    )
}

struct Fio<'a> {
    place: &'a Place,
    step: &'a Step,
    layers: &'a Layers<'a>,
}

impl Fio<'_> {
    /// Has fio write to an image on the host.
    fn write(&self, image: &str, words: &[&str]) -> Result<()> {
        let path = self.layers.image(image, SIZE)?;
        let mut fio = self.place.tools.command(&self.layers.directory, PROGRAM);
        fio.arg("--name=write").arg("--filename").arg(path);
        // Of figures about an image on the host there is nothing to learn.
        fio.arg("--output=/dev/null");
        fio.arg(format!("--size={SIZE}"))
            .args(["--do_verify=0", "--ioengine=psync"]);
        self.step.run(fio.args(words)).map(|_| ())
    }

    /// Writes an image in generations, each of which becomes a layer; `words` are its options.
    fn stack(&self, name: &str, words: &dyn Fn(usize) -> Vec<String>) -> Result<Vec<String>> {
        let mut stack = Vec::new();
        for (number, options) in STACK.iter().enumerate() {
            let words = words(number);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.write(name, &words)?;
            let layer = format!("{name}-{number}");
            self.layers.create(name, &layer, options, &stack)?;
            stack.push(layer);
        }
        Ok(stack)
    }
}

fn group(name: &str, layers: Vec<String>, checks: Vec<Check>) -> Group {
    Group {
        name: name.to_string(),
        layers,
        before: "true".into(),
        after: "true".into(),
        checks,
    }
}

/// The options by which one part of an image has one generation's pattern.
fn pattern(generation: usize, offset: u64, length: u64) -> Vec<String> {
    // Sixteen bytes: whatever the size of blocks, the pattern goes on from one to the next.
    vec![
        "--verify=pattern".to_string(),
        format!("--verify_pattern=\"vbd generation {generation}\""),
        format!("--offset={offset}"),
        format!("--size={length}"),
    ]
}

/// All of the disk in every way of reading.
fn every_way(verify: &[&str]) -> Vec<Check> {
    let checks = READS.iter().map(|read| {
        let (name, jobs, _) = read;
        check(name, verify, read, reads_all(SIZE * jobs))
    });
    checks.collect()
}

/// Each part of the disk, which has to be of the generation that wrote it last.
fn generations() -> Vec<Check> {
    let parts = parts(&GENERATIONS).into_iter();
    let checks = parts.map(|(generation, offset, length)| {
        let words = pattern(generation, offset, length);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let read = (
            "random 512 to 64k, direct, libaio",
            1,
            &[
                "--rw=randread",
                "--bsrange=512-64k",
                "--blockalign=512",
                "--direct=1",
                "--ioengine=libaio",
                "--iodepth=4",
            ][..],
        );
        let name = format!("generation {generation} at {offset}");
        check(&name, &words, &read, reads_all(length))
    });
    checks.collect()
}

/// What is left of areas that were written one after another: number, place and length of each part.
fn parts(areas: &[(u64, u64)]) -> Vec<(usize, u64, u64)> {
    let mut bounds: Vec<u64> = areas
        .iter()
        .flat_map(|(at, length)| [*at, at + length])
        .collect();
    bounds.sort_unstable();
    bounds.dedup();
    let mut parts: Vec<(usize, u64, u64)> = Vec::new();
    for pair in bounds.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let last = areas
            .iter()
            .rposition(|(at, length)| *at <= from && to <= at + length);
        match (last, parts.last_mut()) {
            (Some(last), Some((number, _, length))) if *number == last => *length += to - from,
            (Some(last), _) => parts.push((last, from, to - from)),
            (None, _) => (),
        }
    }
    parts
}

/// One run of fio on the disk.
fn check(name: &str, verify: &[&str], read: &Read, judge: Judge) -> Check {
    let (_, jobs, words) = read;
    let jobs = format!("--numjobs={jobs}");
    let always = [
        PROGRAM,
        "--name=verify",
        "--filename=/dev/vbd0",
        "--readonly",
        // Else a bad block is forgotten when a good one follows it in the same read.
        "--verify_fatal=1",
        "--output-format=json",
        "--output=/tmp/fio.json",
        jobs.as_str(),
    ];
    let words = always.iter().chain(verify).chain(*words);
    let words: Vec<String> = words.map(|word| quoted(word.as_ref())).collect();
    let fio = words.join(" ");
    let text = format!(
        "rm -f {TOOLS}/tmp/fio.json; chroot {TOOLS} {fio}; status=$?; cat {TOOLS}/tmp/fio.json; exit $status"
    );
    Check {
        name: name.to_string(),
        text,
        judge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_generation_of_each_part_is_known() {
        let areas = [(0, 100), (10, 50), (20, 10), (50, 20)];
        let expected = [
            (0, 0, 10),
            (1, 10, 10),
            (2, 20, 10),
            (1, 30, 20),
            (3, 50, 20),
            (0, 70, 30),
        ];
        assert_eq!(parts(&areas), expected);
        assert_eq!(parts(&[(10, 10), (30, 10)]), [(0, 10, 10), (1, 30, 10)]);
        // What nothing is left of is not read.
        assert_eq!(parts(&[(10, 10), (0, 40)]), [(1, 0, 40)]);
        let all = parts(&GENERATIONS);
        for (number, area) in GENERATIONS.iter().enumerate() {
            assert!(all.iter().any(|(last, ..)| *last == number), "{area:?}");
        }
        assert_eq!(all.iter().map(|(_, _, length)| length).sum::<u64>(), SIZE);
    }
}
