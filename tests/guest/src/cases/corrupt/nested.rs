// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers that lie on disks of the driver: what is wrong below comes up as an error and never as
//! other bytes, and no device ends up under itself.

use crate::case::Case;
use crate::cases::support::damage::Image;
use crate::cases::support::device::Module;
use crate::cases::support::dir::Dir;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::{content, read};
use rustix::io::Errno;
use vbd_tests_host::images::{disk, good};
use vbd_tests_host::lsmt::{Record, Spec};

pub(in super::super) const CASES: &[Case] =
    crate::cases::cases![three_deep, damaged_below, no_cycles];

/// A layer whose disk holds `file`, as an image in blocks.
fn around(file: &[u8]) -> Image {
    let mut disk = file.to_vec();
    disk.resize(disk.len().next_multiple_of(4096), 0);
    Image::new(disk, 1)
}

/// A layer on a disk of a layer on a disk; plain ones, since a disk is longer than a compressed file.
fn three_deep() {
    let module = Module::load("");
    let scratch = Scratch::in_memory();
    let content = content::disk(500, 64 << 10);
    let mut bytes = content.clone();
    for _ in 0..2 {
        let sectors = bytes.len() as u64 / 512;
        let records = [Record::data(0, sectors, 8)];
        let mut spec = Spec::new(bytes.len() as u64, bytes.clone(), &records);
        // A disk is whole sectors, and so its layer has to be.
        spec.junk_after_index = vec![0; 512 - 16];
        bytes = spec.build();
    }
    let file = scratch.file("outermost", &bytes);
    let outer = Dir::attach("outer", &[&file]);
    let inner = Dir::attach("inner", &[outer.disk()]);
    read::check_all(&inner.disk(), &content);
    assert_eq!(outer.set("power", "0"), Err(Errno::BUSY), "it is in use");
    inner.detach();
    outer.detach();
    module.unload();
}

/// A bad block of the outer disk: attaching an inner one fails if its metadata lie there, and reads
/// fail if its data do.
fn damaged_below() {
    let module = Module::load("");
    let plain = &good()[0];
    let image = around(&plain.file);
    let last = plain.file.len() / 4096;
    for block in 0..=last {
        let mut bytes = image.build();
        bytes[image.stored_at(block)] ^= 1;
        let outer = Dir::attach("outer", &[image.file(&bytes)]);
        let below = outer.disk();
        // The layer ends with its file and not with the disk that it lies on.
        let cut = Dir::new("inner");
        cut.layer(0, below.as_ref())
            .expect("a disk is a layer's file");
        let attached = cut.set("power", "1");
        let good = disk();
        match attached {
            Ok(()) => {
                let file = read::direct(&cut.disk());
                let mut bad = 0;
                for (number, want) in good.chunks(512).enumerate() {
                    match read::pread(&file, number as u64 * 512, 512) {
                        Ok(got) => read::same(&got, want, number as u64 * 512),
                        Err(error) => {
                            assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
                            bad += 1;
                        }
                    }
                }
                assert!(bad > 0, "block {block} is bad, and nothing fails");
                drop(file);
            }
            // Padded to whole blocks it has no trailer at its end; or that cannot be read at all.
            Err(errno) => assert!(
                [Errno::IO, Errno::UCLEAN].contains(&errno),
                "block {block}: {errno:?}: {}",
                cut.get("error")
            ),
        }
        cut.detach();
        outer.detach();
    }
    module.unload();
}

/// A device that is on takes no other layers, and one that is off has no disk to be a layer.
fn no_cycles() {
    let module = Module::load("");
    let scratch = Scratch::in_memory();
    let file = scratch.file("layer", &good()[0].file);
    let below = Dir::attach("below", &[&file]);
    let disk = below.disk();
    assert_eq!(below.set("0/path", &disk), Err(Errno::BUSY));
    let above = Dir::new("above");
    above
        .layer(0, disk.as_ref())
        .expect("a disk is a layer's file");
    // Whoever names a disk holds it open: it cannot go, so it cannot come back as one on itself.
    assert_eq!(below.set("power", "0"), Err(Errno::BUSY));
    above.clear().expect("nothing is attached");
    below.set("power", "0").expect("nobody holds the disk");
    assert_eq!(below.set("0/path", &disk), Err(Errno::NOENT));
    below.clear().expect("the directories go");
    module.unload();
}
