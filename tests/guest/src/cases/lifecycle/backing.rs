// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What becomes of a device when something happens to its files, and files in unusual places.

use super::super::support::device::{self, Module, DEVICE};
use super::super::support::scratch::{Mounted, Scratch};
use super::super::support::tool::{self, Loop};
use super::super::support::{content, layers, read};
use super::some_layer;
use crate::case::Case;
use std::fs::{self, File};
use std::os::unix::fs::symlink;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    unlinked,
    replaced,
    relative_and_linked_names,
    on_a_block_device,
    on_a_file_system_on_a_loop_device,
    same_file_twice,
    held_file_system,
];

fn unlinked() {
    let scratch = Scratch::new();
    let (layer, disk) = some_layer(&scratch, 60);
    let module = Module::stack(std::slice::from_ref(&layer), "");
    fs::remove_file(&layer).expect("unlink");
    read::drop_caches();
    read::check_all(DEVICE, &disk);
    assert_eq!(module.faults(), device::Faults::default());
    module.unload();
    assert!(!layer.exists());
}

/// Another file under the same name changes nothing: the device holds the one it opened.
fn replaced() {
    let scratch = Scratch::new();
    let (layer, disk) = some_layer(&scratch, 61);
    let module = Module::stack(std::slice::from_ref(&layer), "");
    let other = content::disk(62, disk.len());
    let new = layers::create(&scratch, "new", &other, &[]);
    fs::rename(new, &layer).expect("rename");
    read::drop_caches();
    read::check_all(DEVICE, &disk);
    module.unload();
    let module = Module::stack(&[layer], "");
    read::check_all(DEVICE, &other);
    module.unload();
}

/// Names are those of whoever loads the module: links are followed, and what is no absolute path
/// is looked for in his directory.
fn relative_and_linked_names() {
    let scratch = Scratch::new();
    let (layer, disk) = some_layer(&scratch, 63);
    let link = scratch.join("link");
    symlink(&layer, &link).expect("a link");
    let spaces = scratch.join("dots..=and colons:");
    fs::copy(&layer, &spaces).expect("a copy");
    // A quoted value may hold spaces.
    let quoted = format!("backfile=\"{}\"", spaces.display());
    for parameters in [
        device::backfile(&[link]),
        quoted,
        device::backfile(&[layer.strip_prefix("/").unwrap()]),
    ] {
        let module = Module::load(&parameters);
        read::check_all(DEVICE, &disk);
        module.unload();
    }
}

fn on_a_block_device() {
    let scratch = Scratch::new();
    let disks = [content::disk(64, 512 << 10), {
        let mut disk = content::disk(64, 512 << 10);
        content::change(&mut disk, 65, 30, 16);
        disk
    }];
    // A plain layer is as long as the device; one in a tar archive says itself how long it is.
    let variants: &[&[&str]] = &[&["--format=plain"], &["--format=zstd", "--tar"]];
    let files = layers::stack(&scratch, &disks, variants);
    let loops: Vec<Loop> = files.iter().map(|file| Loop::new(file)).collect();
    let devices: Vec<_> = loops.iter().map(Loop::path).collect();
    for height in 1..=devices.len() {
        let module = Module::stack(&devices[..height], "");
        read::drop_caches();
        read::check_all(DEVICE, &disks[height - 1]);
        assert_eq!(module.faults(), device::Faults::default());
        module.unload();
    }
}

fn on_a_file_system_on_a_loop_device() {
    let scratch = Scratch::new();
    let image = scratch.join("image");
    File::create(&image)
        .and_then(|file| file.set_len(32 << 20))
        .expect("the image");
    tool::run("mkfs.ext4", &["-q", "-F", &image.display().to_string()]);
    let outer = Loop::new(&image);
    let place = scratch.join("place");
    let mounted = Mounted::new(&outer.path().display().to_string(), &place, "ext4", false);
    let disk = content::disk(66, 1 << 20);
    let source = scratch.file("raw", &disk);
    let layer = layers::from_file(&place, "layer", &source, &["--block-size=16K"]);
    let module = Module::stack(&[layer], "");
    for _ in 0..3 {
        read::drop_caches();
        read::check_all(DEVICE, &disk);
    }
    // And the disk once more through a loop device on top of it.
    {
        let upper = Loop::new(std::path::Path::new(DEVICE));
        read::check_all(&upper.path().display().to_string(), &disk);
    }
    module.unload();
    drop(mounted);
}

fn same_file_twice() {
    let scratch = Scratch::new();
    let (layer, disk) = some_layer(&scratch, 67);
    let module = Module::stack(&[layer.clone(), layer.clone(), layer], "");
    read::check_all(DEVICE, &disk);
    module.unload();
}

/// A file system that holds a layer cannot go while the device is there.
fn held_file_system() {
    let scratch = Scratch::new();
    let (layer, disk) = some_layer(&scratch, 68);
    let place = scratch.join("place");
    let mounted = Mounted::new("tmpfs", &place, "tmpfs", false);
    let copy = place.join("layer");
    fs::copy(&layer, &copy).expect("a copy");
    let module = Module::stack(&[copy], "");
    let refused = rustix::mount::unmount(&place, rustix::mount::UnmountFlags::empty());
    assert_eq!(refused, Err(rustix::io::Errno::BUSY));
    read::check_all(DEVICE, &disk);
    module.unload();
    drop(mounted);
}
