// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! How the device comes and goes, what it says of itself, and that it cannot be written.

pub(super) mod backing;
pub(super) mod leaks;
pub(super) mod loading;
pub(super) mod partitions;
pub(super) mod writing;

use super::support::device::{self, Module, DEVICE};
use super::support::dir::Dir;
use super::support::scratch::{Mounted, Scratch};
use super::support::uevents::Uevents;
use super::support::{content, layers, read, tool};
use crate::case::Case;
use crate::modules;
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::rng::Rng;

pub(super) const CASES: &[Case] = super::cases![
    nothing_to_attach,
    twenty_times,
    held_while_open,
    held_while_mounted,
    held_while_counters_are_open,
    events,
    attributes,
    counters,
    many_layers,
    modinfo,
];

/// A disk in one layer, for cases that need any device.
fn some_layer(scratch: &Scratch, seed: u64) -> (PathBuf, Vec<u8>) {
    let disk = content::disk(seed, 256 << 10);
    let layer = layers::create(scratch, "layer", &disk, &["--format=lz4"]);
    (layer, disk)
}

/// Tries to unload the module, which has to be refused because it is in use.
fn refuse_to_unload(module: Module) -> Module {
    match module.try_unload() {
        Ok(()) => panic!("the module was unloaded while its device was in use"),
        Err((module, errno)) => {
            assert_eq!(errno, Errno::WOULDBLOCK);
            assert!(modules::is_loaded("vbd"));
            module
        }
    }
}

fn nothing_to_attach() {
    for parameters in ["", "verify=0", "size=4096"] {
        let module = Module::load(parameters);
        assert!(!Path::new(DEVICE).exists(), "{DEVICE} without layers");
        assert!(!Path::new("/sys/block/vbd0").exists());
        module.unload();
    }
}

fn twenty_times() {
    let scratch = Scratch::new();
    let (layer, disk) = some_layer(&scratch, 50);
    for _ in 0..20 {
        let module = Module::stack(std::slice::from_ref(&layer), "");
        read::check(&read::buffered(DEVICE), &disk, 4096, 8192);
        module.unload();
    }
}

fn held_while_open() {
    let scratch = Scratch::new();
    let (layer, disk) = some_layer(&scratch, 51);
    let module = Module::stack(&[layer], "");
    let first = read::buffered(DEVICE);
    let second = read::direct(DEVICE);
    let module = refuse_to_unload(module);
    read::check(&first, &disk, 0, disk.len());
    drop(first);
    let module = refuse_to_unload(module);
    read::check(&second, &disk, 512, 4096);
    drop(second);
    module.unload();
}

fn held_while_mounted() {
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    fs::create_dir(&tree).expect("the tree");
    let want = Rng(52).noise(100_000);
    fs::write(tree.join("file"), &want).expect("a file of the tree");
    for kind in ["ext4", "erofs"] {
        assert!(kind == "ext4" || modules::probe(&[kind]), "modprobe {kind}");
        let name = format!("{kind}.layer");
        let layer = layers::from_file(&scratch, &name, &tree, &[&format!("--fs={kind}")]);
        let module = Module::stack(&[layer], "");
        let place = scratch.join("place");
        let mounted = Mounted::new(DEVICE, &place, kind, true);
        let module = refuse_to_unload(module);
        let got = fs::read(place.join("file")).expect("the file");
        read::same(&got, &want, 0);
        // A file that is open keeps the mount, and the mount the device.
        let open = File::open(place.join("file")).expect("the file");
        let module = refuse_to_unload(module);
        drop(open);
        drop(mounted);
        module.unload();
    }
}

/// Code of the module closes the counters' file.
fn held_while_counters_are_open() {
    const COUNTERS: &str = "/sys/kernel/debug/vbd/vbd0/stats";

    let scratch = Scratch::new();
    let (layer, _) = some_layer(&scratch, 56);
    let module = Module::stack(std::slice::from_ref(&layer), "");
    let mut file = File::open(COUNTERS).expect(COUNTERS);
    let module = refuse_to_unload(module);
    let mut text = String::new();
    file.read_to_string(&mut text).expect("the counters");
    assert!(
        text.starts_with("requests ") && text.ends_with('\n'),
        "{text}"
    );
    drop(file);
    module.unload();

    // The file of a device that is gone has nothing more to show, and holds the module still.
    let module = Module::load("");
    let device = Dir::attach("a", &[layer]);
    let mut file = File::open(COUNTERS).expect(COUNTERS);
    device.detach();
    let error = file
        .read_to_string(&mut text)
        .expect_err("counters of nothing");
    assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
    let module = refuse_to_unload(module);
    drop(file);
    module.unload();
}

