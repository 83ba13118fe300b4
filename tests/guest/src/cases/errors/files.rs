// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Files that cannot be opened or are no layers, and parameters that make no sense.

use super::super::support::content;
use super::super::support::device::{backfile, Module};
use super::{refused, Sandwich};
use crate::case::Case;
use crate::modules;
use rustix::fs::{mknodat, FileType, Mode, CWD};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vbd_tests_host::rng::Rng;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    not_opened,
    special_files,
    not_layers,
    empty_names,
    first_bad_layer_is_named,
    too_many_layers,
    parameters,
];

fn not_opened() {
    let stack = Sandwich::new();
    let file = stack.file("file", b"");
    let looped = stack.scratch.join("looped");
    symlink(&looped, &looped).expect("a link to itself");
    let dangling = stack.scratch.join("dangling");
    symlink("nowhere", &dangling).expect("a link to nowhere");
    for (path, errno, name) in [
        (stack.scratch.join("missing"), Errno::NOENT, "ENOENT"),
        (dangling, Errno::NOENT, "ENOENT"),
        (stack.scratch.to_path_buf(), Errno::ISDIR, "EISDIR"),
        (file.join("below"), Errno::NOTDIR, "ENOTDIR"),
        (looped, Errno::LOOP, "ELOOP"),
        (
            stack.scratch.join("x".repeat(256)),
            Errno::NAMETOOLONG,
            "ENAMETOOLONG",
        ),
    ] {
        stack.refused(&path, "", errno, &format!("cannot be opened ({name})"));
    }
    stack.works();
}

/// None of these may be read, and above all none may be waited for.
fn special_files() {
    let stack = Sandwich::new();
    let begin = Instant::now();
    let fifo = stack.scratch.join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).expect("mkfifo");
    let socket = stack.scratch.join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    for (path, errno, name) in [
        (fifo, Errno::INVAL, "EINVAL"),
        (PathBuf::from("/dev/null"), Errno::INVAL, "EINVAL"),
        (PathBuf::from("/dev/zero"), Errno::INVAL, "EINVAL"),
        (PathBuf::from("/dev/console"), Errno::INVAL, "EINVAL"),
        (socket, Errno::NXIO, "ENXIO"),
    ] {
        stack.refused(&path, "", errno, &format!("cannot be opened ({name})"));
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    stack.works();
}

fn not_layers() {
    let stack = Sandwich::new();
    let small = |size: usize| format!("lsmt offset 0: too small to be a layer (found {size})");
    let alien = |bytes: &[u8]| {
        let word = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let text = "no layer magic at the start: not an overlaybd layer";
        format!("lsmt offset 0: {text} (found {word})")
    };
    let mut rng = Rng(100);
    let text = content::text(&mut rng, 20_000);
    let noise = rng.noise(20_000);
    for (content, line) in [
        (&text[..0], small(0)),
        (&text[..1], small(1)),
        (&text[..511], small(511)),
        (&text[..512], small(512)),
        (&text[..8191], small(8191)),
        (&text[..8192], alien(&text)),
        (&text[..], alien(&text)),
        (&noise[..], alien(&noise)),
        (&[0; 20_000][..], alien(&[0; 4])),
        (b"\x7fELF and so on", small(14)),
    ] {
        let path = stack.file("other", content);
        stack.refused(&path, "", Errno::INVAL, &line);
    }
    // A block device that has nothing in it.
    assert!(modules::probe(&["loop"]), "modprobe loop");
    let control = fs::read_dir("/sys/block").unwrap().flatten();
    let unused = control
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| name.starts_with("loop"));
    let unused = format!("/dev/{}", unused.expect("a loop device"));
    stack.refused(unused.as_ref(), "", Errno::INVAL, &small(0));
    stack.works();
}

fn empty_names() {
    let stack = Sandwich::new();
    let good = stack.bottom.display();
    let line = |number| format!("layer {number} (): cannot be opened (ENOENT)");
    refused(&format!("backfile={good},,{good}"), Errno::NOENT, &line(1));
    refused(&format!("backfile={good},"), Errno::NOENT, &line(1));
    refused(&format!("backfile=,{good}"), Errno::NOENT, &line(0));
    refused("backfile=,", Errno::NOENT, &line(0));
    stack.works();
}

/// Of several bad layers the lowest one is named, whatever comes above.
fn first_bad_layer_is_named() {
    let stack = Sandwich::new();
    let text = stack.file("text", &[b'x'; 10_000]);
    let layers = [&stack.bottom, &stack.top, &text, &stack.bottom, &text];
    let line = format!(
        "layer 2 ({}): lsmt offset 0: no layer magic at the start: not an overlaybd layer \
         (found 2021161080)",
        text.display()
    );
    refused(&backfile(&layers), Errno::INVAL, &line);
    stack.works();
}

fn too_many_layers() {
    let stack = Sandwich::new();
    let most = vec![&stack.bottom; 255];
    let module = Module::stack(&most, "");
    module.unload();
    for count in [256, 300] {
        let layers = vec![&stack.bottom; count];
        let line = format!("stack offset 0: a stack has at most 255 layers (found {count})");
        refused(&backfile(&layers), Errno::FBIG, &line);
    }
    stack.works();
}

fn parameters() {
    let stack = Sandwich::new();
    let good = backfile(&[&stack.bottom]);
    let largest = 1u64 << 59;
    for size in [
        1,
        511,
        513,
        4097,
        largest + 512,
        largest + 1,
        u64::MAX - 511,
        u64::MAX,
    ] {
        let line = format!("size {size}: must be a multiple of 512 up to {largest}");
        refused(&format!("{good} size={size}"), Errno::INVAL, &line);
    }
    for switch in ["verify", "partscan"] {
        for value in [2, 3, 255] {
            let line = format!("{switch}={value}: must be 0 or 1");
            refused(&format!("{good} {switch}={value}"), Errno::INVAL, &line);
        }
    }
    for bytes in [0, 1, 256, 513, 1024, 2048, 8192, u32::MAX] {
        let line = format!("logical_block_size {bytes}: must be 512 or 4096");
        let parameters = format!("{good} logical_block_size={bytes}");
        refused(&parameters, Errno::INVAL, &line);
    }
    let line = "size 4608: no multiple of the logical block size 4096";
    let parameters = format!("{good} size=4608 logical_block_size=4096");
    refused(&parameters, Errno::INVAL, line);
    // The kernel itself refuses what is no number or does not fit.
    for (parameter, value) in [
        ("size", "abc"),
        ("size", "-512"),
        ("size", "18446744073709551616"),
        ("verify", "yes"),
        ("verify", "256"),
        ("verify", "-1"),
        ("partscan", "on"),
        ("logical_block_size", "4k"),
    ] {
        let line = format!("`{value}' invalid for parameter `{parameter}'");
        refused(&format!("{good} {parameter}={value}"), Errno::INVAL, &line);
    }
    stack.works();
}
