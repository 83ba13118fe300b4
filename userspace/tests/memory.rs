// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The memory that verbs take, on an image of 8 GiB. One test, so that the peak is its own.

mod common;

use common::{temp_dir, Rng};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use vbd_format::zfile::Algorithm;
use vbdctl::image::check::check;
use vbdctl::image::commit::{commit, CommitOptions};
use vbdctl::image::compare::compare;
use vbdctl::image::convert::convert;
use vbdctl::image::export::{export, ExportOptions};
use vbdctl::image::merge::{merge, MergeOptions};
use vbdctl::image::upper::Upper;
use vbdctl::image::{create, Compression, Container, Disk, Layer, Options, Source, Stack};

const SIZE: u64 = 8 << 30;
const JOBS: usize = 16;
const MOST: u64 = 256 << 20;

/// Most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

#[track_caller]
fn assert_modest(verb: &str) {
    let peak = peak();
    assert!(peak < MOST, "{verb}: {peak} bytes");
}

/// A sparse image: a run of data every 128 MiB, and single pages between.
fn image(path: &Path, seed: u64) -> Source {
    let file = File::create(path).unwrap();
    file.set_len(SIZE).unwrap();
    let mut rng = Rng::new(seed);
    let run = rng.text(1 << 20);
    for number in 0..64 {
        file.write_all_at(&run, number * (SIZE / 64)).unwrap();
        for _ in 0..8 {
            let page = rng.below(SIZE / 4096);
            file.write_all_at(&run[..512], page * 4096).unwrap();
        }
    }
    Source::open(path).unwrap()
}

#[test]
fn no_verb_takes_much_memory() {
    let dir = temp_dir();
    let at = |name: &str| dir.path().join(name);
    let container = Container {
        compression: Some(Compression {
            jobs: JOBS,
            ..Compression::new(Algorithm::Lz4)
        }),
        tar: true,
        force: true,
    };
    let options = Options {
        compression: container.compression,
        tar: true,
        ..Options::default()
    };
    create(
        &image(&at("a.img"), 1),
        None,
        &at("a"),
        &options,
        &mut |_| {},
    )
    .unwrap();
    assert_modest("create");
    let base = Stack::open(&[at("a")]).unwrap();
    create(
        &image(&at("b.img"), 2),
        Some(&base),
        &at("b"),
        &options,
        &mut |_| {},
    )
    .unwrap();
    assert_modest("create with a base");
    let layers = [at("a"), at("b")];
    let open = || Stack::open(&layers).unwrap();
    assert!(check(&layers, JOBS, &mut |_| {}, &mut |_| {}).ok);
    assert_modest("check");
    let (layer, _) = Layer::open(&layers[0]).unwrap();
    let zstd = Container {
        compression: Some(Compression {
            jobs: JOBS,
            block_size: 65536,
            ..Compression::new(Algorithm::Zstd)
        }),
        ..container
    };
    convert(&layer, &at("converted"), &zstd, JOBS, &mut |_| {}).unwrap();
    assert_modest("convert");
    let options = MergeOptions {
        container,
        ..MergeOptions::default()
    };
    merge(&open(), &at("merged"), &options, JOBS, &mut |_| {}).unwrap();
    assert_modest("merge");
    let options = ExportOptions {
        jobs: JOBS,
        ..ExportOptions::whole(&open())
    };
    export(open(), &at("raw"), &options, &mut |_| {}).unwrap();
    assert_modest("export");
    let disks = [&at("merged"), &at("raw"), &at("b.img")].map(|path| Disk::open(path).unwrap());
    for pair in disks.windows(2) {
        assert!(
            compare(&pair[0], &pair[1], true, JOBS, &mut |_| {})
                .unwrap()
                .equal
        );
    }
    assert_modest("compare");

    // A sparse writable layer of the same disk.
    let sparse = File::create(at("sparse")).unwrap();
    sparse.set_len(4096 + SIZE).unwrap();
    let mut header = vec![0; 4096];
    open().layers()[0]
        .reader()
        .read_exact_at(0, &mut header)
        .unwrap();
    header[28..32].copy_from_slice(&0x13u32.to_le_bytes());
    sparse.write_all_at(&header, 0).unwrap();
    for number in 0..64 {
        let bytes = Rng::new(number).text(1 << 20);
        sparse
            .write_all_at(&bytes, 4096 + number * (SIZE / 64))
            .unwrap();
    }
    let upper = Upper::open_sparse(&at("sparse")).unwrap();
    let options = CommitOptions {
        container,
        ..CommitOptions::default()
    };
    commit(&upper, &at("committed"), &options, JOBS, &mut |_| {}).unwrap();
    assert_modest("commit");
}
