// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Random stacks through every verb: create, convert, merge, export and compare against a flat model.

mod common;

use common::{assert_reads_as, make, temp_dir, Rng};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use vbd_format::lsmt::UUID_NONE;
use vbd_format::zfile::Algorithm;
use vbdctl::image::check::check;
use vbdctl::image::compare::compare;
use vbdctl::image::convert::convert;
use vbdctl::image::export::{export, export_stream, ExportOptions};
use vbdctl::image::merge::{merge, MergeOptions};
use vbdctl::image::{Compression, Container, Disk, Layer, Options, Stack};

/// Containers of every kind.
fn containers() -> Vec<Container> {
    let mut all = Vec::new();
    for tar in [false, true] {
        all.push(Container {
            tar,
            ..Container::default()
        });
        for algorithm in [Algorithm::Lz4, Algorithm::Zstd] {
            for (block_size, block_crc, trailer_only) in [
                (512, true, true),
                (4096, true, false),
                (4096, false, true),
                (65536, true, false),
                (65536, false, false),
            ] {
                all.push(Container {
                    compression: Some(Compression {
                        block_size,
                        block_crc,
                        trailer_only,
                        jobs: 2,
                        ..Compression::new(algorithm)
                    }),
                    tar,
                    force: true,
                });
            }
        }
    }
    for container in &mut all {
        container.force = true;
    }
    all
}

/// Changes some of `disk`: data, zeroes, and single sectors.
fn change(rng: &mut Rng, disk: &mut [u8]) {
    let sectors = disk.len() as u64 / 512;
    for _ in 0..1 + rng.below(60) {
        let start = rng.below(sectors);
        let len = (1 << rng.below(9)).min(sectors - start);
        let (start, end) = (start as usize * 512, (start + len) as usize * 512);
        let new = match rng.below(4) {
            0 | 1 => vec![0; end - start],
            2 => rng.noise(end - start),
            _ => rng.text(end - start),
        };
        disk[start..end].copy_from_slice(&new);
    }
}

/// The LSMT file of a layer.
fn lsmt_bytes(path: &Path) -> Vec<u8> {
    let (layer, _) = Layer::open(path).unwrap();
    let mut bytes = vec![0; layer.lsmt_size() as usize];
    layer.reader().read_exact_at(0, &mut bytes).unwrap();
    bytes
}

fn defects(paths: &[PathBuf]) -> Vec<String> {
    let mut told = 0;
    let report = check(paths, 2, &mut |_| told += 1, &mut |_| {});
    assert_eq!(report.findings.len(), told);
    let defects = report.findings.iter().filter(|finding| finding.defect);
    defects.map(ToString::to_string).collect()
}

/// A stack of `count` layers in `dir`, and the disk after each.
fn stack(dir: &Path, rng: &mut Rng, count: usize) -> (Vec<PathBuf>, Vec<Vec<u8>>) {
    let containers = containers();
    let mut disk = vec![0; 512 * (100 + rng.below(3000) as usize)];
    let mut files = Vec::new();
    let mut disks = Vec::new();
    for number in 0..count {
        change(rng, &mut disk);
        let container = containers[rng.below(containers.len() as u64) as usize];
        let options = Options {
            compression: container.compression,
            tar: container.tar,
            message: format!("layer {number}"),
            ..Options::default()
        };
        let base = (number > 0).then(|| Stack::open(&files).unwrap());
        let name = format!("layer{number}");
        let (file, _) = make(dir, &name, &disk, base.as_ref(), &options);
        files.push(file);
        disks.push(disk.clone());
    }
    (files, disks)
}

