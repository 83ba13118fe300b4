// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Writable layers become sealed ones: pairs and sparse files made here, and upstream's fixtures.

mod common;

use common::{assert_reads_as, make, sha256, temp_dir, Rng};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use vbd_format::lsmt::{LogEnd, Segment};
use vbd_format::zfile::Algorithm;
use vbdctl::image::commit::{commit, CommitOptions};
use vbdctl::image::convert::convert;
use vbdctl::image::merge::{merge, MergeOptions};
use vbdctl::image::upper::Upper;
use vbdctl::image::{Compression, Container, Layer, Options, Stack};

const NONE: [u8; 37] = *b"00000000-0000-0000-0000-000000000000\0";

fn plain() -> Container {
    Container {
        force: true,
        ..Container::default()
    }
}

/// Header of a file of a writable layer.
fn header(flags: u32, virtual_size: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..8].copy_from_slice(&vbd_format::lsmt::MAGIC0);
    bytes[8..24].copy_from_slice(&vbd_format::lsmt::MAGIC1);
    bytes[24..28].copy_from_slice(&390u32.to_le_bytes());
    bytes[28..32].copy_from_slice(&flags.to_le_bytes());
    if flags == 1 {
        bytes[32..40].copy_from_slice(&4096u64.to_le_bytes());
    }
    bytes[48..56].copy_from_slice(&virtual_size.to_le_bytes());
    bytes[56..93].copy_from_slice(&NONE);
    bytes[93..130].copy_from_slice(b"11111111-1111-1111-1111-111111111111\0");
    bytes
}

/// A pair that is written to, and the disk that it makes.
struct Pair {
    data: Vec<u8>,
    index: Vec<u8>,
    disk: Vec<u8>,
}

impl Pair {
    /// `writes` random writes and discards over `below`.
    fn random(rng: &mut Rng, below: &[u8], writes: u64) -> Self {
        let size = below.len() as u64;
        let mut pair = Self {
            data: header(3, size),
            index: header(1, size),
            disk: below.to_vec(),
        };
        for _ in 0..writes {
            let start = rng.below(size / 512);
            let longest = 1 << rng.below(8);
            let len = (1 + rng.below(longest)).min(size / 512 - start);
            let place = pair.data.len() as u64 / 512;
            let zeroed = rng.below(4) == 0;
            let bytes = match zeroed {
                true => vec![0; len as usize * 512],
                false => rng.noise(len as usize * 512),
            };
            pair.disk[start as usize * 512..][..bytes.len()].copy_from_slice(&bytes);
            if !zeroed {
                pair.data.extend(bytes);
            }
            let record = Segment::new(start, len, place, zeroed).unwrap();
            pair.index
                .extend(record.with_tag(rng.below(3) as u8).to_bytes());
            if rng.below(5) == 0 {
                pair.index.extend(Segment::PADDING.to_bytes());
            }
        }
        pair
    }

    fn store(&self, dir: &Path) -> (PathBuf, PathBuf) {
        let (data, index) = (dir.join("data"), dir.join("index"));
        fs::write(&data, &self.data).unwrap();
        fs::write(&index, &self.index).unwrap();
        (data, index)
    }
}

#[test]
fn pairs_on_a_stack_equal_a_flat_model() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    for seed in 0..30 {
        let mut rng = Rng::new(seed + 700);
        let sectors = 64 + rng.below(2000) as usize;
        let below = rng.text(512 * sectors);
        let (bottom, _) = make(dir.path(), "bottom", &below, None, &Options::default());
        let writes = rng.below(200);
        let pair = Pair::random(&mut rng, &below, writes);
        let (data, index) = pair.store(dir.path());
        let upper = Upper::open_pair(&data, &index).unwrap();
        assert_eq!(upper.log_end.0, LogEnd::Whole);
        let options = CommitOptions {
            container: Container {
                compression: (rng.below(2) == 0).then(|| Compression::new(Algorithm::Lz4)),
                tar: rng.below(2) == 0,
                force: true,
            },
            ..CommitOptions::default()
        };
        commit(&upper, &out, &options, 1, &mut |_| {}).unwrap();
        let bytes = fs::read(&out).unwrap();
        commit(&upper, &out, &options, 4, &mut |_| {}).unwrap();
        assert!(fs::read(&out).unwrap() == bytes, "jobs change the bytes");
        let stack = Stack::open(&[&bottom, &out]).unwrap();
        assert_reads_as(&stack, &pair.disk, seed);
        let parent = stack.layers()[1].lsmt.trailer.parent_uuid;
        assert_eq!(parent[..4], *b"1111");
    }
}

