// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the targets say of themselves, and what they do not let be done.

use super::mapper::{self, Disk, Mapped, Targets};
use super::model::{self, Form, MIXED};
use crate::case::Case;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::{digest, read, tool};
use rustix::fs::{fallocate, FallocateFlags};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use vbd_tests_host::lsmt::{self, Record};

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "status_and_table",
        run: status_and_table,
    },
    Case {
        name: "table_makes_the_same_device",
        run: table_makes_the_same_device,
    },
    Case {
        name: "counters",
        run: counters,
    },
    Case {
        name: "messages_refused",
        run: messages_refused,
    },
    Case {
        name: "limits_of_the_device",
        run: limits_of_the_device,
    },
    Case {
        name: "writes_refused",
        run: writes_refused,
    },
];

const BYTES: usize = 1 << 20;

fn status_and_table() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    // Two segments below; the upper layer cuts one of them in two with one of zeroes.
    let data = vec![7; 16 * 512];
    let records = [Record::data(0, 8, 8), Record::data(100, 8, 16)];
    let bottom = lsmt::Spec::new(1 << 20, data, &records).build();
    let top = lsmt::Spec::new(1 << 21, Vec::new(), &[Record::zero(102, 2, 8)]).build();
    let (lz4, zstd) = (
        model::store(Form::Lz4, &bottom),
        model::store(Form::Zstd, &top),
    );
    let disks = Disk::all(&scratch, &[lz4, zstd]);
    let numbers: Vec<String> = disks
        .iter()
        .map(|disk| mapper::number(&disk.path()))
        .collect();
    let parts = mapper::parts(&disks);

    // A layer's own bytes have no segments.
    let zfile = Mapped::new("zfile", &mapper::line(0, 4096, "zfile_target", &parts[..1]));
    assert_eq!(
        zfile.dmsetup("status", &[]),
        format!(
            "0 8 zfile_target layers 1 bytes {} segments 0",
            bottom.len()
        )
    );
    assert_eq!(
        zfile.dmsetup("table", &[]),
        format!("0 8 zfile_target {} {}", numbers[0], parts[0].bytes)
    );
    // The top layer says how large the disk is, whatever the table takes of it.
    let lsmt = Mapped::new("lsmt", &mapper::lsmt(1 << 20, &parts));
    assert_eq!(
        lsmt.dmsetup("status", &[]),
        "0 2048 lsmt_target layers 2 bytes 2097152 segments 4"
    );
    assert_eq!(
        lsmt.dmsetup("table", &[]),
        format!(
            "0 2048 lsmt_target {} {} {} {}",
            numbers[0], parts[0].bytes, numbers[1], parts[1].bytes
        )
    );
    let versions = tool::run("dmsetup", &["targets"]);
    for name in ["zfile_target", "lsmt_target"] {
        let line = versions.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {versions}"));
        assert!(line.ends_with(" v1.0.0"), "{line}");
    }
    Mapped::remove_all(vec![zfile, lsmt]);
    drop((disks, targets));
}

fn table_makes_the_same_device() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(61, BYTES, &MIXED);
    let disks = Disk::all(&scratch, &stack.files);
    let one = Mapped::new("one", &mapper::lsmt(BYTES as u64, &mapper::parts(&disks)));
    let table = one.dmsetup("table", &[]);
    let other = Mapped::new("other", &table);
    assert_eq!(other.dmsetup("table", &[]), table);
    read::check_all(&other.path(), &stack.disk);
    // The concise form of dmsetup itself as well.
    let concise = one.dmsetup("table", &["--concise"]);
    drop((one, other));
    tool::run("dmsetup", &["create", "--concise", &concise]);
    read::check_all("/dev/mapper/one", &stack.disk);
    tool::run("dmsetup", &["remove", "one"]);
    drop((disks, targets));
}

