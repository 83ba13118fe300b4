// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Where a fuzzer begins: inputs made of good images, cut down to what a target looks at.

use crate::TARGETS;
use anyhow::{Context, Result};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use vbd_tests_host::images::good;
use vbd_tests_host::rng::Rng;
use vbd_tests_host::{damage, decoder};

/// Configurations: each key that is known, in the ways it is used.
const CONFIGS: [&str; 12] = [
    r#"{"lowers":[{"file":"a"},{"dir":"d","digest":"sha256:0","size":7}],"repoBlobUrl":"https://r"}"#,
    r#"{"lowers":[{"file":"/a"}],"upper":{"index":"","data":""},"resultFile":"r"}"#,
    r#"{"lowers":[{"file":"/a"},{"file":"t"}],"accelerationLayer":true}"#,
    r#"{"lowers":[{"file":"/a"}],"download":{"enable":true,"delay":300,"maxMBps":100}}"#,
    r#"{"lowers":[{"file":"/a"}],"download":{"enable":false},"recordTracePath":"/t"}"#,
    r#"{"lowers":[{"file":"/a","targetFile":"t","targetDigest":"d","gzipIndex":"g"}]}"#,
    r#"{"upper":{"index":"i","data":"d","target":"t","gzipIndex":"g"}}"#,
    r#"{"layers":["a","/b"],"size":1048576,"verify":false,"direct":true,"name":"web"}"#,
    r#"{"config":"web.json","size":0,"verify":true}"#,
    r#"{"layers":[]}"#,
    r#" { "lowers" : [ ] } "#,
    r#"{"lowers":[{"file":"a","unknown":1.5e300}],"x":[null,{"y":"\u00e9\\"}]}"#,
];

/// Seeds of the target `name`, also made of upstream's images where these are.
pub fn seeds(name: &str, fixtures: Option<&Path>) -> Result<Vec<Vec<u8>>> {
    let mut files: Vec<Vec<u8>> = good().into_iter().map(|image| image.file).collect();
    for path in fixtures.map(layers).transpose()?.unwrap_or_default() {
        files.push(fs::read(&path).with_context(|| path.display().to_string())?);
    }
    let mut seeds: Vec<Vec<u8>> = match name {
        "json" => CONFIGS
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect(),
        "tar" => files.iter().map(|file| tar(file)).collect(),
        "zfile" => files.iter().filter_map(|file| zfile(file)).collect(),
        "lsmt" => files.iter().filter_map(|file| lsmt(file)).collect(),
        // Their inputs are lists of numbers, of which any is as good as another.
        _ => Vec::new(),
    };
    if name == "tar" {
        (damage::kind("tar_fields").make)(&mut |make| {
            let case = make();
            if seeds.len() < 400 && case.name.contains("records") {
                seeds.push(tar(&case.files[0]));
            }
        });
    }
    let mut rng = Rng(name.len() as u64);
    for _ in 0..32 {
        let length = rng.below(300) as usize;
        seeds.push(rng.texture(length));
    }
    let most = TARGETS.iter().find(|target| target.name == name);
    let most = most.map_or(0, |target| target.max_len);
    seeds.retain(|seed| seed.len() <= most);
    Ok(seeds)
}

/// The layer files of all fixtures, but for those that are large.
fn layers(fixtures: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in fs::read_dir(fixtures).with_context(|| fixtures.display().to_string())? {
        let directory = directory?.path();
        if !directory.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_layer = name.bytes().all(|byte| byte.is_ascii_digit());
            // Of the 255 small ones some will do.
            if is_layer && (name.len() != 3 || name.ends_with('7')) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn tar(file: &[u8]) -> Vec<u8> {
    [&[1, 255], &file[..file.len().min(1600)]].concat()
}

fn payload(file: &[u8]) -> &[u8] {
    let whole: Range<usize> = 0..file.len();
    &file[decoder::payload(file).unwrap_or(whole)]
}

/// A ZFile of the first blocks alone: fields, blocks and table as they are, numbers that fit.
fn zfile(file: &[u8]) -> Option<Vec<u8>> {
    let payload = payload(file);
    let zfile = decoder::ZFile::open(payload).ok()??;
    let numbers = if zfile.from_header {
        0
    } else {
        payload.len() - 512
    };
    let mut header = payload[..96].to_vec();
    let mut trailer = payload[payload.len() - 512..][..96].to_vec();
    let mut blocks = Vec::new();
    let mut table = Vec::new();
    for place in &zfile.stored {
        if blocks.len() + place.len() > 1500 || table.len() > 100 {
            break;
        }
        blocks.extend_from_slice(&payload[place.clone()]);
        table.extend((place.len() as u32).to_le_bytes());
    }
    let count = (table.len() / 4) as u64;
    let dict = u64::from(u32::from_le_bytes(
        payload[numbers + 84..][..4].try_into().ok()?,
    ));
    let table_at = 512 + blocks.len() as u64;
    for structure in [&mut header, &mut trailer] {
        structure[40..48].copy_from_slice(&table_at.to_le_bytes());
        structure[48..56].copy_from_slice(&count.to_le_bytes());
        let size = zfile.original_size.min(count * zfile.block_size);
        structure[56..64].copy_from_slice(&size.to_le_bytes());
        structure[84..88].fill(0);
    }
    // Digests and the table's checksum are put right.
    let seed = [vec![7, 60], header, trailer, blocks, table].concat();
    (dict == 0 && count != 0).then_some(seed)
}

/// A plain layer's structures and its first records, over a few sectors of data.
fn lsmt(file: &[u8]) -> Option<Vec<u8>> {
    let decoder::Outcome::Open(stack) = decoder::open(&[file], 4096) else {
        return None;
    };
    let header = vbd_tests_host::lsmt::Spec::new(stack.virtual_size, Vec::new(), &[]);
    let records: Vec<_> = stack.layers[0].records.iter().take(16).collect();
    let mut trailer = header.structure(6, Some(4096 + 11 * 512))[..56].to_vec();
    trailer[40..48].copy_from_slice(&(records.len() as u64).to_le_bytes());
    let mut seed = [header.structure(7, None)[..56].to_vec(), trailer, vec![11]].concat();
    for record in records {
        let moffset = 8 + record.moffset % 8;
        let len = record.len.min(3);
        let record = vbd_tests_host::lsmt::Record {
            len,
            moffset,
            ..*record
        };
        seed.extend(record.bytes());
    }
    Some(seed)
}
