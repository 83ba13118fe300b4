// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Other targets below ours and above: linear, verity, snapshot.

use super::mapper::{self, Disk, Mapped, Part, Targets};
use super::model::{self, Form, MIXED};
use super::verity::{self, Tree};
use crate::case::Case;
use crate::cases::support::scratch::{Mounted, Scratch};
use crate::cases::support::{digest, layers, read};
use std::fs;
use std::path::Path;
use vbd_tests_host::rng::Rng;

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "volumes_below",
        run: volumes_below,
    },
    Case {
        name: "verity_below",
        run: verity_below,
    },
    Case {
        name: "verity_above",
        run: verity_above,
    },
    Case {
        name: "snapshot_above",
        run: snapshot_above,
    },
    Case {
        name: "file_system_on_a_snapshot",
        run: file_system_on_a_snapshot,
    },
];

const BYTES: usize = 1 << 20;

/// Layers in volumes of several extents each, mixed up on one disk.
fn volumes_below() {
    const EXTENT: usize = 64 << 10;

    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(101, BYTES, &MIXED);
    let mut rng = Rng(102);
    let mut extents: Vec<(usize, usize)> = Vec::new();
    for (layer, file) in stack.files.iter().enumerate() {
        extents.extend((0..file.len().div_ceil(EXTENT)).map(|extent| (layer, extent)));
    }
    for last in (1..extents.len()).rev() {
        extents.swap(last, rng.below(last as u64 + 1) as usize);
    }
    let mut bytes = vec![0xee; extents.len() * EXTENT];
    let mut tables = vec![vec![String::new(); extents.len()]; stack.files.len()];
    for (place, (layer, extent)) in extents.iter().enumerate() {
        let file = &stack.files[*layer];
        let part = &file[extent * EXTENT..file.len().min((extent + 1) * EXTENT)];
        bytes[place * EXTENT..][..part.len()].copy_from_slice(part);
        let (start, length, place) = (extent * EXTENT / 512, EXTENT / 512, place * EXTENT / 512);
        tables[*layer][*extent] = format!("{start} {length} linear DISK {place}");
    }
    let disk = Disk::new(&scratch, "disk", &bytes);
    let tables: Vec<String> = tables
        .iter()
        .map(|lines| {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let lines = lines.join(",");
            lines.trim_end_matches(',').replace("DISK", &disk.path())
        })
        .collect();
    let volumes = Mapped::many("volume", &tables);
    let parts = volumes.iter().zip(&stack.files);
    let parts: Vec<Part> = parts
        .map(|(volume, file)| volume.part(file.len() as u64))
        .collect();
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &parts));
    read::check_all(&mapped.path(), &stack.disk);
    read::check(&read::direct(&mapped.path()), &stack.disk, 0, BYTES);
    drop(mapped);
    Mapped::remove_all(volumes);
    drop((disk, targets));
}

/// A layer in whole blocks of verity, and its tree.
fn with_tree(file: &[u8]) -> (Vec<u8>, Tree) {
    let mut padded = file.to_vec();
    padded.resize(file.len().next_multiple_of(verity::BLOCK), 0);
    let tree = Tree::new(&padded);
    (padded, tree)
}

fn verity_below() {
    /// The block of the disk that is spoilt.
    const BAD: usize = 77;

    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let disk = Rng(103).texture(BYTES);
    let blob = model::whole(&disk);
    // What is wrong, and the blocks of the disk that must not be read then. The layer's header is
    // one block, so each block of the disk is the next one of a plain layer.
    for (number, (form, what, bad)) in [
        (Form::Plain, "nothing", 0..0),
        (Form::Lz4, "nothing", 0..0),
        (Form::Plain, "data", BAD..BAD + 1),
        // The second block of digests; those of the layer's metadata are in the first and third.
        (Form::Plain, "hash", 127..255),
    ]
    .into_iter()
    .enumerate()
    {
        let file = model::store(form, &blob);
        let (mut padded, mut tree) = with_tree(&file);
        match what {
            "data" => padded[(BAD + 1) * verity::BLOCK] ^= 1,
            "hash" => tree.spoil(128),
            _ => {}
        }
        let data = Disk::new(&scratch, &format!("data{number}"), &padded);
        let hash = Disk::new(&scratch, &format!("hash{number}"), &tree.blocks);
        let table = tree.table(padded.len(), &data.path(), &hash.path());
        let checked = Mapped::new("checked", &table);
        let part = checked.part(file.len() as u64);
        let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &[part]));
        let direct = read::direct(&mapped.path());
        let blocks = if bad.is_empty() { 0 } else { BYTES / 4096 };
        for block in 0..blocks {
            let offset = block as u64 * 4096;
            if bad.contains(&block) {
                read::check_eio(&direct, offset, 4096);
            } else {
                read::check(&direct, &disk, offset, 4096);
            }
        }
        assert_eq!(mapped.counter("errors"), bad.len() as u64, "{what}");
        if bad.is_empty() {
            read::check(&direct, &disk, 0, BYTES);
        } else {
            read::check_eio(&direct, 0, BYTES);
        }
        drop((direct, mapped));
        drop((checked, data, hash));
    }
    drop(targets);
}

