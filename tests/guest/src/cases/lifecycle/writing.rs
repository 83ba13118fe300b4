// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The device is read-only, and stays so.

use super::super::support::device::{self, Module, DEVICE};
use super::super::support::scratch::Scratch;
use super::super::support::{read, tool};
use super::some_layer;
use crate::case::Case;
use rustix::fs::{fallocate, FallocateFlags, OFlags};
use rustix::io::Errno;
use rustix::mount::{mount, MountFlags};
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    writers_are_refused,
    no_swap,
    cannot_be_made_writable,
    discards_are_refused,
    no_writable_mount,
];

/// Runs `work` on a device, which must be none the worse for it.
fn unharmed(seed: u64, work: impl FnOnce(&[u8])) {
    let scratch = Scratch::new();
    let (layer, disk) = some_layer(&scratch, seed);
    let before = std::fs::read(&layer).expect("the layer");
    let module = Module::stack(std::slice::from_ref(&layer), "");
    work(&disk);
    assert_eq!(device::attribute("ro"), "1");
    read::drop_caches();
    read::check_all(DEVICE, &disk);
    assert_eq!(module.faults(), device::Faults::default());
    module.unload();
    let after = std::fs::read(&layer).expect("the layer");
    assert!(before == after, "the layer's file has changed");
}

/// Who wants to write is told so when he opens the disk, as with a disk that is write-protected.
fn writers_are_refused() {
    unharmed(80, |disk| {
        for flags in [OFlags::empty(), OFlags::DIRECT, OFlags::SYNC, OFlags::EXCL] {
            for reads in [true, false] {
                let mut options = OpenOptions::new();
                options.read(reads).write(true);
                options.custom_flags(i32::try_from(flags.bits()).unwrap());
                let error = options.open(DEVICE).expect_err("a writer");
                let errno = error.raw_os_error();
                assert_eq!(errno, Some(Errno::ROFS.raw_os_error()), "{flags:?}");
            }
        }
        let file = read::buffered(DEVICE);
        let error = file.write_at(&[0; 512], 4096).expect_err("a write");
        assert_eq!(error.raw_os_error(), Some(Errno::BADF.raw_os_error()));
        file.sync_all().expect("nothing to write");
        read::check(&file, disk, 4096, 4096);
    });
}

/// Swap that cannot be written would be found out by the process that is swapped out.
fn no_swap() {
    let scratch = Scratch::new();
    let raw = scratch.file("raw", &vec![0; 1 << 20]);
    tool::run("mkswap", &[&raw]);
    let layer = super::super::support::layers::from_file(&scratch, "swap", &raw, &[]);
    let module = Module::stack(&[layer], "");
    let refused = tool::output("swapon", &[DEVICE]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("Read-only file system"), "{said}");
    let swaps = std::fs::read_to_string("/proc/swaps").expect("the swaps");
    assert_eq!(swaps.lines().count(), 1, "{swaps}");
    module.unload();
}

fn cannot_be_made_writable() {
    unharmed(81, |_| {
        let output = tool::output("blockdev", &["--setrw", DEVICE]);
        assert!(!output.status.success(), "blockdev --setrw succeeded");
        assert_eq!(tool::run("blockdev", &["--getro", DEVICE]), "1");
        // Setting what is set already is no error.
        tool::run("blockdev", &["--setro", DEVICE]);
        let output = tool::output("blockdev", &["--setrw", DEVICE]);
        assert!(!output.status.success(), "blockdev --setrw after --setro");
    });
}

fn discards_are_refused() {
    unharmed(82, |_| {
        let how: [&[&str]; 2] = [&[DEVICE], &["-o", "4096", "-l", "4096", DEVICE]];
        for arguments in how {
            let output = tool::output("blkdiscard", arguments);
            assert!(!output.status.success(), "blkdiscard {arguments:?}");
        }
        let file = read::buffered(DEVICE);
        for flags in [
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::ZERO_RANGE,
        ] {
            let refused = fallocate(&file, flags, 4096, 4096);
            assert!(refused.is_err(), "fallocate {flags:?}");
        }
    });
}

fn no_writable_mount() {
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    std::fs::create_dir(&tree).expect("the tree");
    let layer = super::super::support::layers::from_file(&scratch, "fs", &tree, &["--fs=ext4"]);
    let module = Module::stack(&[layer], "");
    let place = scratch.join("place");
    std::fs::create_dir(&place).expect("the mount point");
    let refused = mount(DEVICE, &place, "ext4", MountFlags::empty(), None);
    assert_eq!(refused, Err(Errno::ROFS));
    // Who does not say how gets what there is.
    tool::run("mount", &[Path::new(DEVICE), &place]);
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("the mounts");
    let line = mounts.lines().find(|line| line.starts_with(DEVICE));
    let options = line
        .and_then(|line| line.split(' ').nth(3))
        .unwrap_or_default();
    assert!(options.starts_with("ro,"), "{mounts}");
    tool::run("umount", &[&place]);
    module.unload();
}
