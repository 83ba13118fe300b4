// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Tables that are refused, with the reason, and leave nothing behind.

use super::mapper::{self, Disk, Mapped, Part, Targets};
use super::model::{self, Form};
use crate::case::Case;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::{read, tool};

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "lines_with_wrong_words",
        run: lines_with_wrong_words,
    },
    Case {
        name: "devices_with_wrong_content",
        run: devices_with_wrong_content,
    },
    Case {
        name: "table_larger_than_layers",
        run: table_larger_than_layers,
    },
    Case {
        name: "writable_device",
        run: writable_device,
    },
    Case {
        name: "more_than_255_layers",
        run: more_than_255_layers,
    },
];

const BYTES: usize = 256 << 10;

const WORDS: &str = "wanted: <device> <bytes> for each layer";
const NUMBER: &str = "<bytes> is not a number";
const SMALLER: &str = "a device is smaller than its <bytes>";
const OPENED: &str = "a device cannot be opened";
const BEFORE: &str = "the layers cannot be opened, as the line before this one says";

fn lines_with_wrong_words() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(51, BYTES, &[Form::Lz4]);
    let disks = Disk::all(&scratch, &stack.files);
    let (device, bytes) = (disks[0].path(), disks[0].part().bytes);
    let padded = bytes.next_multiple_of(512);
    for target in ["lsmt_target", "zfile_target"] {
        for (words, errno, reason) in [
            (String::new(), "Invalid argument", WORDS),
            (device.clone(), "Invalid argument", WORDS),
            (
                format!("{device} {bytes} {device}"),
                "Invalid argument",
                WORDS,
            ),
            (format!("{device} many"), "Invalid argument", NUMBER),
            (format!("{device} -1"), "Invalid argument", NUMBER),
            (format!("{device} 0x1000"), "Invalid argument", NUMBER),
            (format!("{device} 4096k"), "Invalid argument", NUMBER),
            (
                format!("{device} 18446744073709551616"),
                "Invalid argument",
                NUMBER,
            ),
            (
                format!("{device} 18446744073709551615"),
                "Invalid argument",
                SMALLER,
            ),
            (
                format!("{device} {}", padded + 1),
                "Invalid argument",
                SMALLER,
            ),
            (
                format!("/dev/nothing {bytes}"),
                "No such file or directory",
                OPENED,
            ),
            (format!("/dev/null {bytes}"), "", OPENED),
            (format!("{} {bytes}", scratch.display()), "", OPENED),
        ] {
            let refused = Mapped::refuse("dm", &format!("0 8 {target} {words}"));
            refused.check(errno, "", reason);
        }
    }
    let line = format!("0 8 zfile_target {device} {bytes} {device} {bytes}");
    Mapped::refuse("dm", &line).check("Invalid argument", "", "too many devices");
    // None of that has kept the device.
    let part = disks[0].part();
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &[part]));
    read::check_all(&mapped.path(), &stack.disk);
    drop((mapped, disks, targets));
}

fn devices_with_wrong_content() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(52, BYTES, &[Form::Lz4]);
    let good = &stack.files[0];
    let blob = &stack.blobs[0];
    let mut spoiled = good.clone();
    spoiled[100] ^= 1;
    // The length of a block is one more; then two lengths have changed places.
    let mut longer = good.clone();
    let at = good.len() - 512 - 4;
    longer[at] += 1;
    let mut swapped = good.clone();
    let entries = blob.len().div_ceil(4096);
    let entry = |number: usize| good.len() - 512 - 4 * (entries - number);
    let other = (1..entries).find(|&n| good[entry(n)..][..4] != good[entry(0)..][..4]);
    let other = entry(other.expect("blocks of two lengths"));
    swapped.copy_within(other..other + 4, entry(0));
    swapped[other..other + 4].copy_from_slice(&good[entry(0)..][..4]);
    let mut trailer = blob.clone();
    let at = blob.len() - 4096;
    trailer[at] ^= 1;

    let zeroes = vec![0; 8192];
    let lsmt = "no layer magic at the start: not an overlaybd layer";
    let zfile = "not a compressed file";
    let einval = "Invalid argument";
    // What lies on the device, the bytes of its end that the table leaves out, and what is said.
    // The trailer of these ZFiles repeats the header, so what matters ends with the jump table.
    for (number, (content, cut, target, errno, ours)) in [
        (&zeroes, 0, "lsmt_target", einval, lsmt),
        (&zeroes, 0, "zfile_target", einval, zfile),
        (blob, 0, "zfile_target", einval, zfile),
        (blob, 1, "lsmt_target", "", "no trailer magic at the end"),
        (good, 513, "lsmt_target", "", "jump table"),
        (good, 513, "zfile_target", "", "jump table"),
        (good, good.len() - 100, "lsmt_target", "", ""),
        (good, good.len(), "lsmt_target", "", ""),
        (good, good.len(), "zfile_target", "", ""),
        (&spoiled, 0, "lsmt_target", "Bad message", "digest"),
        (&spoiled, 0, "zfile_target", "Bad message", "digest"),
        (&longer, 0, "lsmt_target", "needs cleaning", "jump table"),
        (&swapped, 0, "lsmt_target", "Bad message", "jump table"),
        (
            &trailer,
            0,
            "lsmt_target",
            "",
            "no trailer magic at the end",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let disk = Disk::new(&scratch, &format!("wrong{number}"), content);
        let bytes = (content.len() - cut) as u64;
        let part = Part {
            bytes,
            ..disk.part()
        };
        let refused = Mapped::refuse("dm", &mapper::line(0, 512, target, &[part]));
        refused.check(errno, "", BEFORE);
        let line = format!("vbd_dm: layer 0 ({}): ", disk.path());
        let told = refused.kernel.iter().find(|said| said.starts_with(&line));
        let told = told.unwrap_or_else(|| panic!("case {number}: {refused:?}"));
        assert!(told.contains(ours), "case {number}: {told}");
    }

    // The layer that is wrong is the one that is named.
    let (right, wrong) = (
        Disk::new(&scratch, "right", good),
        Disk::new(&scratch, "wrong", &vec![0; 8192]),
    );
    let parts = [right.part(), right.part(), wrong.part(), right.part()];
    let refused = Mapped::refuse("dm", &mapper::lsmt(512, &parts));
    let line = format!("vbd_dm: layer 2 ({}): ", wrong.path());
    assert!(
        refused.kernel.iter().any(|said| said.starts_with(&line)),
        "{refused:?}"
    );
    drop((right, wrong, targets));
}

