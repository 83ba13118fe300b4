// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Devices that read past the page cache of their backing files.

use crate::case::Case;
use crate::cases::support::device::Module;
use crate::cases::support::dir::{stack, Dir};
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool::run;
use crate::cases::support::{content, layers, read};
use rustix::fs::{major, minor, stat};
use rustix::io::Errno;
use std::fs;
use std::path::Path;

pub(crate) const CASES: &[Case] = crate::cases::cases![
    past_the_page_cache,
    places_that_do_not_fit,
    file_systems_without_it,
    the_tool_s_option,
];

const BYTES: usize = 2 << 20;

/// A device of these layers that is told whether to read directly.
fn attach<P: AsRef<Path>>(layers: &[P], direct: &str) -> Result<Dir, (Errno, String)> {
    let dir = Dir::new("a");
    for (number, layer) in layers.iter().enumerate() {
        dir.layer(number, layer.as_ref()).expect("a layer");
    }
    dir.set("direct", direct).expect("direct");
    match dir.set("power", "1") {
        Ok(()) => Ok(dir),
        Err(errno) => {
            let said = dir.get("error");
            dir.clear().expect("the directories go");
            Err((errno, said))
        }
    }
}

/// Bytes that were read from the disk below `path` so far.
fn bytes_read(path: &Path) -> u64 {
    let device = stat(path).expect("a file").st_dev;
    let place = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
    let text = fs::read_to_string(&place).unwrap_or_else(|error| panic!("{place}: {error}"));
    let sectors: Option<u64> = text.split_whitespace().nth(2).and_then(|w| w.parse().ok());
    sectors.expect("a number of sectors") * 512
}

/// Bytes that the storage is asked for while all of a disk is read that was read just before.
fn read_again(dir: &Dir, disk: &[u8], file: &Path) -> u64 {
    let device = read::direct(&dir.disk());
    read::check(&device, disk, 0, disk.len());
    let before = bytes_read(file);
    read::check(&device, disk, 0, disk.len());
    bytes_read(file) - before
}

fn past_the_page_cache() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let disk = content::disk(31, BYTES);
    let plain = layers::create(&scratch, "plain", &disk, &["--format=plain"]);
    let lz4 = layers::create(&scratch, "lz4", &disk, &["--format=lz4"]);
    // Zeroes are not stored.
    let stored = fs::metadata(&plain).expect("a layer").len() / 2;
    for (layer, direct, reads) in [
        (&plain, "1", true),
        (&plain, "0", false),
        (&lz4, "1", false),
    ] {
        read::drop_caches();
        let dir = attach(&[layer], direct).expect("an attach");
        assert_eq!(dir.get("direct"), direct);
        let again = read_again(&dir, &disk, layer);
        if reads {
            assert!(again >= stored, "{again} bytes were read again");
        } else {
            assert_eq!(again, 0, "{}: bytes read again", layer.display());
        }
        dir.detach();
    }
    module.unload();
}

/// Data that begin in the middle of the storage's blocks, and memory that does.
fn places_that_do_not_fit() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, stacked) = stack(&scratch, BYTES);
    let raw = scratch.file("raw", &disk);
    let tar = layers::from_file(&scratch, "tar", &raw, &["--format=plain", "--tar"]);
    for layers in [&stacked[..], &[tar]] {
        let dir = attach(layers, "1").expect("an attach");
        let device = read::direct(&dir.disk());
        for (offset, length, after) in [
            (0, 512, 0),
            (512, 1024, 512),
            (3584, 8704, 1024),
            (65536 - 512, 131072 + 512, 512),
            (BYTES as u64 - 512, 512, 3584),
        ] {
            let got = read::pread_into(&device, offset, length, after).expect("a read");
            read::same(&got, read::expected(&disk, offset, length), offset);
        }
        read::check_all(&dir.disk(), &disk);
        for counter in ["errors 0", "rereads 0"] {
            assert!(dir.get("stat").contains(counter), "{}", dir.get("stat"));
        }
        drop(device);
        dir.detach();
    }
    module.unload();
}

fn file_systems_without_it() {
    let module = Module::load("");
    let scratch = Scratch::in_memory();
    let disk = content::disk(32, BYTES);
    let plain = layers::create(&scratch, "plain", &disk, &["--format=plain"]);
    let lz4 = layers::create(&scratch, "lz4", &disk, &["--format=lz4"]);
    let said = format!(
        "layer 0 ({}): its file system has no direct reads, or tells no alignment",
        plain.display()
    );
    let failed = attach(&[&plain], "1").map(|_| ());
    assert_eq!(failed, Err((Errno::OPNOTSUPP, said)));
    // What is compressed goes through the page cache anyway.
    let dir = attach(&[&lz4], "1").expect("an attach");
    read::check_all(&dir.disk(), &disk);
    dir.detach();
    module.unload();
}

fn the_tool_s_option() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let disk = content::disk(33, BYTES);
    let plain = layers::create(&scratch, "plain", &disk, &["--format=plain"]);
    let layer = plain.display().to_string();
    let node = run("vbdctl", &["attach", "--name", "web", "--direct", &layer]);
    assert_eq!(Dir::named("web").get("direct"), "1");
    read::check_all(&node, &disk);
    assert!(run("vbdctl", &["status", "web"]).contains("verified, direct"));
    run("vbdctl", &["detach", "web"]);
    module.unload();
}