fn counters() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(62, BYTES, &[Form::Lz4, Form::Zstd]);
    let disks = Disk::all(&scratch, &stack.files);
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &mapper::parts(&disks)));
    let names: Vec<String> = mapped
        .counters()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        names,
        [
            "requests",
            "bytes",
            "inline",
            "queued",
            "errors",
            "backing_reads",
            "blocks_decoded",
            "cache_hits",
            "crc_errors",
            "decode_errors",
            "rereads"
        ]
    );
    let before = (mapped.counter("requests"), mapped.counter("bytes"));
    read::check(&read::direct(&mapped.path()), &stack.disk, 65536, 32768);
    let after = (mapped.counter("requests"), mapped.counter("bytes"));
    assert_eq!(after, (before.0 + 1, before.1 + 32768));
    read::check_all(&mapped.path(), &stack.disk);
    assert!(mapped.counter("blocks_decoded") > 0);
    assert_eq!(
        mapped.counter("inline") + mapped.counter("queued"),
        mapped.counter("requests")
    );
    for name in ["errors", "crc_errors", "decode_errors", "rereads"] {
        assert_eq!(mapped.counter(name), 0, "{name}");
    }
    // Counters belong to a table: another one begins anew.
    mapped.load(&mapper::lsmt(BYTES as u64, &mapper::parts(&disks)));
    mapped.swap();
    assert_eq!(mapped.counter("requests"), 0);
    drop((mapped, disks, targets));
}

fn messages_refused() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(63, BYTES, &[Form::Lz4]);
    let disks = Disk::all(&scratch, &stack.files);
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &mapper::parts(&disks)));
    for words in [
        &["0", "nonsense"][..],
        &["0", "stats", "all"],
        &["0", "STATS"],
    ] {
        let words = [&["message", "dm"], words].concat();
        let output = tool::output("dmsetup", &words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{words:?}");
        assert!(said.contains("Invalid argument"), "{words:?}: {said}");
    }
    read::check_all(&mapped.path(), &stack.disk);
    drop((mapped, disks, targets));
}

fn limits_of_the_device() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(64, BYTES, &[Form::Plain]);
    let disks = Disk::all(&scratch, &stack.files);
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &mapper::parts(&disks)));
    for (option, want) in [
        ("--getss", "512"),
        ("--getpbsz", "4096"),
        ("--getiomin", "4096"),
        ("--getro", "1"),
        ("--getsize64", "1048576"),
        ("--getdiscardzeroes", "0"),
    ] {
        let got = tool::run("blockdev", &[option, &mapped.path()]);
        assert_eq!(got, want, "{option}");
    }
    drop((mapped, disks, targets));
}

/// The error number of an attempt that has to fail.
fn errno<T>(result: io::Result<T>) -> i32 {
    match result {
        Ok(_) => panic!("a write that succeeds"),
        Err(error) => error.raw_os_error().expect("an error number"),
    }
}

fn writes_refused() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(65, BYTES, &[Form::Lz4]);
    let disks = Disk::all(&scratch, &stack.files);
    let mapped = Mapped::new("dm", &mapper::lsmt(BYTES as u64, &mapper::parts(&disks)));
    let before = digest::of_file(disks[0].path());
    let eperm = rustix::io::Errno::PERM.raw_os_error();
    let write = |path: &str| {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        file.write_at(&[0xff; 4096], 8192)?;
        file.sync_all()
    };
    assert_eq!(errno(write(&mapped.path())), eperm);
    // Whoever sets the device writable finds it as read-only as before.
    let _ = tool::output("blockdev", &["--setrw", &mapped.path()]);
    assert_eq!(tool::run("blockdev", &["--getro", &mapped.path()]), "1");
    assert_eq!(errno(write(&mapped.path())), eperm);
    let discard = tool::output("blkdiscard", &[mapped.path()]);
    assert!(!discard.status.success(), "{discard:?}");
    let empty = |path: &str, flags| {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(fallocate(&file, flags, 0, BYTES as u64)?)
    };
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    for flags in [punch, zero] {
        errno(empty(&mapped.path(), flags));
    }

    // A device on top may be writable; its writes come down to the target itself.
    let table = format!("0 {} linear {} 0", BYTES / 512, mapped.path());
    match Mapped::with_mode("top", "rw", &table) {
        Ok(top) => {
            let eio = rustix::io::Errno::IO.raw_os_error();
            assert_eq!(errno(write(&top.path())), eio);
            assert_eq!(errno(empty(&top.path(), zero)), eio);
            let unsupported = rustix::io::Errno::OPNOTSUPP.raw_os_error();
            assert_eq!(errno(empty(&top.path(), punch)), unsupported);
            read::drop_caches();
            read::check_all(&top.path(), &stack.disk);
        }
        Err(refused) => panic!("a linear device on top: {refused:?}"),
    }
    read::drop_caches();
    read::check_all(&mapped.path(), &stack.disk);
    let after = digest::of_file(disks[0].path());
    assert_eq!(before, after, "the layer's device");
    drop((mapped, disks, targets));
}
