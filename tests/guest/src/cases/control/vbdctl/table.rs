// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl dm-table`, fed to `dmsetup` and to the shell.

use super::{done, fails, words};
use crate::cases::support::content;
use crate::cases::support::device::Module;
use crate::cases::support::dir::stack;
use crate::cases::support::layers;
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool::{self, Loop};
use crate::modules;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
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
    // A header that was compressed has no name: what is at the end could be anyone's.
    let above = ["dm-table", "--name=web", "/dev/mapper/z0"];
    let said = fails(&above);
    assert!(said.contains("give the length"), "{said}");
    let sectors: u64 = zfile.split(' ').nth(1).unwrap().parse().unwrap();
    let bytes = format!("--bytes={}", sectors * 512);
    check(&done(&[&above[..], &[bytes.as_str()]].concat()), &disk);
    tool::run("dmsetup", &["remove", "--retry", "z0"]);
    let said = fails(&words(&["dm-table", "--target=zfile"], &nodes[..1]));
    assert!(said.ends_with("is no ZFile by itself"), "{said}");
    drop(devices);
    if own {
        let _ = modules::unload("vbd_dm");
    }
}

/// Writes `layer` over the front of a device.
fn put(device: &Loop, layer: &Path) {
    let mut file = OpenOptions::new().write(true).open(device.path()).unwrap();
    file.write_all(&fs::read(layer).unwrap()).unwrap();
    file.sync_all().unwrap();
}

/// The front of a device is a layer, and its end is left from a larger one.
pub(super) fn whose_trailer() {
    assert!(modules::probe(&["dm-mod", "loop"]));
    let own = !modules::is_loaded("vbd_dm");
    let module = Module::load("");
    let scratch = Scratch::new();
    let [old, new] = [(1, 4 << 20), (2, 64 << 10)].map(|(seed, size)| content::disk(seed, size));
    const OTHER: &str = "trailer is another layer's: its uuid is not the header's";
    const UNTIED: &str = "give the length";
    for (options, rule) in [
        (&["--format=plain"][..], OTHER),
        (
            &[
                "--uuid=00000000-0000-0000-0000-000000000000",
                "--format=plain",
            ],
            UNTIED,
        ),
        (&["--trailer-only"], UNTIED),
    ] {
        let large = layers::create(&scratch, "large", &old, options);
        let small = layers::create(&scratch, "small", &new, options);
        let device = padded(&large);
        put(&device, &small);
        let node = [device.path()];
        let said = fails(&words(&["dm-table"], &node));
        assert!(said.contains(rule), "{options:?} dm-table: {said}");
        // With its length, the layer is what it is.
        let length = format!("--bytes={}", small.metadata().unwrap().len());
        check(
            &done(&words(&["dm-table", "--name=web", &length], &node)),
            &new,
        );
        drop(device);

        // The others look at the very end.
        let end = layers::create(&scratch, "end", &old, options);
        let cut = end.metadata().unwrap().len().next_multiple_of(512);
        File::options()
            .write(true)
            .open(&end)
            .unwrap()
            .set_len(cut)
            .unwrap();
        let device = Loop::new(&end);
        put(&device, &small);
        let node = device.path();
        let out = scratch.join("out").display().to_string();
        for verb in ["info", "check", "export", "attach"] {
            let node = node.to_str().unwrap();
            let mut arguments = vec![verb, node];
            arguments.extend((verb == "export").then_some(out.as_str()));
            let output = tool::output("vbdctl", &arguments);
            assert_eq!(output.status.code(), Some(1), "{options:?} {verb}");
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(said.contains(rule), "{options:?} {verb}: {said}");
        }
        drop(device);
        for file in [large, small, end] {
            fs::remove_file(file).unwrap();
        }
    }
    // Over zeroes it needs no help if it has a name.
    let small = layers::create(&scratch, "new", &new, &["--format=plain"]);
    let device = padded(&small);
    let node = [device.path()];
    check(&done(&words(&["dm-table", "--name=web"], &node)), &new);
    drop(device);
    module.unload();
    if own {
        let _ = modules::unload("vbd_dm");
    }
}
