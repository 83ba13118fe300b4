// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Images made with upstream's own programs, on loop devices: as one `lsmt_target` over the layers
//! as they are, and with a `zfile_target` below it for each compressed layer.

use super::mapper::{self, Disk, Mapped, Part, Targets};
use crate::case::Case;
use crate::cases::fixtures::{each_fixture, json, list, number, text, PLACE, WITHOUT_UPPER};
use crate::cases::support::scratch::Scratch;
use crate::cases::support::{device, digest, read, tool};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// More layers than this lie in slices of one loop device, as volumes of a volume manager would.
const MOST_LOOPS: usize = 8;

/// Bytes that are compared at a time.
const PIECE: u64 = 1 << 20;

macro_rules! shown {
    ($($name:literal)*) => {
        /// One case a fixture, and one of targets made as the specification says.
        pub(in crate::cases) const CASES: &[Case] = &[
            $(Case { name: $name, run: || show($name) },)*
            Case { name: "lines_of_the_readme", run: lines_of_the_readme },
        ];
    };
}

each_fixture!(shown);

/// One layer of a fixture.
struct Layer {
    name: String,
    bytes: Vec<u8>,
    /// Bytes before compression, of a layer that is compressed.
    original: Option<u64>,
}

fn layers(directory: &Path, manifest: &Value) -> Vec<Layer> {
    let formats = list(manifest, "format");
    let names = list(manifest, "layers_bottom_to_top").iter();
    names
        .map(|name| {
            let name = name.as_str().expect("a layer's name");
            let format = formats.iter().find(|format| text(format, "file") == name);
            let zfile = format.and_then(|format| format.get("zfile"));
            Layer {
                name: name.to_string(),
                bytes: fs::read(directory.join(name)).expect("a layer"),
                original: zfile.map(|zfile| number(zfile, "original_file_size")),
            }
        })
        .collect()
}

/// Devices that hold layers.
struct Below {
    /// Removed before the disk that they lie on.
    slices: Vec<Mapped>,
    _disks: Vec<Disk>,
    parts: Vec<Part>,
}

impl Below {
    fn new(scratch: &Scratch, layers: &[Layer]) -> Below {
        if layers.len() > MOST_LOOPS {
            return Below::sliced(scratch, layers);
        }
        let disks = layers.iter();
        let disks: Vec<Disk> = disks
            .map(|layer| Disk::new(scratch, &layer.name, &layer.bytes))
            .collect();
        Below {
            slices: Vec::new(),
            parts: mapper::parts(&disks),
            _disks: disks,
        }
    }

    fn sliced(scratch: &Scratch, layers: &[Layer]) -> Below {
        let (mut all, mut places) = (Vec::new(), Vec::new());
        for layer in layers {
            places.push(all.len() / 512);
            all.extend_from_slice(&layer.bytes);
            all.resize(all.len().next_multiple_of(512), 0xee);
        }
        let disk = Disk::new(scratch, "all", &all);
        let tables = layers.iter().zip(places);
        let tables: Vec<String> = tables
            .map(|(layer, place)| {
                let sectors = layer.bytes.len().div_ceil(512);
                format!("0 {sectors} linear {} {place}", disk.path())
            })
            .collect();
        let slices = Mapped::many("slice", &tables);
        let parts = slices.iter().zip(layers);
        Below {
            parts: parts
                .map(|(slice, layer)| slice.part(layer.bytes.len() as u64))
                .collect(),
            slices,
            _disks: vec![disk],
        }
    }
}

/// A `zfile_target` over each layer that is compressed; the parts with those in place.
fn decompressed(layers: &[Layer], parts: &[Part]) -> (Vec<Mapped>, Vec<Part>) {
    let lines = layers.iter().zip(parts).filter_map(|(layer, part)| {
        Some(mapper::line(
            0,
            layer.original?,
            "zfile_target",
            std::slice::from_ref(part),
        ))
    });
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return (Vec::new(), parts.to_vec());
    }
    let zfiles = Mapped::many("zfile", &lines);
    let mut next = zfiles.iter();
    let parts = layers
        .iter()
        .zip(parts)
        .map(|(layer, part)| match layer.original {
            Some(bytes) => next.next().expect("one for each").part(bytes),
            None => part.clone(),
        });
    let parts = parts.collect();
    (zfiles, parts)
}