/// What is told of a device: that it is there, and that it is gone.
fn events() {
    let scratch = Scratch::new();
    let (layer, _) = some_layer(&scratch, 57);
    let [add, remove] =
        ["add", "remove"].map(|action| format!("{action} /devices/virtual/block/vbd0 vbd0"));
    let events = Uevents::mark();
    let module = Module::stack(std::slice::from_ref(&layer), "");
    assert_eq!(events.of_block_devices(), [add.as_str()]);
    module.unload();
    assert_eq!(events.of_block_devices(), [remove.as_str()]);
    let module = Module::load("");
    let device = Dir::attach("a", &[layer]);
    assert_eq!(events.of_block_devices(), [add]);
    device.detach();
    assert_eq!(events.of_block_devices(), [remove]);
    module.unload();
}

fn attributes() {
    let scratch = Scratch::new();
    let (layer, disk) = some_layer(&scratch, 53);
    let module = Module::stack(&[layer], "");
    for (name, value) in [
        ("ro", "1"),
        ("removable", "0"),
        ("size", &*(disk.len() / 512).to_string()),
        ("queue/logical_block_size", "512"),
        ("queue/hw_sector_size", "512"),
        ("queue/physical_block_size", "4096"),
        ("queue/minimum_io_size", "4096"),
        ("queue/optimal_io_size", "131072"),
        ("queue/read_ahead_kb", "256"),
        ("queue/rotational", "0"),
        ("queue/discard_max_bytes", "0"),
        ("queue/write_zeroes_max_bytes", "0"),
        ("queue/write_cache", "write through"),
        ("queue/scheduler", "[none]"),
        ("partscan", "1"),
    ] {
        let found = device::attribute(name);
        // The scheduler's line may list others, in brackets what is used.
        let good = found == value || name == "queue/scheduler" && found.starts_with(value);
        assert!(good, "{name} is {found:?}, not {value:?}");
    }
    let largest: u64 = device::attribute("queue/max_hw_sectors_kb")
        .parse()
        .unwrap();
    assert!(largest >= 512, "requests of at most {largest} KiB");
    for (question, answer) in [
        ("--getss", "512"),
        ("--getpbsz", "4096"),
        ("--getro", "1"),
        ("--getalignoff", "0"),
    ] {
        assert_eq!(
            tool::run("blockdev", &[question, DEVICE]),
            answer,
            "{question}"
        );
    }
    assert_eq!(fs::read_dir("/sys/block/vbd0/holders").unwrap().count(), 0);
    module.unload();
    assert!(!Path::new("/sys/block/vbd0").exists());
    assert!(!Path::new("/sys/kernel/debug/vbd").exists());
}

fn counters() {
    let scratch = Scratch::new();
    let (layer, disk) = some_layer(&scratch, 54);
    let module = Module::stack(&[layer], "");
    let count = |name| module.stat(name);
    let before = (count("requests"), count("bytes"), count("blocks_decoded"));
    // The content of this block does not compress to nothing, so it is stored.
    let at = disk
        .chunks(4096)
        .position(|block| block.iter().any(|&b| b != 0))
        .unwrap()
        * 4096;
    read::check(&read::direct(DEVICE), &disk, at as u64, 4096);
    assert_eq!(count("requests"), before.0 + 1);
    assert_eq!(count("bytes"), before.1 + 4096);
    assert!(count("blocks_decoded") > before.2, "nothing was decoded");
    assert_eq!(module.faults(), device::Faults::default());
    module.unload();
}

/// As many layers as a stack can have, by a parameter longer than any other module's.
fn many_layers() {
    let scratch = Scratch::new();
    let long = scratch.join("a-directory-with-a-long-name-".repeat(5));
    fs::create_dir(&long).expect("the directory");
    let mut rng = Rng(55);
    let mut disk = vec![0; 300 * 512];
    let mut layers = Vec::new();
    for number in 0..255 {
        // Each layer overwrites a part of the one below and leaves one sector of it.
        let data = rng.noise(2 * 512);
        let spec = Spec::new(300 * 512, data.clone(), &[Record::data(number, 2, 8)]);
        let at = usize::try_from(number).unwrap() * 512;
        disk[at..at + 1024].copy_from_slice(&data);
        let layer = long.join(format!("layer-{number:03}"));
        fs::write(&layer, spec.build()).expect("a layer");
        layers.push(layer);
    }
    let parameter = device::backfile(&layers);
    assert!(parameter.len() > 32 << 10, "{} bytes", parameter.len());
    let module = Module::stack(&layers, "");
    read::check_all(DEVICE, &disk);
    module.unload();
}

fn modinfo() {
    let info = tool::run("modinfo", &["/vbd.ko"]);
    let has = |key: &str, value: &str| {
        info.lines().any(|line| {
            line.strip_prefix(key)
                .is_some_and(|rest| rest.trim_start_matches(':').trim_start().starts_with(value))
        })
    };
    for (key, value) in [
        ("license", "GPL"),
        ("parm", "backfile:"),
        ("parm", "size:"),
        ("parm", "verify:"),
        ("parm", "partscan:"),
        ("parm", "logical_block_size:"),
        (
            "vermagic",
            &*fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap()
                .trim()
                .to_string(),
        ),
    ] {
        assert!(has(key, value), "modinfo has no {key} {value}:\n{info}");
    }
}