#[test]
fn torn_logs_lose_their_end_and_no_more() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    let mut rng = Rng::new(31);
    let below = vec![0; 512 * 500];
    let mut pair = Pair::random(&mut rng, &below, 50);
    let (whole, disk) = (pair.index.len() as u64, pair.disk.clone());
    let write = |place: u64| Segment::new(7, 3, place, false).unwrap().to_bytes();
    let data_end = pair.data.len() as u64 / 512;
    let good = pair.index.clone();
    let ends: [(&[u8], LogEnd); 4] = [
        (&write(8)[..15], LogEnd::Torn(whole)),
        (&write(8)[..1], LogEnd::Torn(whole)),
        (&[0; 40], LogEnd::Zeroes(whole)),
        (&write(data_end - 2), LogEnd::NoData(whole)),
    ];
    for (tail, end) in ends {
        pair.index = good.clone();
        pair.index.extend(tail);
        let (data, index) = pair.store(dir.path());
        let upper = Upper::open_pair(&data, &index).unwrap();
        assert_eq!(upper.log_end.0, end);
        let options = CommitOptions {
            container: plain(),
            ..CommitOptions::default()
        };
        commit(&upper, &out, &options, 2, &mut |_| {}).unwrap();
        assert_reads_as(&Stack::open(&[&out]).unwrap(), &disk, 1);
    }
    // A group in pieces is left out as a whole, and with a marker behind it refused.
    let marker = |number: u32| {
        let padding = Segment::PADDING.to_bytes();
        [&padding[..8], &number.to_le_bytes(), &[0; 4]].concat()
    };
    pair.index = [&good[..], &marker(1)].concat();
    let (data, index) = pair.store(dir.path());
    let upper = Upper::open_pair(&data, &index).unwrap();
    assert_eq!(upper.log_end.0, LogEnd::Group(4096));
    assert!(upper.segments().is_empty());
    pair.index.extend(marker(2));
    let (data, index) = pair.store(dir.path());
    let error = Upper::open_pair(&data, &index).unwrap_err().to_string();
    let place = "writable offset 4096: a group of records is damaged";
    assert!(error.contains(place), "{error}");
    // What no crash leaves behind is refused.
    pair.index = good;
    pair.index.extend(write(7));
    let (data, index) = pair.store(dir.path());
    let error = Upper::open_pair(&data, &index).unwrap_err().to_string();
    let place = format!("writable offset {whole}: record points into the header");
    assert!(error.contains(&place), "{error}");
    // Neither are files of the other kind.
    assert!(Upper::open_pair(&index, &data).is_err());
    assert!(Upper::open_sparse(&data).is_err());
}

#[test]
fn sparse_layers_show_what_lies_below_their_holes() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    let mut rng = Rng::new(41);
    let below = rng.text(1 << 20);
    let (bottom, _) = make(dir.path(), "bottom", &below, None, &Options::default());
    let path = dir.path().join("sparse");
    let file = File::create(&path).unwrap();
    file.set_len(4096 + (1 << 20)).unwrap();
    file.write_all_at(&header(0x13, 1 << 20), 0).unwrap();
    let mut disk = below;
    for (page, pages) in [(0, 1), (10, 3), (100, 50), (255, 1)] {
        let bytes = rng.noise(pages * 4096);
        file.write_all_at(&bytes, 4096 + page as u64 * 4096)
            .unwrap();
        disk[page * 4096..][..bytes.len()].copy_from_slice(&bytes);
    }
    let upper = Upper::open_sparse(&path).unwrap();
    let options = CommitOptions {
        container: plain(),
        ..CommitOptions::default()
    };
    commit(&upper, &out, &options, 2, &mut |_| {}).unwrap();
    assert_reads_as(&Stack::open(&[&bottom, &out]).unwrap(), &disk, 2);
    assert_eq!(Stack::open(&[&out]).unwrap().index().len(), 4);
}

