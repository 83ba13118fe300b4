// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl dm-table`, fed to `dmsetup` and to the shell.

use super::{done, fails, words};
use crate::cases::support::content;
use crate::cases::support::dir::stack;
use crate::cases::support::layers;
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool::{self, Loop};
use crate::modules;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// A loop device over a layer that is padded with zeroes to whole mebibytes.
fn padded(layer: &Path) -> Loop {
    let file = OpenOptions::new().write(true).open(layer).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(size.next_multiple_of(1 << 20) + (1 << 20))
        .unwrap();
    drop(file);
    Loop::new(layer)
}

/// Makes a device of a table, compares it with a disk, and removes it.
fn check(table: &str, disk: &[u8]) {
    tool::run("dmsetup", &["create", "--concise", table]);
    let name = table.split(',').next().unwrap();
    read::check_all(&format!("/dev/mapper/{name}"), disk);
    tool::run("dmsetup", &["remove", "--retry", name]);
}

pub(super) fn works() {
    assert!(modules::probe(&["dm-mod", "loop"]));
    let own = !modules::is_loaded("vbd_dm");
    let scratch = Scratch::new();
    let (disk, mut stack) = stack(&scratch, 1 << 20);
    let mut top = disk.clone();
    content::change(&mut top, 77, 5, 8);
    let base = layers::base(&stack);
    stack.push(layers::create(&scratch, "tar", &top, &["--tar", &base]));
    let sizes: Vec<u64> = stack
        .iter()
        .map(|layer| layer.metadata().unwrap().len())
        .collect();

    // Files are refused, or get a script.
    let said = fails(&words(&["dm-table"], &stack));
    assert!(
        said.contains("is no block device") && said.contains("--losetup"),
        "{said}"
    );
    let script = done(&words(
        &["dm-table", "--losetup", "--name=web"],
        &stack[2..],
    ));
    assert!(
        script.starts_with("layer0=$(losetup --find --show --read-only -- '"),
        "{script}"
    );

    let devices: Vec<Loop> = stack.iter().map(|layer| padded(layer)).collect();
    let nodes: Vec<PathBuf> = devices.iter().map(Loop::path).collect();
    let table = done(&words(&["dm-table", "--name=web"], &nodes));
    let expected = format!(
        "web,,,ro,0 2048 lsmt_target {} {} {} {} {} ",
        nodes[0].display(),
        sizes[0],
        nodes[1].display(),
        sizes[1],
        nodes[2].display()
    );
    assert!(table.starts_with(&expected), "{table}\n{expected}");
    check(&table, &top);
    let bytes = format!("--bytes={},0,{}", sizes[0], sizes[2]);
    check(
        &done(&words(&["dm-table", "--name=web", &bytes], &nodes)),
        &top,
    );

    // One target on the other, as upstream's README has it.
    let whole = layers::create(&scratch, "whole", &disk, &["--format=lz4"]);
    let below = padded(&whole);
    let below = [below.path()];
    let zfile = done(&words(&["dm-table", "--target=zfile", "--name=z0"], &below));
    tool::run("dmsetup", &["create", "--concise", &zfile]);
    check(&done(&["dm-table", "--name=web", "/dev/mapper/z0"]), &disk);
    tool::run("dmsetup", &["remove", "--retry", "z0"]);
    let said = fails(&words(&["dm-table", "--target=zfile"], &nodes[..1]));
    assert!(said.ends_with("is no ZFile by itself"), "{said}");
    drop(devices);
    if own {
        let _ = modules::unload("vbd_dm");
    }
}
