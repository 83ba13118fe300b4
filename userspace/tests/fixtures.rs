// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers that upstream's programs made, read by the stack reader: every digest of their manifests.

mod common;

use common::sha256;
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use vbdctl::image::Stack;

/// Directories whose disk needs a writable upper layer.
const WITH_UPPER: [&str; 4] = [
    "16-rw-pair",
    "17-rw-pair-on-stack",
    "18-rw-sparse",
    "19-rw-sparse-on-lower",
];

/// Fixtures that a read-only reader can show.
const EXPECTED: usize = 28;

/// The directory of fixtures: below $VBD_SHARED, or in the checkout's sibling `shared`.
fn fixtures() -> PathBuf {
    let set = std::env::var_os("VBD_SHARED").filter(|set| !set.is_empty());
    let shared = set.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    shared.join("fixtures")
}

#[test]
fn upstream_layers_read_right() {
    let root = fixtures();
    if !root.is_dir() {
        // Not by a print macro: those are silent when a test passes.
        let text = format!(
            "SKIPPED upstream_layers_read_right: no {}\n",
            root.display()
        );
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    }
    let mut names: Vec<String> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("manifest.json").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !WITH_UPPER.contains(&name.as_str()))
        .collect();
    names.sort();
    assert_eq!(names.len(), EXPECTED, "{names:?}");

    // Two threads; each takes every other directory.
    let check_some = |first: usize| -> Vec<String> {
        let some = names.iter().skip(first).step_by(2);
        some.filter_map(|name| check(&root.join(name)).err())
            .collect()
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let other = scope.spawn(|| check_some(1));
        let mut failures = check_some(0);
        failures.extend(other.join().unwrap());
        failures
    });
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Compares one fixture's disk with its manifest.
fn check(dir: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(dir.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let name = dir.display();
    let layers: Vec<PathBuf> = manifest["layers_bottom_to_top"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| dir.join(layer.as_str().unwrap()))
        .collect();
    let stack = Stack::open(&layers).map_err(|error| error.to_string())?;
    let size = manifest["virtual_size"].as_u64().unwrap();
    if stack.virtual_size() != size {
        return Err(format!("{name}: size {}", stack.virtual_size()));
    }
    let ranges = manifest["ranges"].as_array().unwrap();
    assert!(!ranges.is_empty());
    for range in ranges {
        let offset = range["offset"].as_u64().unwrap();
        let len = range["length"].as_u64().unwrap();
        let found = sha256(&stack, offset, len).map_err(|error| error.to_string())?;
        if range["sha256"] != found.as_str() {
            return Err(format!("{name}: range {offset}+{len} is {found}"));
        }
    }
    if let Some(expected) = manifest["sha256_full"].as_str() {
        let found = sha256(&stack, 0, size).map_err(|error| error.to_string())?;
        if expected != found {
            return Err(format!("{name}: disk is {found}"));
        }
    }
    Ok(())
}
