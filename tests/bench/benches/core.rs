// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Lookup, merge, jump table and writer: `cargo bench -p vbd-bench`.

use criterion::{criterion_group, criterion_main, BatchSize, BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use std::path::Path;
use vbd_format::lsmt::{Directory, Index, PieceKind, Pieces, Segment};
use vbd_format::zfile::{load_jump_table, probe, Group, JumpTable, ZFile};
use vbd_tests_host::crc::RawCrc;
use vbd_tests_host::mem::Mem;
use vbd_tests_host::open::{directory, groups_into, merge};
use vbd_tests_host::rng::Rng;
use vbdctl::image::{create, Compression, Options, Source};

/// Records in an index.
const RECORDS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Questions that one run of a lookup asks.
const QUESTIONS: u64 = 1024;

/// An index of records of 1 to 16 sectors with small gaps, and its last sector.
fn index(records: u64, seed: u64) -> (Vec<Segment>, u64) {
    let mut rng = Rng(seed);
    let mut at = 0;
    let segments = (0..records)
        .map(|number| {
            let sectors = 1 + rng.below(16);
            let segment = Segment::new(at, sectors, 8 + number * 16, false);
            at += sectors + rng.below(4);
            segment.expect("a record in range")
        })
        .collect();
    (segments, at)
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(QUESTIONS));
    for records in RECORDS {
        let (segments, end) = index(records, records);
        let (grid, starts) = directory(&segments);
        let index = Index::with(&segments, Directory::new(grid, &starts));
        let mut rng = Rng(3);
        let sectors: Vec<u64> = (0..QUESTIONS).map(|_| rng.below(end)).collect();
        group.bench_with_input(
            BenchmarkId::new("find", records),
            &index,
            |bencher, index| {
                bencher.iter(|| sectors.iter().map(|&at| index.find(at)).sum::<usize>());
            },
        );
        group.bench_with_input(
            BenchmarkId::new("read-4k", records),
            &index,
            |bencher, index| {
                let stored = |at: u64| {
                    let pieces = Pieces::new(*index, at * 512, at * 512 + 4096, u64::MAX);
                    let data = pieces.filter(|piece| matches!(piece.kind, PieceKind::Data { .. }));
                    data.map(|piece| piece.len).sum::<u64>()
                };
                bencher.iter(|| sectors.iter().map(|&at| stored(at)).sum::<u64>());
            },
        );
    }
    group.finish();
}

fn merging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    group.sample_size(20);
    for layers in [1u64, 10, 255] {
        let records = 100_000 / layers;
        let stack: Vec<Vec<Segment>> = (0..layers).map(|seed| index(records, seed).0).collect();
        group.throughput(Throughput::Elements(records * layers));
        group.bench_with_input(
            BenchmarkId::new("100k", layers),
            &stack,
            |bencher, stack| {
                bencher.iter(|| merge(black_box(stack)).expect("a stack").len());
            },
        );
    }
    group.finish();
}

/// A file of `blocks` blocks of 4 KiB, its header and table as the writer makes them.
fn zfile(place: &Path, blocks: u64) -> Mem {
    let raw = place.join("raw");
    let layer = place.join("layer");
    // Not zeroes, which would not be stored; compressing to almost nothing.
    let pages = (0..blocks).flat_map(|page| [page.to_le_bytes(); 512].concat());
    std::fs::write(&raw, pages.collect::<Vec<u8>>()).expect("a raw image");
    write(&raw, &layer, 1);
    Mem(std::fs::read(&layer).expect("the layer"))
}

fn write(raw: &Path, layer: &Path, jobs: usize) {
    let source = Source::open(raw).expect("a raw image");
    let options = Options {
        compression: Some(Compression {
            jobs,
            ..Compression::new(vbd_format::zfile::Algorithm::Lz4)
        }),
        force: true,
        ..Options::default()
    };
    create(&source, None, layer, &options, &mut |_| {}).expect("a layer");
}

fn load(file: &Mem, buffer: &mut [u8]) -> (ZFile, Vec<Group>) {
    let zfile = probe(file, &RawCrc).expect("a header").expect("a ZFile");
    let mut groups = Vec::new();
    let more = groups_into(&mut groups);
    load_jump_table(file, &zfile, &RawCrc, buffer, more).expect("a table");
    (zfile, groups)
}

fn jump_table(criterion: &mut Criterion) {
    let place = tempfile::tempdir().expect("a directory");
    let mut group = criterion.benchmark_group("jump-table");
    let mut buffer = vec![0; 64 * 1024];
    for blocks in [1_000u64, 50_000] {
        let file = zfile(place.path(), blocks);
        let (zfile, groups) = load(&file, &mut buffer);
        group.throughput(Throughput::Elements(blocks));
        group.bench_function(BenchmarkId::new("load", blocks), |bencher| {
            bencher.iter(|| load(&file, &mut buffer).1.len());
        });
        let table = JumpTable::new(&zfile, &groups);
        let mut rng = Rng(5);
        let asked: Vec<u64> = (0..QUESTIONS).map(|_| rng.below(blocks)).collect();
        group.throughput(Throughput::Elements(QUESTIONS));
        group.bench_function(BenchmarkId::new("stored", blocks), |bencher| {
            let place = |block: u64| table.stored(block).map_or(0, |stored| stored.offset);
            bencher.iter(|| asked.iter().map(|&block| place(block)).sum::<u64>());
        });
    }
    group.finish();
}

fn writer(criterion: &mut Criterion) {
    const BYTES: usize = 8 << 20;
    let place = tempfile::tempdir().expect("a directory");
    let raw = place.path().join("raw");
    std::fs::write(&raw, Rng(9).texture(BYTES)).expect("a raw image");
    let mut group = criterion.benchmark_group("writer");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(BYTES as u64));
    for jobs in [1, 2] {
        group.bench_function(BenchmarkId::new("lz4-4k", jobs), |bencher| {
            let layer = place.path().join("out");
            bencher.iter_batched(
                || (),
                |()| write(&raw, &layer, jobs),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, lookup, merging, jump_table, writer);
criterion_main!(benches);