#[test]
fn every_pair_of_containers_converts_back_and_forth() {
    let dir = temp_dir();
    let mut rng = Rng::new(21);
    let (files, disks) = stack(dir.path(), &mut rng, 1);
    let original = lsmt_bytes(&files[0]);
    let is_packed = Layer::open(&files[0]).unwrap().0.zfile().is_some();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    // In a header that was compressed there is no name; one that is not compressed has the trailer's.
    let name = original[original.len() - 4096..][56..93].to_vec();
    let named = [&original[..56], &name, &original[93..]].concat();
    let unnamed = [&original[..56], &UUID_NONE, &original[93..]].concat();
    for from in containers() {
        let (layer, _) = Layer::open(&files[0]).unwrap();
        let size = convert(&layer, &one, &from, 3, &mut |_| {}).unwrap();
        assert_eq!(size, fs::metadata(&one).unwrap().len());
        let first = fs::read(&one).unwrap();
        for to in containers() {
            let (layer, _) = Layer::open(&one).unwrap();
            convert(&layer, &other, &to, 2, &mut |_| {}).unwrap();
            let packed = [from, to].iter().all(|c| c.compression.is_some());
            let want = if packed && is_packed {
                &unnamed
            } else {
                &named
            };
            assert!(lsmt_bytes(&other) == *want, "{from:?} {to:?}");
            assert_eq!(
                defects(std::slice::from_ref(&other)),
                [""; 0],
                "{from:?} {to:?}"
            );
        }
        // And once more: the bytes are the same, whatever the number of threads.
        let (layer, _) = Layer::open(&files[0]).unwrap();
        convert(&layer, &one, &from, 1, &mut |_| {}).unwrap();
        assert!(fs::read(&one).unwrap() == first, "{from:?}");
    }
    assert_reads_as(&Stack::open(&[&other]).unwrap(), &disks[0], 22);
}

#[test]
fn parts_of_stacks_merge_to_the_same_disk() {
    let dir = temp_dir();
    let merged = dir.path().join("merged");
    let containers = containers();
    for seed in 0..25 {
        let mut rng = Rng::new(seed + 300);
        let count = 2 + rng.below(4) as usize;
        let (files, disks) = stack(dir.path(), &mut rng, count);
        let disk = disks.last().unwrap();
        let first = rng.below(count as u64) as usize;
        let last = first + rng.below((count - first) as u64) as usize;
        let options = MergeOptions {
            container: containers[rng.below(containers.len() as u64) as usize],
            bottom: first == 0 && rng.below(2) == 0,
            message: "merged".to_owned(),
            ..MergeOptions::default()
        };
        let part = Stack::open_part(&files[first..=last]).unwrap();
        merge(&part, &merged, &options, 1, &mut |_| {}).unwrap();
        let bytes = fs::read(&merged).unwrap();
        merge(&part, &merged, &options, 3, &mut |_| {}).unwrap();
        assert!(fs::read(&merged).unwrap() == bytes, "jobs change the bytes");
        if options.bottom {
            let zeroed = Stack::open(&[&merged]).unwrap().mapped().zeroed_bytes;
            assert_eq!(zeroed, 0);
        }

        let mut shorter = files.clone();
        shorter.splice(first..=last, [merged.clone()]);
        let stack = Stack::open(&shorter).unwrap();
        assert_reads_as(&stack, disk, seed);
        assert_eq!(defects(&shorter), [""; 0]);
        // The merged layer stands for those that it was made of, by name too.
        let layer = &stack.layers()[first].lsmt.trailer;
        assert_eq!(layer.parent_uuid, part.layers()[0].lsmt.trailer.parent_uuid);
        let a = Disk::Stack(Stack::open(&files).unwrap());
        assert!(
            compare(&a, &Disk::Stack(stack), false, 2, &mut |_| {})
                .unwrap()
                .equal
        );
    }
}

#[test]
fn exports_equal_the_model_and_have_holes() {
    let dir = temp_dir();
    let raw = dir.path().join("raw");
    for seed in 0..20 {
        let mut rng = Rng::new(seed + 400);
        let (files, disks) = stack(dir.path(), &mut rng, 3);
        let disk = disks.last().unwrap();
        let open = || Stack::open(&files).unwrap();
        let mut options = ExportOptions {
            jobs: 3,
            force: true,
            ..ExportOptions::whole(&open())
        };
        export(open(), &raw, &options, &mut |_| {}).unwrap();
        assert!(fs::read(&raw).unwrap() == *disk);
        let pages = disk
            .chunks(4096)
            .filter(|page| page.iter().any(|&b| b != 0));
        let used = fs::metadata(&raw).unwrap().blocks() * 512;
        assert!(used <= pages.count() as u64 * 4096, "{used}");
        let (a, b) = (Disk::Stack(open()), Disk::open(&raw).unwrap());
        assert!(compare(&a, &b, true, 2, &mut |_| {}).unwrap().equal);

        let start = rng.below(disk.len() as u64);
        let end = start + rng.below(disk.len() as u64 - start + 1);
        options.range = start..end;
        let want = &disk[start as usize..end as usize];
        export(open(), &raw, &options, &mut |_| {}).unwrap();
        assert!(fs::read(&raw).unwrap() == want);
        let mut stream = Vec::new();
        export_stream(open(), &mut stream, Path::new("-"), &options, &mut |_| {}).unwrap();
        assert!(stream == want);
    }
}

