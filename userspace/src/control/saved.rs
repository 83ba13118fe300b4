// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What is to be attached, as files say it: layers and configurations on a command line, and
//! `/etc/vbd/<name>.json`, which holds one JSON object:
//!
//! | field | meaning |
//! |---|---|
//! | `layers` | layer files, bottom first; relative names count from the file's directory |
//! | `config` | instead of `layers`: an overlaybd `config.v1.json` |
//! | `name` | name of the device; by default the file's name without `.json` |
//! | `size` | virtual size in bytes, a multiple of 512; 0 or absent: what the layers say |
//! | `verify` | whether blocks' checksums are verified; absent: true |
//! | `direct` | whether layers that are not compressed are read past the page cache; absent: false |
//! | `partscan` | whether the kernel looks for partitions; absent: false |
//! | `sector_size` | bytes of a logical block of the disk, 512 or 4096; absent: 512 |
//!
//! An overlaybd configuration may stand there itself: it is known by its key `lowers`.

use super::attach::{Options, SECTOR_SIZES};
use super::results::Results;
use crate::error::{Error, Result};
use crate::image::{config, input};
use serde::Deserialize;
use serde_json::Value;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use vbd_format::limits;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What is to be attached.
#[derive(Debug, Default)]
pub struct Saved {
    /// Layer files, bottom first.
    pub layers: Vec<PathBuf>,
    /// Name, if there is one.
    pub name: Option<String>,
    /// How.
    pub options: Options,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    layers: Option<Vec<PathBuf>>,
    config: Option<PathBuf>,
    name: Option<String>,
    #[serde(default)]
    size: u64,
    #[serde(default = "on")]
    verify: bool,
    #[serde(default)]
    direct: bool,
    #[serde(default)]
    partscan: bool,
    sector_size: Option<u32>,
}

fn on() -> bool {
    true
}

/// The layers that a command line names, in which a configuration stands for its layers.
///
/// `results` has heard of every configuration, also when this fails.
pub fn arguments(arguments: &[PathBuf], results: &mut Results) -> Result<Vec<PathBuf>> {
    let mut configs = Vec::new();
    for path in arguments {
        let is_config = config::is_config(path)?;
        if is_config {
            results.of(path);
        }
        configs.push(is_config);
    }
    let mut layers = Vec::new();
    for (path, is_config) in arguments.iter().zip(configs) {
        match is_config {
            true => layers.extend(config::live_lowers(path)?),
            false => layers.push(path.clone()),
        }
    }
    Ok(layers)
}

