// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A module that is being loaded shows itself bit by bit, and one that cannot be loaded is freed
//! whoever is at it: so nobody may be.

use super::super::support::device::{backfile, Module, DEVICE};
use super::super::support::dir::{Dir, ROOT};
use super::super::support::kmsg::Log;
use super::super::support::read;
use super::super::support::scratch::Scratch;
use super::super::support::storage::Volume;
use super::super::support::tool::Loop;
use super::some_layer;
use crate::case::Case;
use crate::modules;
use rustix::io::Errno;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::rng::Rng;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    directory_of_another_module,
    target_of_another_module,
    waits_until_it_is_loaded,
];

/// A copy of a module under another name of the same length.
fn renamed(name: &str, new: &str) -> Vec<u8> {
    let mut bytes = fs::read(format!("/{name}.ko")).expect("the module");
    for (section, old, new) in [
        (
            ".modinfo",
            format!("\0name={name}\0"),
            format!("\0name={new}\0"),
        ),
        (
            ".gnu.linkonce.this_module",
            format!("{name}\0"),
            format!("{new}\0"),
        ),
    ] {
        let range = section_of(&bytes, section);
        let changed = replace(&mut bytes[range], old.as_bytes(), new.as_bytes());
        assert_eq!(changed, 1, "{section} of {name}");
    }
    bytes
}

/// Writes `new` over each `old`, which is as long; returns how many there were.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) -> usize {
    let mut count = 0;
    for at in 0..=bytes.len() - old.len() {
        if bytes[at..].starts_with(old) {
            bytes[at..at + old.len()].copy_from_slice(new);
            count += 1;
        }
    }
    count
}

/// Where a section's content lies in a 64-bit object file of this machine's byte order.
fn section_of(file: &[u8], name: &str) -> Range<usize> {
    let number = |at: usize, bytes: usize| {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(&file[at..at + bytes]);
        usize::try_from(u64::from_le_bytes(number)).expect("a place")
    };
    let (table, size, count) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2));
    let content = |section: usize| {
        let header = table + section * size;
        number(header + 24, 8)..number(header + 24, 8) + number(header + 32, 8)
    };
    let names = content(number(0x3e, 2));
    let wanted = format!("{name}\0");
    let found = (0..count).find(|section| {
        let at = names.start + number(table + section * size, 4);
        file[at..names.end].starts_with(wanted.as_bytes())
    });
    content(found.unwrap_or_else(|| panic!("no section {name}")))
}

/// A module of another name, for the time of this value.
struct Other(&'static str);

impl Other {
    fn load(scratch: &Scratch, name: &'static str, bytes: &[u8]) -> Other {
        let path = scratch.file(&format!("{name}.ko"), bytes);
        modules::load(&path.display().to_string(), "").expect(name);
        Other(name)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let gone = modules::unload(self.0);
        assert!(gone.is_ok() || thread::panicking(), "rmmod {}", self.0);
    }
}

/// There are layers, and a disk could be made of them, but the directory cannot be made.
fn directory_of_another_module() {
    let scratch = Scratch::new();
    let (layer, disk) = some_layer(&scratch, 58);
    let other = Other::load(&scratch, "vbt", &renamed("vbd", "vbt"));
    let parameters = backfile(std::slice::from_ref(&layer));
    for _ in 0..3 {
        let log = Log::mark();
        let refused = Module::try_load(&parameters).err().expect("a refusal");
        // What `EEXIST` of a module's init becomes.
        assert_eq!(refused, Errno::BUSY);
        let said = log.vbd_errors();
        assert_eq!(said, ["configfs has no place for vbd (EEXIST)"]);
        assert!(!Path::new(DEVICE).exists(), "{DEVICE}");
        assert!(!modules::is_loaded("vbd"));
    }
    // Whose directory it is has it still.
    let place = Path::new(ROOT).join("a");
    fs::create_dir(&place).expect("mkdir");
    fs::remove_dir(&place).expect("rmdir");
    drop(other);
    let module = Module::stack(&[layer], "");
    read::check_all(DEVICE, &disk);
    module.unload();
}

/// Of two targets the second one cannot be had, when the first has been shown already.
fn target_of_another_module() {
    let scratch = Scratch::new();
    assert!(modules::probe(&["dm-mod"]), "modprobe dm-mod");
    let mut bytes = renamed("vbd_dm", "vbt_dm");
    let changed = replace(&mut bytes, b"zfile_target", b"zfile_tarpit");
    assert!(changed > 0, "the target has another name");
    let other = Other::load(&scratch, "vbt_dm", &bytes);
    for _ in 0..3 {
        assert_eq!(modules::load("/vbd_dm.ko", ""), Err(Errno::BUSY));
    }
    drop(other);
    modules::load("/vbd_dm.ko", "").expect("vbd_dm");
    modules::unload("vbd_dm").expect("rmmod vbd_dm");
}

/// `mkdir` does not fail because it comes early, and does not get in either: the disk may still fail.
fn waits_until_it_is_loaded() {
    const SECTORS: u64 = 512;

    let scratch = Scratch::new();
    let disk = Rng(59).noise(512 * 512);
    // As many records as a sector holds, so that the file has whole sectors.
    let records: Vec<Record> = (0..32)
        .map(|record| Record::data(record * 16, 16, 8 + record * 16))
        .collect();
    let file = Spec::new(SECTORS * 512, disk.clone(), &records).build();
    let below = Loop::new(&scratch.file("layer", &file));
    let below = below.path().display().to_string();
    // The layer's data can be held up by themselves: metadata lie before and behind.
    let data = Volume::new("case-data", &format!("0 {SECTORS} linear {below} 8"));
    let (end, rest) = (8 + SECTORS, file.len() as u64 / 512 - 8 - SECTORS);
    let table = format!(
        "0 8 linear {below} 0\n8 {SECTORS} linear {} 0\n{end} {rest} linear {below} {end}",
        data.path()
    );
    let layer = Volume::new("case-layer", &table);
    read::read_ahead(&layer.disk(), 0);
    let parameters = backfile(&[PathBuf::from(layer.path())]);

    data.suspend();
    let module = thread::scope(|scope| {
        let loading = scope.spawn(|| Module::load(&parameters));
        // The disk is there, and its partitions are being looked for.
        await_that(|| Path::new(DEVICE).exists() || loading.is_finished());
        let making = scope.spawn(|| Dir::new("early"));
        thread::sleep(Duration::from_millis(100));
        assert!(
            !making.is_finished(),
            "mkdir in a module that is being loaded"
        );
        assert!(!loading.is_finished());
        assert!(!Path::new(ROOT).join("early").exists());
        data.resume();
        let module = loading.join().expect("insmod");
        let early = making.join().expect("mkdir");
        assert_eq!(early.get("state"), "off");
        early.remove().expect("rmdir");
        module
    });
    read::check_all(DEVICE, &disk);
    module.unload();
    drop((layer, data));
}

fn await_that(mut done: impl FnMut() -> bool) {
    while !done() {
        thread::sleep(Duration::from_millis(1));
    }
}