/// The directory of fixtures: below $VBD_SHARED, or in the checkout's sibling `shared`.
fn fixtures(test: &str) -> Option<PathBuf> {
    let set = std::env::var_os("VBD_SHARED").filter(|set| !set.is_empty());
    let shared = set.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let root = shared.join("fixtures");
    if root.is_dir() {
        return Some(root);
    }
    // Not by a print macro: those are silent when a test passes.
    let text = format!("SKIPPED {test}: no {}\n", root.display());
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    None
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Rebuilds a sparse layer from its extents.
fn rebuild(dir: &Path, to: &Path) {
    let told = json(&dir.join("sparse.json"));
    let payload = fs::read(dir.join(told["payload"].as_str().unwrap())).unwrap();
    let file = File::create(to).unwrap();
    file.set_len(told["size"].as_u64().unwrap()).unwrap();
    let mut rest = payload.as_slice();
    for extent in told["extents_offset_length"].as_array().unwrap() {
        let (offset, len) = (extent[0].as_u64().unwrap(), extent[1].as_u64().unwrap());
        let (now, later) = rest.split_at(len as usize);
        file.write_all_at(now, offset).unwrap();
        rest = later;
    }
}

#[test]
fn upstream_writable_layers_commit_to_what_upstream_makes_of_them() {
    let Some(root) = fixtures("upstream_writable_layers_commit") else {
        return;
    };
    let dir = temp_dir();
    let out = dir.path().join("out");
    for name in [
        "16-rw-pair",
        "17-rw-pair-on-stack",
        "18-rw-sparse",
        "19-rw-sparse-on-lower",
    ] {
        let home = root.join(name);
        let upper = if home.join("index").exists() {
            Upper::open_pair(&home.join("data"), &home.join("index")).unwrap()
        } else {
            let sparse = dir.path().join("sparse");
            rebuild(&home, &sparse);
            Upper::open_sparse(&sparse).unwrap()
        };
        assert_eq!(upper.log_end.0, LogEnd::Whole);
        let options = CommitOptions {
            container: Container {
                compression: Some(Compression::new(Algorithm::Zstd)),
                ..plain()
            },
            ..CommitOptions::default()
        };
        commit(&upper, &out, &options, 2, &mut |_| {}).unwrap();
        let manifest = json(&home.join("manifest.json"));
        let lowers = manifest["layers_bottom_to_top"].as_array().unwrap();
        let mut layers: Vec<PathBuf> = lowers
            .iter()
            .map(|layer| home.join(layer.as_str().unwrap()))
            .collect();
        layers.push(out.clone());
        let stack = Stack::open(&layers).unwrap();
        assert_eq!(manifest["virtual_size"], stack.virtual_size());
        for range in manifest["ranges"].as_array().unwrap() {
            let (offset, len) = (range["offset"].as_u64(), range["length"].as_u64());
            let found = sha256(&stack, offset.unwrap(), len.unwrap()).unwrap();
            assert_eq!(range["sha256"], found, "{name} {range}");
        }
        let found = sha256(&stack, 0, stack.virtual_size()).unwrap();
        assert_eq!(manifest["sha256_full"], found, "{name}");
    }
}

#[test]
fn fixture_16_commits_to_20_byte_for_byte() {
    let Some(root) = fixtures("fixture_16_commits_to_20") else {
        return;
    };
    let dir = temp_dir();
    let out = dir.path().join("out");
    let home = root.join("16-rw-pair");
    let upper = Upper::open_pair(&home.join("data"), &home.join("index")).unwrap();
    let options = CommitOptions {
        container: plain(),
        uuid: Some(*b"556F2BE0-3D78-4D0D-8561-3D93BEF53B6E\0"),
        message: "commit of 16".to_owned(),
        ..CommitOptions::default()
    };
    commit(&upper, &out, &options, 2, &mut |_| {}).unwrap();
    let want = fs::read(root.join("20-committed-from-16/0")).unwrap();
    assert!(fs::read(&out).unwrap() == want);
    // What was sealed in place holds the same disk, and commits to the same layer.
    let sealed = Stack::open(&[root.join("21-sealed-from-16/0")]).unwrap();
    let options = MergeOptions {
        container: plain(),
        uuid: options.uuid,
        message: options.message,
        bottom: false,
    };
    merge(&sealed, &out, &options, 2, &mut |_| {}).unwrap();
    assert!(fs::read(&out).unwrap() == want);
}

#[test]
fn the_lowest_layers_of_fixture_14_merge_to_22() {
    let Some(root) = fixtures("the_lowest_layers_of_fixture_14_merge_to_22") else {
        return;
    };
    let dir = temp_dir();
    let (out, want) = (dir.path().join("out"), dir.path().join("want"));
    let layers = ["0", "1", "2"].map(|name| root.join("14-stack-raw-random").join(name));
    let options = MergeOptions {
        container: plain(),
        uuid: Some(NONE),
        ..MergeOptions::default()
    };
    let stack = Stack::open_part(&layers).unwrap();
    merge(&stack, &out, &options, 2, &mut |_| {}).unwrap();
    // Compressors differ from version to version; the layer inside does not.
    let (layer, _) = Layer::open(&root.join("22-merged/0")).unwrap();
    convert(&layer, &want, &plain(), 2, &mut |_| {}).unwrap();
    assert!(fs::read(&out).unwrap() == fs::read(&want).unwrap());
}

#[test]
fn upstream_layers_have_no_defects() {
    let Some(root) = fixtures("upstream_layers_have_no_defects") else {
        return;
    };
    let mut checked = 0;
    for entry in fs::read_dir(&root).unwrap() {
        let home = entry.unwrap().path();
        let told = home.join("manifest.json");
        // The last one has 255 layers of the same make.
        if !told.is_file() || home.ends_with("31-stack255-tiny") {
            continue;
        }
        let manifest = json(&told);
        let layers = manifest["layers_bottom_to_top"].as_array().unwrap();
        let layers: Vec<PathBuf> = layers
            .iter()
            .map(|layer| home.join(layer.as_str().unwrap()))
            .collect();
        if layers.is_empty() {
            continue;
        }
        let report = vbdctl::image::check::check(&layers, 2, &mut |_| {}, &mut |_| {});
        assert!(report.ok, "{}: {:#?}", home.display(), report.findings);
        checked += 1;
    }
    assert_eq!(checked, 29);
}
