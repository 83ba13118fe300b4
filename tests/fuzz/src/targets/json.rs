// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Configurations: overlaybd's `config.v1.json` and the tables of `/etc/vbd`.
//!
//! What is read here is never acted upon: no layer is opened and no result is written.

use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vbdctl::control::results::Results;
use vbdctl::control::saved;
use vbdctl::image::config;

thread_local! {
    /// The directory of a thread's configuration, since tests run side by side: in memory, where there
    /// is such a place.
    static HOME: TempDir = {
        let memory = Path::new("/dev/shm");
        let made = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let home = made.expect("a directory");
        std::fs::create_dir(home.path().join("d")).expect("a directory");
        std::fs::write(home.path().join("d/.commit"), "").expect("a layer");
        home
    };
}

fn home() -> PathBuf {
    HOME.with(|home| home.path().to_path_buf())
}

/// The text of a configuration.
pub(crate) fn run(data: &[u8]) {
    let path = home().join("web.json");
    std::fs::write(&path, data).expect("the configuration is written");
    let looks = data
        .iter()
        .take(64)
        .find(|byte| !byte.is_ascii_whitespace())
        == Some(&b'{');
    assert_eq!(config::is_config(&path).expect("readable"), looks);
    let value: Option<Value> = serde_json::from_slice(data).ok();

    let lowers = config::lowers(&path);
    let live = config::live_lowers(&path);
    if let Ok(found) = &lowers {
        check_lowers(value.as_ref().expect("JSON"), found);
    }
    if let Ok(found) = &live {
        assert_eq!(
            Some(found),
            lowers.as_ref().ok(),
            "a live disk is another one"
        );
        let value = value.as_ref().expect("JSON");
        assert_ne!(value.get("accelerationLayer"), Some(&Value::Bool(true)));
        assert_ne!(value.pointer("/download/enable"), Some(&Value::Bool(true)));
    }
    if let Some(file) = config::result_file(&path) {
        let text = value
            .as_ref()
            .and_then(|value| value.get("resultFile")?.as_str());
        assert_eq!(file, home().join(text.expect("a name")));
    }
    // A table may name another configuration, and a fuzzer shall not find `/dev/zero`.
    let named = value.as_ref().and_then(|value| value.get("config"));
    if named.is_some_and(|named| named.as_str() != Some("web.json")) {
        return;
    }
    let mut results = Results::default();
    if let Ok(saved) = saved::read(&path, &mut results) {
        let value = value.as_ref().expect("JSON");
        assert!(saved.options.size % 512 == 0 && saved.options.size <= 1 << 59);
        assert!(saved.name.is_some());
        if value.get("lowers").is_some() {
            assert_eq!(Some(&saved.layers), live.as_ref().ok());
        } else {
            let layers = value
                .get("layers")
                .and_then(Value::as_array)
                .expect("a list");
            let named = |layer: &Value| home().join(layer.as_str().expect("a name"));
            assert_eq!(
                saved.layers,
                layers.iter().map(named).collect::<Vec<PathBuf>>()
            );
            assert_eq!(
                value.get("verify") != Some(&Value::Bool(false)),
                saved.options.verify
            );
        }
    }
}

/// Whether the layers of a configuration are those that it names, bottom first.
fn check_lowers(config: &Value, found: &[PathBuf]) {
    let object = config.as_object().expect("an object");
    let known = [
        "lowers",
        "upper",
        "accelerationLayer",
        "repoBlobUrl",
        "resultFile",
        "download",
        "recordTracePath",
    ];
    assert!(
        object.keys().all(|key| known.contains(&key.as_str())),
        "{config}"
    );
    let lowers = object
        .get("lowers")
        .and_then(Value::as_array)
        .expect("a list");
    let trace = usize::from(object.get("accelerationLayer") == Some(&Value::Bool(true)));
    assert_eq!(found.len(), lowers.len() - trace, "{config}");
    for (layer, lower) in found.iter().zip(lowers) {
        let text = |key: &str| lower.get(key).and_then(Value::as_str).unwrap_or_default();
        for key in ["targetFile", "targetDigest", "gzipIndex"] {
            assert_eq!(text(key), "", "{config}");
        }
        match text("file") {
            "" => assert!(layer.starts_with(home().join(text("dir"))), "{config}"),
            file => assert_eq!(*layer, home().join(file)),
        }
    }
}