#[test]
fn compare_finds_what_was_changed() {
    let dir = temp_dir();
    let raw = dir.path().join("raw");
    for seed in 0..20 {
        let mut rng = Rng::new(seed + 500);
        let (files, disks) = stack(dir.path(), &mut rng, 2);
        let a = Disk::Stack(Stack::open(&files).unwrap());
        let mut changed = disks[1].clone();
        let sectors = changed.len() / 512;
        let mut model = vec![false; sectors];
        for _ in 0..1 + rng.below(6) {
            let first = rng.below(sectors as u64) as usize;
            for sector in first..sectors.min(first + 1 + rng.below(40) as usize) {
                changed[sector * 512 + rng.below(512) as usize] ^= 1 + rng.below(255) as u8;
                model[sector] = changed[sector * 512..][..512] != disks[1][sector * 512..][..512];
            }
        }
        fs::write(&raw, &changed).unwrap();
        let b = Disk::open(&raw).unwrap();
        for jobs in [1, 4] {
            let all = compare(&a, &b, true, jobs, &mut |_| {}).unwrap();
            let mut found = vec![false; sectors];
            let mut end = 0;
            for range in &all.ranges {
                // Ranges that touch would be one.
                assert!(end == 0 || range.offset > end);
                end = range.offset + range.length;
                found[range.offset as usize / 512..end as usize / 512].fill(true);
                let first = range.first_byte as usize;
                assert!(
                    disks[1][range.offset as usize..first] == changed[range.offset as usize..first]
                );
                assert_eq!(range.a[..2], format!("{:02x}", disks[1][first]));
                assert_eq!(range.b[..2], format!("{:02x}", changed[first]));
            }
            assert!(found == model && all.complete);
            assert_eq!(all.equal, all.ranges.is_empty());
            let one = compare(&a, &b, false, jobs, &mut |_| {}).unwrap();
            assert_eq!(one.ranges.first(), all.ranges.first());
            assert!(one.ranges.len() < 2);
        }
    }
}

#[test]
fn disks_of_unequal_size_differ() {
    let dir = temp_dir();
    let (short, long) = (dir.path().join("short"), dir.path().join("long"));
    let mut bytes = Rng::new(6).text(10_000);
    fs::write(&short, &bytes).unwrap();
    bytes.resize(3 << 20, 0);
    fs::write(&long, &bytes).unwrap();
    let run = |all| {
        let (a, b) = (Disk::open(&short).unwrap(), Disk::open(&long).unwrap());
        compare(&a, &b, all, 2, &mut |_| {}).unwrap()
    };
    let found = run(true);
    assert!(!found.equal && found.ranges.is_empty() && found.complete);
    bytes[2 << 20] = 1;
    fs::write(&long, &bytes).unwrap();
    assert_eq!(run(false).ranges[0].offset, 2 << 20);
}

#[test]
fn equal_places_are_not_read() {
    let dir = temp_dir();
    let disk = Rng::new(8).noise(1 << 20);
    let (file, _) = make(dir.path(), "layer", &disk, None, &Options::default());
    let open = || Disk::Stack(Stack::open(&[&file]).unwrap());
    let (a, b) = (open(), open());
    // Bytes that can no longer be read do not matter where both would read the same ones.
    let shorter = fs::OpenOptions::new().write(true).open(&file).unwrap();
    shorter.set_len(8192).unwrap();
    assert!(compare(&a, &b, true, 2, &mut |_| {}).unwrap().equal);
    let raw = dir.path().join("layer.img");
    assert!(compare(&a, &Disk::open(&raw).unwrap(), true, 2, &mut |_| {}).is_err());
}
