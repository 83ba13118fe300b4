// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Requests below the device that the kernel is told to fail: so many, in one place, now and then.

use crate::case::Case;
use crate::cases::support::damage::{check_blocks, BLOCK};
use crate::cases::support::device::{Module, DEVICE};
use crate::cases::support::injection::{Failing, Times};
use crate::cases::support::scratch::Scratch;
use crate::cases::support::storage::{whole, Volume};
use crate::cases::support::tool::Loop;
use crate::cases::support::{content, layers, read};
use rustix::io::Errno;
use std::fs::{self, File};

pub(in crate::cases) const CASES: &[Case] =
    crate::cases::cases![so_many_requests, every_status, now_and_then, dust,];

const BYTES: usize = 512 << 10;

/// The forms of a layer: read as they are, and block by block.
const FORMS: [&[&str]; 2] = [&["--format=plain"], &["--format=lz4"]];

/// Reads all blocks; how many failed, with `EIO`.
fn failures(file: &File, disk: &[u8]) -> usize {
    let mut failed = 0;
    for block in 0..disk.len() / BLOCK {
        let offset = (block * BLOCK) as u64;
        match read::pread(file, offset, BLOCK) {
            Ok(got) => read::same(&got, read::expected(disk, offset, BLOCK), offset),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
                failed += 1;
            }
        }
    }
    failed
}

fn name(device: &Loop) -> String {
    let path = device.path();
    let name = path.file_name().and_then(|name| name.to_str());
    name.expect("a device's name").to_string()
}

/// One request that fails is nothing that a reader sees. Of more, some are asked for again in vain.
fn so_many_requests() {
    let scratch = Scratch::new();
    for (number, form) in FORMS.iter().enumerate() {
        let disk = content::disk(330, BYTES);
        let below = Loop::new(&layers::create(&scratch, &format!("{number}"), &disk, form));
        // What is read ahead would take the failures of the page that is asked for.
        read::read_ahead(&name(&below), 0);
        let module = Module::stack(&[below.path()], "");
        let file = read::direct(DEVICE);
        let mut recovered = 0;
        for times in 1..=6 {
            read::drop_caches();
            let before = module.faults();
            let failing = Failing::requests(&name(&below), Times::Exactly(times));
            let failed = failures(&file, &disk);
            assert_eq!(failing.left(), 0, "no request came");
            drop(failing);
            let after = module.faults();
            assert_eq!(after.errors - before.errors, failed as u64);
            if times == 1 {
                assert_eq!(failed, 0, "{form:?}");
            }
            if failed == 0 {
                recovered += after.rereads - before.rereads;
            }
            assert_eq!((after.crc, after.decode), (0, 0));
            assert_eq!(failures(&file, &disk), 0);
        }
        assert!(recovered > 0, "the page cache is all that has asked again");
        drop(file);
        module.unload();
    }
}

/// Sets or removes what fails on a disk.
fn inject(disk: &str, words: &str) {
    let path = format!("/sys/kernel/debug/block/{disk}/error_injection");
    fs::write(&path, words).unwrap_or_else(|error| panic!("{path}: {words}: {error}"));
}

/// Whatever storage says is wrong, to a reader it is `EIO`, of the range alone and as long as it lasts.
fn every_status() {
    let scratch = Scratch::new();
    // Noise is stored as it is, a block of the file behind the disk's for the layer's header.
    let disk = vbd_tests_host::rng::Rng(331).noise(BYTES);
    let below = Loop::new(&layers::create(&scratch, "layer", &disk, FORMS[0]));
    read::read_ahead(&name(&below), 0);
    let module = Module::stack(&[below.path()], "");
    let bad = 39;
    for status in [
        "IOERR",
        "MEDIUM",
        "TIMEOUT",
        "NOTSUPP",
        "NOSPC",
        "TRANSPORT",
        "TARGET",
        "PROTECTION",
        "RESOURCE",
        "AGAIN",
        "OFFLINE",
        "INVAL",
    ] {
        let start = (bad + 1) * 8;
        let words = format!("add,op=READ,start={start},nr_sectors=8,status={status}");
        inject(&name(&below), &words);
        check_blocks(&disk, |block| block == bad);
        inject(&name(&below), "removeall");
        check_blocks(&disk, |_| false);
    }
    module.unload();
}

/// A third of all requests fail.
fn now_and_then() {
    let scratch = Scratch::new();
    for (number, form) in FORMS.iter().enumerate() {
        let disk = content::disk(332, BYTES);
        let below = Loop::new(&layers::create(&scratch, &format!("{number}"), &disk, form));
        let module = Module::stack(&[below.path()], "");
        let file = read::direct(DEVICE);
        inject(&name(&below), "add,op=READ,status=IOERR,chance=3");
        let mut failed = 0;
        for _ in 0..5 {
            read::drop_caches();
            failed += failures(&file, &disk);
        }
        inject(&name(&below), "removeall");
        let faults = module.faults();
        assert_eq!(faults.errors, failed as u64);
        assert!(faults.rereads > faults.errors, "{faults:?}");
        assert_eq!(failures(&file, &disk), 0);
        drop(file);
        module.unload();
    }
}

/// Blocks that go bad and well again under a live device.
fn dust() {
    assert!(crate::modules::probe(&["dm-dust"]), "modprobe dm-dust");
    let scratch = Scratch::new();
    let disk = vbd_tests_host::rng::Rng(333).noise(BYTES);
    let below = Loop::new(&layers::create(&scratch, "layer", &disk, FORMS[0]));
    let dusty = Volume::new("case-dust", &whole(&below.path(), "dust", "4096"));
    read::read_ahead(&dusty.disk(), 0);
    let module = Module::stack(&[dusty.path()], "");
    let bad = [3, 50, 51, 100];
    for block in bad {
        dusty.message(&["addbadblock", &(block + 1).to_string()]);
    }
    check_blocks(&disk, |_| false);
    dusty.message(&["enable"]);
    check_blocks(&disk, |block| bad.contains(&block));
    dusty.message(&["removebadblock", "51"]);
    check_blocks(&disk, |block| bad.contains(&block) && block != 50);
    dusty.message(&["disable"]);
    check_blocks(&disk, |_| false);
    let faults = module.faults();
    assert_eq!((faults.crc, faults.decode), (0, 0));
    module.unload();
}
