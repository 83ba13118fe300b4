// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! overlaybd's image configuration, usually `config.v1.json`.

use super::input;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Names under which a lower's `dir` may hold the layer, first hit wins.
const NAMES: [&str; 3] = ["overlaybd.commit", ".commit", "overlaybd.sealed"];

/// Largest configuration that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The keys that are understood; any other one is refused, not ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    #[serde(default)]
    lowers: Vec<Lower>,
    #[serde(default)]
    upper: Map<String, Value>,
    /// The last lower is a prefetch trace, not a part of the disk.
    #[serde(default)]
    acceleration_layer: bool,
    /// Where blobs are that are not here; those are refused one by one.
    #[serde(default, rename = "repoBlobUrl")]
    _repo_blob_url: Option<Value>,
    /// Gets the outcome when the disk goes live; [`result_file`] reads it.
    #[serde(default, rename = "resultFile")]
    _result_file: Option<Value>,
    /// Fetching of blobs in the background.
    #[serde(default)]
    download: Map<String, Value>,
    /// Recording and replaying of reads.
    #[serde(default)]
    record_trace_path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Lower {
    #[serde(default)]
    file: String,
    #[serde(default)]
    dir: String,
    #[serde(default)]
    target_file: String,
    #[serde(default)]
    target_digest: String,
    #[serde(default)]
    gzip_index: String,
    // As upstream: not compared with local files.
    #[serde(default, rename = "digest")]
    _digest: Option<Value>,
    #[serde(default, rename = "size")]
    _size: Option<Value>,
}

/// Whether `path` holds JSON, going by its first byte that is not white space.
pub fn is_config(path: &Path) -> Result<bool> {
    let mut start = [0; 64];
    let len = input::open(path)?
        .read(&mut start)
        .map_err(Error::transfer(path, 0, "cannot read"))?;
    Ok(start[..len].trim_ascii_start().first() == Some(&b'{'))
}

/// The layer files of the configuration `path`, bottom first.
///
/// Relative names in it count from the directory that holds it.
pub fn lowers(path: &Path) -> Result<Vec<PathBuf>> {
    read(path)?.lowers(path)
}

/// As [`lowers`], for a disk that goes live: keys that would have something happen then, and cannot,
/// are refused.
pub fn live_lowers(path: &Path) -> Result<Vec<PathBuf>> {
    let config = read(path)?;
    let refused = [
        (
            config.acceleration_layer,
            "accelerationLayer: prefetching is not supported",
        ),
        (
            !config.record_trace_path.is_empty(),
            "recordTracePath: recording and prefetching are not supported",
        ),
        (
            config.download.get("enable").is_some_and(|on| *on != false),
            "download: fetching layers is not supported; set enable to false",
        ),
    ];
    match refused.iter().find(|(refused, _)| *refused) {
        Some((_, reason)) => Err(Error::unfit(path, *reason)),
        None => config.lowers(path),
    }
}

/// The file that the outcome is to be written to, if `path` is a configuration that names one,
/// whatever else is wrong with it.
pub fn result_file(path: &Path) -> Option<PathBuf> {
    let text = text(path).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    let file = config.get("resultFile")?.as_str()?;
    (!file.is_empty()).then(|| home(path).join(file))
}

fn text(path: &Path) -> Result<String> {
    let mut text = String::new();
    input::open(path)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(Error::io(path, "cannot read"))?;
    Ok(text)
}

fn read(path: &Path) -> Result<Config> {
    serde_json::from_str(&text(path)?)
        .map_err(|error| Error::unfit(path, format!("not an image configuration: {error}")))
}

/// The directory that relative names in the configuration `path` count from.
fn home(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Config {
    fn lowers(mut self, path: &Path) -> Result<Vec<PathBuf>> {
        if self.upper.values().any(|value| *value != "") {
            return Err(Error::unfit(
                path,
                "upper: a writable layer is not supported",
            ));
        }
        if self.acceleration_layer {
            self.lowers.pop();
        }
        if self.lowers.is_empty() {
            return Err(Error::unfit(path, "lowers: a stack needs a layer"));
        }
        self.lowers
            .iter()
            .enumerate()
            .map(|(number, lower)| lower.locate(home(path), path, number))
            .collect()
    }
}

impl Lower {
    fn locate(&self, home: &Path, config: &Path, number: usize) -> Result<PathBuf> {
        let unfit = |reason: &str| Error::unfit(config, format!("lowers[{number}]: {reason}"));
        for (key, value) in [
            ("targetFile", &self.target_file),
            ("targetDigest", &self.target_digest),
            ("gzipIndex", &self.gzip_index),
        ] {
            if !value.is_empty() {
                return Err(unfit(&format!("{key}: TurboOCI layers are not supported")));
            }
        }
        if !self.file.is_empty() {
            return Ok(home.join(&self.file));
        }
        if self.dir.is_empty() {
            return Err(unfit(
                "neither file nor dir: remote layers are not supported",
            ));
        }
        let dir = home.join(&self.dir);
        NAMES
            .iter()
            .map(|name| dir.join(name))
            .find(|file| file.exists())
            .ok_or_else(|| {
                unfit(&format!(
                    "{} holds none of {}",
                    dir.display(),
                    NAMES.join(", ")
                ))
            })
    }
}
