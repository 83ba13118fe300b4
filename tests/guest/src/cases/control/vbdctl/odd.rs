// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Odd files as layers of a device: what is none is refused before the driver hears of it, and no name
//! of a good one matters.

use super::{done, fails, words};
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, stack};
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool;
use std::fs;
use std::os::unix::net::UnixListener;

pub(super) fn files() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (_, layers) = stack(&scratch, 1 << 20);
    let pipe = scratch.join("pipe");
    tool::run("mkfifo", &[&pipe]);
    let socket = scratch.join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let directory = scratch.join("directory");
    fs::create_dir(&directory).unwrap();
    let no_file = |kind: &str| format!("is a {kind}, and no regular file or block device");
    let odd = [
        (pipe, no_file("FIFO")),
        (socket, no_file("socket")),
        (directory, no_file("directory")),
        ("/dev/zero".into(), no_file("character device")),
        (scratch.file("empty", b""), "too small".to_string()),
        (scratch.file("one", b"L"), "too small".to_string()),
    ];
    for (path, expected) in &odd {
        for place in [0, 1, 2] {
            let mut all = layers.clone();
            all.insert(place, path.clone());
            let said = fails(&words(&["attach", "--name=web"], &all));
            assert!(said.contains(path.to_str().unwrap()), "{said}");
            assert!(said.contains(expected), "{said}");
            assert_nothing_left();
        }
    }
    module.unload();
}

pub(super) fn names() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let long = "n".repeat(255);
    for name in [
        "new\nline",
        "comma,",
        "-dash",
        " ",
        "tab\t",
        "\u{1b}[31m",
        "ü",
        &long,
    ] {
        let odd = scratch.join(name);
        fs::copy(&layers[0], &odd).unwrap();
        let node = done(&words(
            &["attach", "--name=web", "--"],
            &[odd, layers[1].clone()],
        ));
        read::check_all(&node, &disk);
        let said = done(&["status", "web"]);
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!said.contains(control), "{name:?}: {said:?}");
        assert!(!said.contains("new\nline"), "{said:?}");
        done(&["detach", "web"]);
        assert_nothing_left();
    }
    module.unload();
}