/// Reads a file such as `/etc/vbd/<name>.json`.
pub fn read(path: &Path, results: &mut Results) -> Result<Saved> {
    let mut text = String::new();
    input::open(path)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(Error::io(path, "cannot read"))?;
    let unfit = |reason: String| Error::unfit(path, reason);
    let value: Value = serde_json::from_str(&text).map_err(|error| unfit(error.to_string()))?;
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    if value.get("lowers").is_some() {
        results.of(path);
        return Ok(Saved {
            layers: config::live_lowers(path)?,
            name: stem,
            options: Options::default(),
        });
    }

    let table: Table = serde_json::from_value(value).map_err(|error| unfit(error.to_string()))?;
    if table.size % limits::SECTOR != 0 || table.size > limits::MAX_VIRTUAL_SIZE {
        return Err(unfit(
            "size: must be a multiple of 512, at most 2^59".to_owned(),
        ));
    }
    let default = Options::default();
    let sector_size = table.sector_size.unwrap_or(default.sector_size);
    if !SECTOR_SIZES.contains(&sector_size) {
        return Err(unfit("sector_size: must be 512 or 4096".to_owned()));
    }
    let home = path.parent().unwrap_or(Path::new(""));
    let layers = match (table.layers, table.config) {
        (Some(layers), None) => layers.iter().map(|layer| home.join(layer)).collect(),
        (None, Some(config)) => {
            let config = home.join(config);
            results.of(&config);
            config::live_lowers(&config)?
        }
        _ => return Err(unfit("must have either layers or config".to_owned())),
    };
    Ok(Saved {
        layers,
        name: table.name.or(stem),
        options: Options {
            size: table.size,
            verify: table.verify,
            direct: table.direct,
            partscan: table.partscan,
            sector_size,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read_text(text: &str) -> (Result<Saved>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        fs::write(&path, text).unwrap();
        (read(&path, &mut Results::default()), dir)
    }

    #[test]
    fn a_table_is_read() {
        let (saved, dir) = read_text(
            r#"{"layers": ["a", "/b"], "verify": false, "direct": true, "size": 8192,
                    "partscan": true, "sector_size": 4096}"#,
        );
        let saved = saved.unwrap();
        assert_eq!(saved.layers, [dir.path().join("a"), PathBuf::from("/b")]);
        assert_eq!(saved.name.as_deref(), Some("web"));
        let options = Options {
            size: 8192,
            verify: false,
            direct: true,
            partscan: true,
            sector_size: 4096,
        };
        assert_eq!(saved.options, options);
    }

    #[test]
    fn faults_of_tables_are_named() {
        for (text, fault) in [
            (
                r#"{"layers": [], "config": "x"}"#,
                "either layers or config",
            ),
            (r#"{}"#, "either layers or config"),
            (
                r#"{"layers": ["a"], "size": 1000}"#,
                "size: must be a multiple",
            ),
            (
                r#"{"layers": ["a"], "sector_size": 1024}"#,
                "sector_size: must be 512 or 4096",
            ),
            (r#"{"layers": ["a"], "sise": 1024}"#, "unknown field `sise`"),
            (r#"["a"]"#, "invalid type"),
            ("", "EOF"),
            (r#"{"lowers": []}"#, "lowers: a stack needs a layer"),
        ] {
            let error = read_text(text).0.unwrap_err().to_string();
            assert!(error.contains(fault), "{text}: {error}");
            assert!(error.contains("web.json"), "{text}: {error}");
        }
    }

    #[test]
    fn keys_that_cannot_be_honoured_are_named() {
        for (keys, fault) in [
            (r#""accelerationLayer": true"#, "accelerationLayer"),
            (r#""recordTracePath": "/t""#, "recordTracePath"),
            (r#""download": {"enable": true}"#, "download"),
            (r#""upper": {"index": "i", "data": "d"}"#, "upper"),
            (r#""somethingNew": 1"#, "somethingNew"),
        ] {
            let text = format!(r#"{{"lowers": [{{"file": "/a"}}], {keys}}}"#);
            let error = read_text(&text).0.unwrap_err().to_string();
            assert!(error.contains(fault), "{text}: {error}");
        }
        for (lower, fault) in [
            (r#"{"digest": "sha256:0"}"#, "neither file nor dir"),
            (r#"{"dir": "/does/not/exist"}"#, "overlaybd.commit"),
            (r#"{"file": "/a", "targetFile": "/t"}"#, "targetFile"),
            (r#"{"file": "/a", "targetDigest": "/t"}"#, "targetDigest"),
            (r#"{"file": "/a", "gzipIndex": "/t"}"#, "gzipIndex"),
        ] {
            let text = format!(r#"{{"repoBlobUrl": "https://r", "lowers": [{lower}]}}"#);
            let error = read_text(&text).0.unwrap_err().to_string();
            assert!(error.contains(fault), "{text}: {error}");
        }
        let harmless = r#"{"lowers": [{"file": "/a", "digest": "sha256:0", "size": 7}],
            "repoBlobUrl": "https://r", "upper": {}, "accelerationLayer": false,
            "download": {"enable": false}, "recordTracePath": ""}"#;
        assert_eq!(read_text(harmless).0.unwrap().layers, [PathBuf::from("/a")]);
    }

    #[test]
    fn results_are_written_in_upstreams_words() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.v1.json");
        fs::write(&config, r#"{"resultFile": "result", "lowers": [{}]}"#).unwrap();
        let mut results = Results::default();
        let result = arguments(&[config], &mut results);
        results.write(&result).unwrap();
        let file = dir.path().join("result");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("failed:/"), "{text}");
        results.write(&Ok::<_, Error>(())).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "success");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
