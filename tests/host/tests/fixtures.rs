// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the core says of the layers that upstream's own programs made, against their manifests.
//!
//! The fixtures lie beside the checkout, or where `VBD_SHARED` says. Their contents are read by
//! `vbdctl`'s tests; this looks at headers, jump tables and indexes.

use serde_json::{json, Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vbd_format::lsmt::{self, Header, Lsmt};
use vbd_format::tar::Wrapper;
use vbd_format::zfile::ZFile;
use vbd_format::{ReadAt as _, Rule};
use vbd_tests_host::mem::Mem;
use vbd_tests_host::open::{layer, merge, Layer, Payload};
use zerocopy::FromBytes as _;

/// The fixtures' folder, or why there is none.
fn folder() -> Result<PathBuf, String> {
    let shared = match std::env::var_os("VBD_SHARED") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
    };
    let fixtures = shared.join("fixtures");
    if fixtures.join("index.json").is_file() {
        return Ok(fixtures);
    }
    Err(format!("no {}", fixtures.join("index.json").display()))
}

/// Prints past the test harness, which keeps the output of tests that pass.
fn announce(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn manifest(dir: &Path) -> Value {
    let text = std::fs::read_to_string(dir.join("manifest.json")).expect("a manifest");
    serde_json::from_str(&text).expect("JSON")
}

/// Text as the manifests write it: up to the first NUL, one character a byte.
fn latin(bytes: &[u8]) -> String {
    let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
    text.iter().map(|&b| char::from(b)).collect()
}

fn zfile_facts(zfile: &ZFile, bytes: &[u8]) -> Value {
    // The flags are those of the structure in use.
    let at = if zfile.from_header {
        0
    } else {
        bytes.len() - 512
    };
    let (header, _) = vbd_format::zfile::Header::read_from_prefix(&bytes[at..]).expect("512 bytes");
    json!({
        "algo": zfile.algorithm.name(),
        "block_size": zfile.block_size,
        "verify": u8::from(zfile.block_crc),
        "header_overwritten": zfile.from_header,
        "flags": format!("{:#x}", header.flags.get()),
        "index_offset": zfile.index_offset,
        "blocks": zfile.entries,
        "original_file_size": zfile.original_size,
        "digest_flag": zfile.index_crc.is_some(),
    })
}

fn lsmt_facts(layer: &Layer<Mem>) -> Value {
    let mut bytes = [0; 390];
    layer
        .payload
        .read_exact_at(0, &mut bytes)
        .expect("a header");
    let header = Header::read_from_bytes(&bytes).expect("390 bytes");
    let Lsmt {
        virtual_size,
        index_offset,
        index_size,
        end,
        trailer,
    } = layer.lsmt;
    assert_eq!(end, layer.payload.size());
    // The manifests count empty records, which the core drops.
    let mut index = vec![0; index_size as usize * 16];
    let read = layer.payload.read_exact_at(index_offset, &mut index);
    read.expect("an index");
    let records: Vec<lsmt::Segment> = index
        .chunks_exact(16)
        .map(|raw| lsmt::Segment::from_bytes(raw.try_into().expect("16 bytes")))
        .filter(|record| !record.is_padding())
        .collect();
    let kept = records.iter().filter(|record| record.sectors() != 0);
    assert!(
        kept.eq(&layer.segments),
        "segments are the records of the index"
    );
    let count = |f: fn(&lsmt::Segment) -> bool| records.iter().filter(|s| f(s)).count();
    json!({
        "header_flags": format!("{:#x}", header.flags.get()),
        "trailer_flags": format!("{:#x}", trailer.flags.get()),
        "index_offset": index_offset,
        "index_entries_incl_padding": index_size,
        "segments": records.len(),
        "zeroed_segments": count(|s| s.zeroed()),
        "nonzero_tags_on_disk": count(|s| s.tag() != 0),
        "virtual_size": virtual_size,
        "uuid": latin(&trailer.uuid),
        "parent_uuid": latin(&trailer.parent_uuid),
        "user_tag": latin(&trailer.user_tag),
    })
}

/// All that the core tells of a layer file, in the manifest's words.
fn facts(bytes: &[u8], layer: &Layer<Mem>) -> Map<String, Value> {
    let mut facts = Map::new();
    let window = match &layer.payload {
        Payload::Plain(window) | Payload::Packed(window, ..) => window,
    };
    if layer.wrapper != Wrapper::None {
        let tar = json!({"payload_offset": window.offset(), "payload_bytes": window.size()});
        facts.insert("tar".into(), tar);
    }
    if let Payload::Packed(window, zfile, _) = &layer.payload {
        let start = window.offset() as usize;
        let payload = &bytes[start..start + window.size() as usize];
        facts.insert("zfile".into(), zfile_facts(zfile, payload));
    }
    facts.insert("lsmt".into(), lsmt_facts(layer));
    facts
}

/// The facts of a writable layer's file, which the core must refuse for the right reason.
fn writable(name: &str, want: &Map<String, Value>, bytes: Vec<u8>) {
    let header = Header::read_from_bytes(&bytes[..390]).expect("390 bytes");
    let (key, flags) = match want.get("lsmt_index_file") {
        Some(_) => ("lsmt_index_file", "flags"),
        None => ("lsmt_rw_data", "header_flags"),
    };
    let want = &want[key];
    assert_eq!(want[flags], format!("{:#x}", header.flags.get()), "{name}");
    assert_eq!(want["virtual_size"], header.virtual_size.get(), "{name}");
    assert_eq!(want["uuid"], latin(&header.uuid), "{name}");
    if let Some(records) = want.get("records_incl_padding") {
        let size = (bytes.len() as u64 - header.index_offset.get()) / 16;
        assert_eq!(*records, size, "{name}");
    }
    let error = layer(Mem(bytes.clone())).expect_err("a writable layer is not sealed");
    let rule = match key {
        _ if bytes.len() < 8192 => Rule::LsmtTooSmall,
        "lsmt_index_file" => Rule::LsmtHeaderFlags,
        _ => Rule::LsmtTrailerMagic,
    };
    assert_eq!(error.rule, rule, "{name}");
}

#[test]
fn headers_match_the_manifests() {
    let fixtures = match folder() {
        Ok(fixtures) => fixtures,
        Err(why) => {
            announce(&format!("SKIPPED fixtures of the format core: {why}"));
            return;
        }
    };
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(&fixtures)
        .expect("readable")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("manifest.json").is_file())
        .collect();
    dirs.sort();
    let index = std::fs::read_to_string(fixtures.join("index.json")).expect("readable");
    let index: Vec<Value> = serde_json::from_str(&index).expect("JSON");
    assert_eq!(dirs.len(), index.len(), "folders and index.json differ");

    let mut seen = BTreeMap::<&str, usize>::new();
    for dir in dirs {
        let manifest = manifest(&dir);
        let mut layers = Vec::new();
        for entry in manifest["format"].as_array().expect("a list") {
            let want = entry.as_object().expect("an object");
            let file = want["file"].as_str().expect("a name");
            let name = format!("{}/{file}", dir.display());
            let Ok(bytes) = std::fs::read(dir.join(file)) else {
                // A sparse file is told as a list of extents; vbdctl's tests rebuild it.
                assert!(file.contains("rebuilt"), "{name} is missing");
                *seen.entry("to be rebuilt").or_default() += 1;
                continue;
            };
            assert_eq!(want["bytes"], bytes.len(), "{name}");
            if !want.contains_key("lsmt") {
                writable(&name, want, bytes);
                *seen.entry("writable").or_default() += 1;
                continue;
            }
            let layer = layer(Mem(bytes.clone())).unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut want = want.clone();
            want.retain(|key, _| ["tar", "zfile", "lsmt"].contains(&key.as_str()));
            assert_eq!(facts(&bytes, &layer), want, "{name}");
            layers.push(layer);
            *seen.entry("sealed").or_default() += 1;
        }
        if manifest["upper"].is_null() {
            let sizes = layers.iter().map(|l| l.lsmt.virtual_size);
            assert_eq!(
                manifest["virtual_size"],
                lsmt::virtual_size(sizes).expect("a size")
            );
            let merged = merge(&layers).expect("a stack");
            assert!(!merged.is_empty(), "{}", dir.display());
        }
    }
    announce(&format!("fixtures of the format core: {seen:?}"));
    assert!(seen["sealed"] >= 32, "{seen:?}");
}