/// The disk of a stack may be checked too: its reads are those of verity, in blocks.
fn verity_above() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(104, BYTES, &MIXED);
    let disks = Disk::all(&scratch, &stack.files);
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &mapper::parts(&disks)));
    let mut other = stack.disk.clone();
    other[9 * verity::BLOCK] ^= 1;
    for (number, good) in [&stack.disk, &other].into_iter().enumerate() {
        let tree = Tree::new(good);
        let hash = Disk::new(&scratch, &format!("hash{number}"), &tree.blocks);
        let table = tree.table(BYTES, &mapped.path(), &hash.path());
        let checked = Mapped::new("checked", &table);
        let file = read::direct(&checked.path());
        if number == 0 {
            read::check(&file, &stack.disk, 0, BYTES);
        } else {
            read::check(&file, &stack.disk, 0, 9 * 4096);
            read::check_eio(&file, 9 * 4096, 4096);
            read::check(&file, &stack.disk, 10 * 4096, BYTES - 10 * 4096);
        }
        drop((file, checked, hash));
    }
    drop((mapped, disks, targets));
}

fn snapshot_above() {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;

    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(105, BYTES, &MIXED);
    let disks = Disk::all(&scratch, &stack.files);
    let origin = Mapped::new(
        "origin",
        &mapper::lsmt(BYTES as u64, &mapper::parts(&disks)),
    );
    let store = Disk::new(&scratch, "store", &vec![0; 4 * BYTES]);
    let table = format!(
        "0 {} snapshot {} {} P 8",
        BYTES / 512,
        origin.path(),
        store.path()
    );
    let mut want = stack.disk.clone();
    let mut rng = Rng(106);
    let snapshot = Mapped::with_mode("snapshot", "rw", &table).expect("a snapshot");
    read::check_all(&snapshot.path(), &want);
    let file = OpenOptions::new().write(true).open(snapshot.path());
    let file = file.expect("a snapshot to write to");
    for _ in 0..40 {
        // Parts of chunks make the snapshot read the rest from our target.
        let length = 512 * (1 + rng.below(20)) as usize;
        let new = rng.noise(length);
        let at = rng.below((BYTES - new.len()) as u64 / 512) as usize * 512;
        file.write_at(&new, at as u64)
            .expect("a write to a snapshot");
        want[at..at + new.len()].copy_from_slice(&new);
    }
    file.sync_all().expect("writes to a snapshot");
    drop(file);
    read::drop_caches();
    read::check_all(&snapshot.path(), &want);
    read::check_all(&origin.path(), &stack.disk);
    drop(snapshot);
    // What was written lasts, and the origin is what it was.
    let snapshot = Mapped::with_mode("snapshot", "rw", &table).expect("a snapshot again");
    read::check_all(&snapshot.path(), &want);
    assert_eq!(origin.counter("errors"), 0);
    drop(snapshot);
    drop((origin, store, disks, targets));
}

fn file_system_on_a_snapshot() {
    let targets = Targets::begin();
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    fs::create_dir(&tree).expect("a directory");
    fs::write(tree.join("old"), "from the layer").expect("a file");
    let options = ["--fs", "ext4", "--size", "16M"];
    let layer = layers::from_file(&scratch, "layer", &tree, &options);
    let layer = Disk::new(&scratch, "padded", &fs::read(layer).expect("a layer"));
    let bytes = 16 << 20;
    let origin = Mapped::new("origin", &mapper::lsmt(bytes, &[layer.part()]));
    let before = digest::of_file(origin.path());
    let store = Disk::new(&scratch, "store", &vec![0; 8 << 20]);
    let table = format!(
        "0 {} snapshot {} {} N 8",
        bytes / 512,
        origin.path(),
        store.path()
    );
    let snapshot = Mapped::with_mode("snapshot", "rw", &table).expect("a snapshot");
    let place = Path::new("/mnt/snapshot");
    for round in 0..2 {
        let mounted = Mounted::new(&snapshot.path(), place, "ext4", false);
        let old = fs::read_to_string(place.join("old")).expect("the layer's file");
        assert_eq!(old, ["from the layer", "changed"][round]);
        fs::write(place.join("old"), "changed").expect("a change");
        fs::write(place.join("new"), vec![round as u8; 100_000]).expect("a new file");
        drop(mounted);
    }
    read::drop_caches();
    assert_eq!(digest::of_file(origin.path()), before, "the origin");
    // The snapshot has its origin for itself.
    drop(snapshot);
    let mounted = Mounted::new(&origin.path(), place, "ext4", true);
    let old = fs::read_to_string(place.join("old")).expect("the layer's file");
    assert_eq!(old, "from the layer");
    assert!(!place.join("new").exists());
    drop(mounted);
    drop((origin, store, layer, targets));
}