fn show(name: &str) {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let directory = Path::new(PLACE).join(name);
    let manifest = json(&directory.join("manifest.json"));
    let layers = layers(&directory, &manifest);
    let size = number(&manifest, "virtual_size");
    let below = Below::new(&scratch, &layers);

    let direct = Mapped::new("direct", &mapper::lsmt(size, &below.parts));
    let (zfiles, parts) = decompressed(&layers, &below.parts);
    let stacked = Mapped::new("stacked", &mapper::lsmt(size, &parts));

    let lower = WITHOUT_UPPER.iter().find(|(fixture, _)| *fixture == name);
    for mapped in [&direct, &stacked] {
        assert_eq!(
            tool::run("blockdev", &["--getsize64", &mapped.path()]),
            size.to_string()
        );
        assert_eq!(tool::run("blockdev", &["--getro", &mapped.path()]), "1");
        if lower.is_none() {
            check_ranges(mapped, &manifest);
        }
    }
    let whole = lower
        .map(|(_, digest)| *digest)
        .or(manifest["sha256_full"].as_str());
    match whole {
        Some(whole) => {
            assert_eq!(digest::of_file(direct.path()), (whole.to_string(), size));
            // A digest takes longer than a comparison with what has the right one.
            if zfiles.is_empty() {
                println!("note {name}: no layer is compressed, so zfile_target has no part in it");
            } else {
                compare(&direct, &stacked, size);
            }
        }
        // Nobody can read 3 TiB in a test; the ranges are what is known of it.
        None => assert_eq!(name, "26-beyond-2tib", "a manifest without sha256_full"),
    }
    for mapped in zfiles.iter().chain([&direct, &stacked]).take(8) {
        for counter in ["errors", "crc_errors", "decode_errors", "rereads"] {
            assert_eq!(mapped.counter(counter), 0, "{counter}");
        }
    }

    // What lies on top goes first.
    Mapped::remove_all(vec![direct, stacked]);
    if !zfiles.is_empty() {
        Mapped::remove_all(zfiles);
    }
    if !below.slices.is_empty() {
        Mapped::remove_all(below.slices);
    }
    drop(targets);
}

fn check_ranges(mapped: &Mapped, manifest: &Value) {
    let ranges = list(manifest, "ranges");
    assert!(!ranges.is_empty(), "a manifest without ranges");
    let file = read::direct(&mapped.path());
    for range in ranges {
        let (offset, length) = (number(range, "offset"), number(range, "length"));
        let bytes = read::pread(&file, offset, usize::try_from(length).unwrap())
            .unwrap_or_else(|error| panic!("{length} bytes at {offset}: {error}"));
        assert_eq!(bytes.len() as u64, length, "bytes read at {offset}");
        assert_eq!(
            digest::of(&bytes),
            text(range, "sha256"),
            "{length} bytes at {offset} of {}",
            mapped.path()
        );
    }
}

/// Compares two devices byte for byte.
fn compare(one: &Mapped, other: &Mapped, size: u64) {
    let (one, other) = (read::direct(&one.path()), read::direct(&other.path()));
    let mut want = read::Memory::new(PIECE as usize, 0);
    let mut got = read::Memory::new(PIECE as usize, 0);
    for offset in (0..size).step_by(PIECE as usize) {
        let count = one.read_at(want.bytes_mut(), offset).expect("a read");
        assert_eq!(count as u64, PIECE.min(size - offset));
        assert_eq!(
            other.read_at(got.bytes_mut(), offset).expect("a read"),
            count
        );
        read::same(&got.bytes()[..count], &want.bytes()[..count], offset);
    }
}

/// The very lines of the original's README, with its names of devices.
fn lines_of_the_readme() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let directory = Path::new(PLACE).join("03-lz4-4k-verify");
    let manifest = json(&directory.join("manifest.json"));
    let layers = layers(&directory, &manifest);
    let [layer] = &layers[..] else {
        panic!("a fixture of one layer");
    };
    let disk = Disk::new(&scratch, "layer", &layer.bytes);
    assert_eq!(disk.path(), "/dev/loop0", "a loop device is left over");
    let original = layer.original.expect("a compressed layer");
    let size = number(&manifest, "virtual_size");

    let bytes = layer.bytes.len();
    let sectors = original / 512;
    let zfile = Mapped::new(
        "zfile0",
        &format!("0 {sectors} zfile_target /dev/loop0 {bytes}"),
    );
    let sectors = size / 512;
    let lsmt = Mapped::new(
        "lsmt0",
        &format!("0 {sectors} lsmt_target /dev/mapper/zfile0 {original}"),
    );
    assert_eq!(device::size("/dev/mapper/zfile0"), original);
    assert_eq!(device::size("/dev/mapper/lsmt0"), size);
    assert_eq!(
        digest::of_file("/dev/mapper/lsmt0").0,
        text(&manifest, "sha256_full")
    );
    Mapped::remove_all(vec![lsmt, zfile]);
    drop((disk, targets));
}
