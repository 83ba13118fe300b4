// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Whose trailer stands at the end: padded files, and files with the rest of a larger layer behind.

mod common;

use common::{temp_dir, vbdctl, Rng};
use std::fs;
use std::path::Path;

/// Runs vbdctl, which must succeed; returns what it prints.
#[track_caller]
fn good(dir: &Path, arguments: &str) -> String {
    let output = vbdctl(dir, arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "vbdctl {arguments}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs vbdctl, which must fail; returns what it prints.
#[track_caller]
fn refused(dir: &Path, arguments: &str) -> String {
    let output = vbdctl(dir, arguments);
    assert_eq!(output.status.code(), Some(1), "vbdctl {arguments}");
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8(all).unwrap()
}

/// `image`, which compresses badly, and `half`, which is its first half.
fn images(dir: &Path) {
    let mut rng = Rng::new(7);
    let image = [rng.noise(200 << 10), rng.text(56 << 10)].concat();
    fs::write(dir.join("image"), &image).unwrap();
    fs::write(dir.join("half"), &image[..128 << 10]).unwrap();
}

/// What `vbdctl info` says of the layer, but for the size of its file.
fn info(dir: &Path) -> String {
    let text = good(dir, "info layer");
    let lines = text
        .lines()
        .filter(|line| !line.contains(" file") && !line.contains(" bytes for "));
    lines.collect::<Vec<_>>().join("\n")
}

/// What makes each container.
const FORMS: [&str; 6] = [
    "--format plain",
    "--format plain --tar",
    "--format lz4",
    "--format lz4 --trailer-only",
    "--format zstd --tar --trailer-only",
    "--format zstd",
];

#[test]
fn a_padded_layer_passes_everything() {
    let dir = temp_dir();
    let dir = dir.path();
    images(dir);
    for form in FORMS {
        good(dir, &format!("create --force {form} image layer"));
        let bytes = fs::read(dir.join("layer")).unwrap();
        let checked = good(dir, "check layer");
        let about = info(dir);
        let sectors = bytes.len().next_multiple_of(512) - bytes.len();
        for padding in [sectors, 1, 511, 512, 4095] {
            let mut padded = bytes.clone();
            padded.resize(bytes.len() + padding, 0);
            fs::write(dir.join("layer"), &padded).unwrap();
            assert_eq!(good(dir, "check layer"), checked, "{form} {padding}");
            assert_eq!(info(dir), about, "{form} {padding}");
            if padded.len() % 512 == 0 {
                let table = good(dir, "dm-table --losetup layer");
                let end = format!(" {}\"\n", bytes.len());
                // Of an archive, what follows the layer is not needed.
                let right = form.contains("--tar") || table.ends_with(&end);
                assert!(right, "{form} {padding}: {table}");
            }
            good(dir, "export --force layer out");
            assert!(fs::read(dir.join("out")).unwrap() == fs::read(dir.join("image")).unwrap());
            good(dir, "compare layer image");
            good(dir, "convert --force layer again");
            good(dir, "merge --force layer merged");
        }
    }
}

#[test]
fn plain_layers_have_their_name_at_both_ends() {
    let dir = temp_dir();
    let dir = dir.path();
    images(dir);
    good(dir, "create --format plain image created");
    good(dir, "create image packed");
    good(dir, "convert --format plain packed converted");
    good(dir, "merge --format plain --layers 0-0 packed merged");
    for name in ["created", "converted", "merged"] {
        let layer = fs::read(dir.join(name)).unwrap();
        let trailer = &layer[layer.len() - 4096..];
        assert_ne!(layer[56..92], *b"00000000-0000-0000-0000-000000000000");
        assert_eq!(layer[56..93], trailer[56..93], "{name}");
    }
    // The name is made from the contents: containers do not count.
    let [created, converted] = ["created", "converted"].map(|name| fs::read(dir.join(name)));
    assert!(created.unwrap() == converted.unwrap());
}

#[test]
fn a_layer_over_the_front_of_a_larger_one_is_refused() {
    let dir = temp_dir();
    let dir = dir.path();
    images(dir);
    good(dir, "create --format plain image large");
    good(dir, "create --format plain half small");
    let mut file = fs::read(dir.join("large")).unwrap();
    let small = fs::read(dir.join("small")).unwrap();
    file[..small.len()].copy_from_slice(&small);
    fs::write(dir.join("mixed"), &file).unwrap();
    let rule = "trailer is another layer's: its uuid is not the header's";
    for verb in [
        "info mixed",
        "check mixed",
        "export mixed out",
        "compare mixed half",
        "merge mixed out",
        "convert mixed out",
        "create --base mixed half out",
        "dm-table --losetup mixed",
    ] {
        let told = refused(dir, verb);
        assert!(told.contains(rule), "{verb}: {told}");
    }
    assert!(!dir.join("out").exists());
}
