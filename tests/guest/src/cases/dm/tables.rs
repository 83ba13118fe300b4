// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Tables that are not just one whole stack.

use super::mapper::{self, Disk, Mapped, Targets};
use super::model::{self, Form, MIXED};
use crate::case::Case;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::{device, read, tool};
use vbd_tests_host::rng::Rng;

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "devices_larger_than_layers",
        run: devices_larger_than_layers,
    },
    Case {
        name: "table_smaller_than_layers",
        run: table_smaller_than_layers,
    },
    Case {
        name: "several_targets_in_a_table",
        run: several_targets_in_a_table,
    },
    Case {
        name: "zfile_of_any_size",
        run: zfile_of_any_size,
    },
    Case {
        name: "tables_that_vbdctl_prints",
        run: tables_that_vbdctl_prints,
    },
    Case {
        name: "one_device_in_several_places",
        run: one_device_in_several_places,
    },
];

const BYTES: usize = 2 << 20;

fn devices_larger_than_layers() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(41, BYTES, &MIXED);
    // What lies behind a layer must not matter, not even if it is the end of another one.
    let end = &stack.files[0][stack.files[0].len() - 4096..];
    let files = stack.files.iter().enumerate();
    let disks: Vec<Disk> = files
        .map(|(number, file)| {
            let long = [file.as_slice(), end].concat();
            let disk = Disk::padded(&scratch, &format!("disk{number}"), &long, 1 << 20);
            disk.with_bytes(file.len() as u64)
        })
        .collect();
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &mapper::parts(&disks)));
    read::check_all(&mapped.path(), &stack.disk);
    drop((mapped, disks, targets));
}

fn table_smaller_than_layers() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(42, BYTES, &[Form::Lz4, Form::Zstd]);
    let disks = Disk::all(&scratch, &stack.files);
    for bytes in [512, 4096, 65536 + 512, BYTES - 512] {
        let table = mapper::lsmt(bytes as u64, &mapper::parts(&disks));
        let mapped = Mapped::new("dm", &table);
        read::check_all(&mapped.path(), &stack.disk[..bytes]);
        // The end is the table's, not the layers'.
        let file = read::direct(&mapped.path());
        let got = read::pread(&file, bytes as u64 - 512, 4096).expect("a read at the end");
        read::same(&got, &stack.disk[bytes - 512..bytes], bytes as u64 - 512);
    }
    drop((disks, targets));
}

fn several_targets_in_a_table() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let one = model::stack(43, BYTES, &MIXED);
    let other = model::stack(44, BYTES / 2, &[Form::Lz4]);
    let disks = Disk::all(&scratch, &[one.files, other.files].concat());
    let parts = mapper::parts(&disks);
    let gap = 7 * 512;
    let first = (BYTES - 512) as u64;
    let lines = [
        format!("0 {} zero", gap / 512),
        mapper::line(gap, first, "lsmt_target", &parts[..4]),
        mapper::line(
            gap + first,
            other.disk.len() as u64,
            "lsmt_target",
            &parts[4..],
        ),
        mapper::line(
            gap + first + other.disk.len() as u64,
            8192,
            "zfile_target",
            &parts[1..2],
        ),
    ];
    let mut flat = vec![0; gap as usize];
    flat.extend_from_slice(&one.disk[..BYTES - 512]);
    flat.extend_from_slice(&other.disk);
    flat.extend_from_slice(&one.blobs[1][..8192]);

    let mapped = Mapped::new("dm", &lines.join(","));
    read::check_all(&mapped.path(), &flat);
    let file = read::direct(&mapped.path());
    // Reads that straddle the borders of targets, which lie at odd sectors.
    for border in [gap, gap + first, gap + first + other.disk.len() as u64] {
        for before in [512, 4096 - 512, 65536 + 512] {
            let start = border.saturating_sub(before);
            for length in [1024, 8192, 200 * 512] {
                read::check(&file, &flat, start, length);
            }
        }
    }
    let mut rng = Rng(45);
    for _ in 0..100 {
        let offset = rng.below(flat.len() as u64 / 512) * 512;
        read::check(&file, &flat, offset, 512 * (1 + rng.below(300) as usize));
    }
    drop(file);
    // Each target answers for itself.
    let status = mapped.dmsetup("status", &[]);
    assert_eq!(status.lines().count(), 4, "{status}");
    drop((mapped, disks, targets));
}

