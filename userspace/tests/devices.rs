// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The verbs for devices from outside, as far as they go without the driver: what they do with it is
//! tested in the virtual machine.
//!
//! `UPDATE_GOLDEN=1` rewrites the expected texts in `golden/`.

mod common;

use common::{assert_golden, make, temp_dir, Rng};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use vbd_format::zfile::Algorithm;
use vbdctl::image::extent::{self, Extent};
use vbdctl::image::{Compression, Options};

fn vbdctl(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vbdctl"))
        .current_dir(dir)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn help_is_the_manual() {
    let dir = temp_dir();
    for verb in ["attach", "detach", "list", "status", "dm-table"] {
        let output = vbdctl(dir.path(), &[verb, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_golden(&format!("help-{verb}.txt"), &text);
    }
}

#[test]
fn misuse_ends_with_status_2() {
    let dir = temp_dir();
    let mut found = String::new();
    for arguments in [
        &["attach"][..],
        &["attach", "--name", "a/b", "x"],
        &["attach", "--name", ".a", "x"],
        &["attach", "--name", "vbd12", "x"],
        &["attach", "--verify", "2", "x"],
        &["attach", "--size", "1000", "x"],
        &["attach", "--timeout", "-1", "x"],
        &["attach", "--sector-size", "1024", "x"],
        &["attach", "--config", "x", "y"],
        &["detach"],
        &["detach", "--all", "x"],
        &["detach", "--timeout", "1e9", "x"],
        &["status"],
        &["list", "x"],
        &["dm-table"],
        &["dm-table", "--target", "linear", "x"],
        &["dm-table", "--target", "zfile", "x", "y"],
        &["dm-table", "--bytes", "1,2", "x"],
        &["dm-table", "--name", "a,b", "x"],
    ] {
        let output = vbdctl(dir.path(), arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        let line = said.lines().next().unwrap_or_default();
        found += &format!("$ vbdctl {}\n{line}\n", arguments.join(" "));
    }
    assert_golden("misuse-devices.txt", &found);
}

/// Layers of every kind, by name.
fn layers(dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let bytes = Rng::new(5).text(700_000);
    let lz4 = Compression::new(Algorithm::Lz4);
    let trailer_only = Compression {
        trailer_only: true,
        ..lz4
    };
    [
        ("plain", None, false),
        ("lz4", Some(lz4), false),
        ("trailer", Some(trailer_only), false),
        ("tar", Some(lz4), true),
        ("plain-tar", None, true),
        ("trailer-tar", Some(trailer_only), true),
    ]
    .map(|(name, compression, tar)| {
        let options = Options {
            compression,
            tar,
            ..Options::default()
        };
        (name, make(dir, name, &bytes, None, &options).0)
    })
    .into()
}

/// However a layer is padded, its end is found: the layer opens, and with less it would not.
#[test]
fn the_end_of_a_padded_layer_is_found() {
    let dir = temp_dir();
    for (name, layer) in layers(dir.path()) {
        let size = fs::metadata(&layer).unwrap().len();
        let exact = extent::find(&layer).unwrap().unwrap();
        for padding in [0, 1, 511, 512, 4096, 1_000_000] {
            let file = fs::OpenOptions::new().write(true).open(&layer).unwrap();
            file.set_len(size + padding).unwrap();
            let Extent {
                bytes,
                original_size,
            } = extent::find(&layer).unwrap().unwrap();
            assert_eq!(bytes, exact.bytes, "{name} with {padding}");
            assert_eq!(original_size, exact.original_size);
            vbdctl::image::Layer::open_first(&layer, bytes).unwrap();
        }
        let tar = name.ends_with("tar");
        assert_eq!(
            exact.bytes == size,
            !tar,
            "{name}: {} of {size}",
            exact.bytes
        );
        assert_eq!(exact.original_size.is_some(), !tar && name != "plain");
    }
}

#[test]
fn what_follows_a_layer_and_is_not_zero_hides_its_end() {
    let dir = temp_dir();
    for (name, layer) in layers(dir.path()) {
        let mut bytes = fs::read(&layer).unwrap();
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        bytes.extend([0xa5; 4096]);
        fs::write(&layer, bytes).unwrap();
        let found = extent::find(&layer).unwrap();
        let by_header = name == "lz4" || name.ends_with("tar");
        assert_eq!(found.is_some(), by_header, "{name}");
    }
}

#[test]
fn a_script_for_files() {
    let dir = temp_dir();
    layers(dir.path());
    let output = vbdctl(
        dir.path(),
        &["dm-table", "--losetup", "--name", "web", "plain", "tar"],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "layer0=$(losetup --find --show --read-only -- 'plain')",
            "layer1=$(losetup --find --show --read-only -- 'tar')"
        ]
    );
    let begin = "dmsetup create --concise \"web,,,ro,0 1368 lsmt_target $layer0 ";
    assert!(lines[2].starts_with(begin), "{text}");
    let output = vbdctl(dir.path(), &["dm-table", "plain"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("vbdctl: plain: is no block device"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}
