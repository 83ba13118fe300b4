// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Small files that would take a great deal of memory, if their claims were believed.

use crate::case::Case;
use crate::cases::support::device::Module;
use crate::cases::support::dir::Dir;
use crate::cases::support::memory::Meminfo;
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use rustix::io::Errno;
use vbd_tests_host::lsmt::{Record, Spec, PADDING};
use vbd_tests_host::zfile;

pub(in super::super) const CASES: &[Case] =
    crate::cases::cases![a_million_of_padding, a_million_records];

/// Some billion instructions of a machine that is emulated, for a look at one limit.
pub(in super::super) const LONG: &[Case] = crate::cases::cases![seventeen_million];

const MILLION: usize = 1_000_000;

/// Memory in use, in KiB, whoever uses it but for files.
fn used() -> i64 {
    Meminfo::read().in_use()
}

/// A compressed layer of these records over one sector of data.
fn packed(records: Vec<[u8; 16]>) -> Vec<u8> {
    let mut spec = Spec::new(MILLION as u64 * 1024, vec![7; 512], &[]);
    spec.records = records;
    zfile::Spec::of(&spec.build(), 2, 65_536).build()
}

fn every_other_sector(count: usize) -> Vec<[u8; 16]> {
    let record = |i: u64| Record::data(2 * i, 1, 8).bytes();
    (0..count as u64).map(record).collect()
}

/// Padding costs the time to read it and nothing that stays.
fn a_million_of_padding() {
    let module = Module::load("cache_mb=0");
    let scratch = Scratch::in_memory();
    let bytes = packed(vec![PADDING; MILLION]);
    assert!(bytes.len() < 100_000, "{} bytes", bytes.len());
    let file = scratch.file("padding", &bytes);
    let before = used();
    let dir = Dir::attach("bomb", &[&file]);
    let taken = used() - before;
    // The time of the attach is the machine's as well.
    assert!(taken < 12 << 10, "{taken} KiB for no record");
    let disk = read::direct(&dir.disk());
    assert_eq!(read::pread(&disk, 0, 4096).expect("zeroes"), [0; 4096]);
    drop(disk);
    dir.detach();
    module.unload();
}

/// A million of records are 16 MB, once.
fn a_million_records() {
    let module = Module::load("cache_mb=0");
    let scratch = Scratch::in_memory();
    let file = scratch.file("records", &packed(every_other_sector(MILLION)));
    let before = used();
    let dir = Dir::attach("bomb", &[&file]);
    let taken = used() - before;
    assert!(taken < 40 << 10, "{taken} KiB for a million records");
    let disk = read::direct(&dir.disk());
    let last = read::pread(&disk, (2 * MILLION as u64 - 8) * 512, 4096).expect("the end");
    let want = [[7; 512], [0; 512]].concat().repeat(4);
    assert_eq!(last, want);
    drop(disk);
    dir.detach();
    module.unload();
    // One more is over the limit, however small the file.
    let module = Module::load("");
    let file = scratch.file("records", &packed(vec![PADDING; MILLION + 1]));
    let dir = Dir::new("bomb");
    dir.layer(0, &file).expect("a layer");
    assert_eq!(dir.set("power", "1"), Err(Errno::FBIG));
    let said = dir.get("error");
    assert!(said.ends_with("beyond the limit (found 1000001)"), "{said}");
    dir.clear().expect("the directories go");
    module.unload();
}

/// One small file as many layers: all together they may not have more records than a stack may.
fn seventeen_million() {
    let module = Module::load("cache_mb=0");
    let scratch = Scratch::in_memory();
    let file = scratch.file("records", &packed(every_other_sector(MILLION)));
    let dir = Dir::new("bomb");
    for number in 0..17 {
        dir.layer(number, &file).expect("a layer");
    }
    let before = used();
    assert_eq!(dir.set("power", "1"), Err(Errno::FBIG));
    let said = dir.get("error");
    assert!(
        said.contains("stack offset 0: merged index is beyond the limit"),
        "{said}"
    );
    let left = used() - before;
    assert!(left < 20 << 10, "{left} KiB after a refusal");
    dir.clear().expect("the directories go");
    module.unload();
}