fn zfile_of_any_size() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let mut rng = Rng(46);
    // What is compressed need not be a layer, nor end with a sector or a block.
    for (number, bytes) in [1, 512, 4097, 70_001].into_iter().enumerate() {
        let content = rng.texture(bytes);
        for form in [Form::Lz4, Form::Zstd, Form::Tar] {
            let file = model::store(form, &content);
            let disk = Disk::new(&scratch, &format!("{form:?}{number}"), &file);
            let table = mapper::line(0, bytes as u64, "zfile_target", &[disk.part()]);
            let mapped = Mapped::new("dm", &table);
            let mut flat = content.clone();
            flat.resize(bytes.next_multiple_of(512), 0);
            assert_eq!(device::size(&mapped.path()), flat.len() as u64);
            read::check_all(&mapped.path(), &flat);
            read::check(&read::direct(&mapped.path()), &flat, 0, flat.len());
            drop((mapped, disk));
        }
    }
    drop(targets);
}

fn tables_that_vbdctl_prints() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(48, BYTES, &[Form::Lz4, Form::Tar, Form::Zstd]);
    let disks: Vec<Disk> = (0..3)
        .map(|number| {
            // Such padding is told from content by anyone.
            let mut file = stack.files[number].clone();
            file.resize(file.len().next_multiple_of(512) + 4096, 0);
            Disk::new(&scratch, &format!("disk{number}"), &file)
        })
        .collect();
    let paths: Vec<String> = disks.iter().map(Disk::path).collect();
    let create = |words: &[&str]| {
        let concise = tool::run("vbdctl", &[&["dm-table"], words].concat());
        tool::run("dmsetup", &["create", "--concise", &concise]);
    };
    // All layers in one table.
    create(&["--name", "direct", &paths[0], &paths[1], &paths[2]]);
    read::check_all("/dev/mapper/direct", &stack.disk);
    // One target on the other.
    create(&["--target", "zfile", "--name", "z0", &paths[0]]);
    read::check(&read::direct("/dev/mapper/z0"), &stack.blobs[0], 0, 65536);
    create(&["--target", "zfile", "--name", "z2", &paths[2]]);
    create(&[
        "--name",
        "stacked",
        "/dev/mapper/z0",
        &paths[1],
        "/dev/mapper/z2",
    ]);
    read::check_all("/dev/mapper/stacked", &stack.disk);
    tool::run("dmsetup", &["remove", "direct", "stacked", "z0", "z2"]);
    drop(disks);

    // Files, with a script that makes loop devices.
    let files: Vec<String> = (0..3)
        .map(|number| scratch.join(format!("disk{number}")).display().to_string())
        .collect();
    let words = ["dm-table", "--losetup", "--name", "direct"];
    let files: Vec<&str> = words
        .into_iter()
        .chain(files.iter().map(String::as_str))
        .collect();
    let script = tool::run("vbdctl", &files);
    tool::run("sh", &["-e", "-c", &script]);
    read::check_all("/dev/mapper/direct", &stack.disk);
    tool::run("dmsetup", &["remove", "direct"]);
    tool::run("losetup", &["--detach-all"]);
    drop(targets);
}

fn one_device_in_several_places() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(47, BYTES, &[Form::Lz4]);
    let disks = Disk::all(&scratch, &stack.files);
    let part = disks[0].part();
    // The same layer twice in a stack changes nothing, nor do two devices over one.
    let twice = [part.clone(), part.clone()];
    let one = Mapped::new("one", &mapper::lsmt(BYTES as u64, &twice));
    let other = Mapped::new("other", &mapper::lsmt(BYTES as u64, &[part]));
    read::check_all(&one.path(), &stack.disk);
    read::check_all(&other.path(), &stack.disk);
    drop(one);
    read::drop_caches();
    read::check_all(&other.path(), &stack.disk);
    drop((other, disks, targets));
}
