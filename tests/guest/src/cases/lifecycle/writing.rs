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
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    writes_are_refused,
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

/// Linux opens a read-only disk for writing, and then refuses each write.
fn writes_are_refused() {
    unharmed(80, |disk| {
        for flags in [OFlags::empty(), OFlags::DIRECT, OFlags::SYNC] {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            options.custom_flags(i32::try_from(flags.bits()).unwrap());
            let mut file = match options.open(DEVICE) {
                Ok(file) => file,
                // Should a kernel refuse earlier, this is how.
                Err(error) => {
                    let errno = error.raw_os_error();
                    let known = [Errno::ACCESS, Errno::PERM, Errno::ROFS];
                    assert!(
                        known.iter().any(|e| errno == Some(e.raw_os_error())),
                        "{error}"
                    );
                    continue;
                }
            };
            let memory = read::Memory::new(4096, 0);
            let error = file.write_at(memory.bytes(), 4096).expect_err("a write");
            assert_eq!(
                error.raw_os_error(),
                Some(Errno::PERM.raw_os_error()),
                "{error}"
            );
            file.flush()
                .and_then(|()| file.sync_all())
                .expect("nothing to write");
            read::check(&file, disk, 4096, 4096);
        }
    });
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
        let file = OpenOptions::new().write(true).open(DEVICE);
        let Ok(file) = file else { return };
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
    assert_eq!(refused, Err(Errno::ACCESS));
    module.unload();
}
