// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Images made with upstream's own programs, whose content is known: each is shown as a disk and
//! has to hold what its manifest says.
//!
//! They are the shared directory of the machine: `cargo xtask vm --share ../shared/fixtures`.

use super::support::device::{self, Module, DEVICE};
use super::support::scratch::Mounted;
use super::support::{digest, read, tool};
use crate::case::Case;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the fixtures are.
pub(super) const PLACE: &str = "/share";

/// Fixtures that a read-only device does not show, and why.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("16-rw-pair", "nothing but an unsealed writable pair"),
    ("18-rw-sparse", "nothing but a sparse writable layer"),
];

/// Fixtures with a writable layer on top: the layers below it are shown, and the digests of those
/// were made with the independent decoder (`obdref.py cat 0 1 …`).
pub(super) const WITHOUT_UPPER: &[(&str, &str)] = &[
    (
        "17-rw-pair-on-stack",
        "1522505d0d0857fcfa301f40c426706a51452f3d2054162eea5ccc30366d0bc1",
    ),
    (
        "19-rw-sparse-on-lower",
        "850f7846fb8afd91eefa84417c83007100e5cc98cabc44c39427e0ec0dfcf78b",
    ),
];

/// Hands the names of all fixtures that a device shows to a macro.
macro_rules! each_fixture {
    ($then:ident) => {
        $then! {
            "01-official-ext4-2layer-tar-lz4"
            "02-plain"
            "03-lz4-4k-verify"
            "04-lz4-4k-noverify"
            "05-lz4-64k-verify"
            "06-lz4-64k-noverify"
            "07-zstd-4k-verify"
            "08-zstd-64k-noverify"
            "09-lz4-16k-trailer-only"
            "10-tar-lz4-4k"
            "11-tar-legacy-ustar"
            "12-stack7-lz4-4k"
            "13-stack8-mixed"
            "14-stack-raw-random"
            "15-vsize-changes"
            "17-rw-pair-on-stack"
            "19-rw-sparse-on-lower"
            "20-committed-from-16"
            "21-sealed-from-16"
            "22-merged"
            "23-frag-50k-lz4"
            "24-frag-2layer-plain"
            "25-long-runs"
            "26-beyond-2tib"
            "27-lz4-64k-incompressible"
            "28-lz4-4k-incompressible"
            "29-crafted-legal-oddities"
            "30-erofs-lz4-4k"
            "31-stack255-tiny"
            "32-lz4-4k-old-no-digest"
        }
    };
}
pub(super) use each_fixture;

macro_rules! shown {
    ($($name:literal)*) => {
        /// One case a fixture, and one that looks for those that have none.
        pub(super) const CASES: &[Case] = &[
            $(Case { name: $name, run: || show($name) },)*
            Case { name: "every_fixture_has_a_case", run: every_fixture_has_a_case },
        ];
        const SHOWN: &[&str] = &[$($name),*];
    };
}

each_fixture!(shown);

pub(super) fn json(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

pub(super) fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key]
        .as_array()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// Attaches one fixture and compares all that is known of it.
fn show(name: &str) {
    let directory = Path::new(PLACE).join(name);
    let manifest = json(&directory.join("manifest.json"));
    let layers: Vec<PathBuf> = list(&manifest, "layers_bottom_to_top")
        .iter()
        .map(|layer| directory.join(layer.as_str().expect("a layer's name")))
        .collect();
    let module = Module::stack(&layers, "");

    let size = number(&manifest, "virtual_size");
    assert_eq!(
        tool::run("blockdev", &["--getsize64", DEVICE]),
        size.to_string()
    );
    assert_eq!(device::size(DEVICE), size);
    assert_eq!(tool::run("blockdev", &["--getro", DEVICE]), "1");
    assert_eq!(device::attribute("ro"), "1");

    let lower = WITHOUT_UPPER.iter().find(|(fixture, _)| *fixture == name);
    // The ranges of a fixture with an upper layer are about all layers together.
    let ranges: &[Value] = if lower.is_some() {
        &[]
    } else {
        list(&manifest, "ranges")
    };
    assert!(
        lower.is_some() || !ranges.is_empty(),
        "a manifest without ranges"
    );
    for direct in [true, false] {
        let file = if direct {
            read::direct(DEVICE)
        } else {
            read::buffered(DEVICE)
        };
        for range in ranges {
            let (offset, length) = (number(range, "offset"), number(range, "length"));
            let bytes = read::pread(&file, offset, usize::try_from(length).unwrap())
                .unwrap_or_else(|error| panic!("{length} bytes at {offset}: {error}"));
            assert_eq!(bytes.len() as u64, length, "bytes read at {offset}");
            let way = if direct { "direct" } else { "buffered" };
            let digest = digest::of(&bytes);
            assert_eq!(
                digest,
                text(range, "sha256"),
                "{way}: {length} bytes at {offset}"
            );
        }
    }

    let whole = lower
        .map(|(_, digest)| *digest)
        .or(manifest["sha256_full"].as_str());
    match whole {
        Some(whole) => assert_eq!(digest::of_file(DEVICE), (whole.to_string(), size)),
        // Nobody can read 3 TiB in a test; the ranges are what is known of it.
        None => assert_eq!(name, "26-beyond-2tib", "a manifest without sha256_full"),
    }
    if let Some(file_system) = manifest.get("filesystem") {
        compare_files(file_system);
    }
    assert_eq!(module.faults(), device::Faults::default());
    module.unload();
}

/// Mounts the disk and compares every regular file in it.
fn compare_files(file_system: &Value) {
    let kind = text(file_system, "type");
    assert!(
        crate::modules::probe(&[kind]) || kind == "ext4",
        "modprobe {kind}"
    );
    let expected = file_system["files_sha256"]
        .as_object()
        .expect("files_sha256");
    assert!(!expected.is_empty());
    let place = Path::new("/mnt/fixture");
    let mounted = Mounted::new(DEVICE, place, kind, true);
    let mut seen = BTreeSet::new();
    let mut waiting = vec![place.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the fixture") {
            let path = entry.expect("an entry of the fixture").path();
            let metadata = path.symlink_metadata().expect("a file's metadata");
            if metadata.is_dir() {
                waiting.push(path);
            } else if metadata.is_file() {
                let name = format!("/{}", path.strip_prefix(place).unwrap().display());
                let want = expected.get(&name).and_then(Value::as_str);
                let (digest, _) = digest::of_file(&path);
                assert_eq!(Some(digest.as_str()), want, "{name}");
                seen.insert(name);
            }
        }
    }
    let names: BTreeSet<String> = expected.keys().cloned().collect();
    assert_eq!(seen, names, "files in the file system");
    drop(mounted);
}

fn every_fixture_has_a_case() {
    let index = json(&Path::new(PLACE).join("index.json"));
    let there: BTreeSet<&str> = index
        .as_array()
        .unwrap()
        .iter()
        .map(|f| text(f, "name"))
        .collect();
    let shown: BTreeSet<&str> = SHOWN.iter().copied().collect();
    let not_shown: BTreeSet<&str> = NOT_SHOWN.iter().map(|(name, _)| *name).collect();
    let known: BTreeSet<&str> = shown.union(&not_shown).copied().collect();
    assert_eq!(there, known, "fixtures in {PLACE} and fixtures with a case");
    println!(
        "note {} of {} fixtures have a case",
        shown.len(),
        there.len()
    );
    for (name, reason) in NOT_SHOWN {
        println!("note not shown: {name} ({reason})");
    }
    for (name, _) in WITHOUT_UPPER {
        println!("note shown without its writable layer: {name}");
    }
}