fn table_larger_than_layers() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(53, BYTES, &[Form::Plain, Form::Lz4]);
    let disks = Disk::all(&scratch, &stack.files);
    let parts = mapper::parts(&disks);
    let reason = "the table is larger than the layers";
    let refused = Mapped::refuse("dm", &mapper::lsmt(BYTES as u64 + 512, &parts));
    let ours = format!(
        "vbd_dm: lsmt_target: the table has {} bytes, the layers have {BYTES}",
        BYTES + 512
    );
    refused.check("Invalid argument", &ours, reason);

    let original = stack.blobs[1].len() as u64;
    let line = mapper::line(0, original + 512, "zfile_target", &parts[1..]);
    let ours = format!(
        "vbd_dm: zfile_target: the table has {} bytes, the layers have {}",
        original.next_multiple_of(512) + 512,
        original.next_multiple_of(512)
    );
    Mapped::refuse("dm", &line).check("Invalid argument", &ours, reason);
    // The top layer says how large the disk is.
    let line = mapper::lsmt(1 << 50, &parts);
    Mapped::refuse("dm", &line).check("Invalid argument", "", reason);
    drop((disks, targets));
}

fn writable_device() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(54, BYTES, &[Form::Lz4]);
    let disks = Disk::all(&scratch, &stack.files);
    let original = stack.blobs[0].len() as u64;
    let parts = mapper::parts(&disks);
    for line in [
        mapper::lsmt(BYTES as u64, &parts),
        mapper::line(0, original, "zfile_target", &parts),
    ] {
        let Err(refused) = Mapped::with_mode("dm", "rw", &line) else {
            panic!("a writable device");
        };
        refused.check("Invalid argument", "", "the device must be read-only");
    }
    // Nor can a device become writable with a second table.
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &parts));
    let line = mapper::lsmt(BYTES as u64, &parts);
    let output = tool::output("dmsetup", &["load", "dm", "--table", &line]);
    assert!(!output.status.success(), "{output:?}");
    read::check_all(&mapped.path(), &stack.disk);
    drop((mapped, disks, targets));
}

fn more_than_255_layers() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(55, 64 << 10, &[Form::Lz4]);
    let disks = Disk::all(&scratch, &stack.files);
    let bytes = stack.disk.len() as u64;
    let mut parts = vec![disks[0].part(); 255];
    let mapped = Mapped::new("dm", &mapper::lsmt(bytes, &parts));
    read::check_all(&mapped.path(), &stack.disk);
    let number = mapper::number(&disks[0].path());
    let words = format!(" {number} {}", parts[0].bytes).repeat(255);
    assert_eq!(
        mapped.dmsetup("table", &[]),
        format!("0 {} lsmt_target{words}", bytes / 512)
    );
    parts.push(parts[0].clone());
    Mapped::refuse("more", &mapper::lsmt(bytes, &parts)).check(
        "Invalid argument",
        "",
        "too many devices",
    );
    drop((mapped, disks, targets));
}
