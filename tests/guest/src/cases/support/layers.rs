// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers that `vbdctl create` makes.

use super::tool;
use std::path::{Path, PathBuf};

/// Makes a layer `name` of a disk in `directory`; `options` are those of `vbdctl create`.
pub(crate) fn create(directory: &Path, name: &str, disk: &[u8], options: &[&str]) -> PathBuf {
    let raw = directory.join(format!("{name}.raw"));
    std::fs::write(&raw, disk).unwrap_or_else(|error| panic!("{}: {error}", raw.display()));
    let layer = from_file(directory, name, &raw, options);
    std::fs::remove_file(&raw).expect("the raw image goes");
    layer
}

/// Makes a layer `name` in `directory` of an image or a directory.
pub(crate) fn from_file(directory: &Path, name: &str, source: &Path, options: &[&str]) -> PathBuf {
    let layer = directory.join(name);
    let (source, output) = (source.display().to_string(), layer.display().to_string());
    let mut words = vec!["create"];
    words.extend_from_slice(options);
    words.extend([source.as_str(), output.as_str()]);
    tool::run("vbdctl", &words);
    layer
}

/// Layers as the value of `--base`.
pub(crate) fn base(layers: &[PathBuf]) -> String {
    let paths: Vec<String> = layers
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    format!("--base={}", paths.join(","))
}

/// Makes a stack of disks, each a change of the one before: the first from nothing, the others on
/// top of those below. `variants` are the options of each.
pub(crate) fn stack(directory: &Path, disks: &[Vec<u8>], variants: &[&[&str]]) -> Vec<PathBuf> {
    let mut layers: Vec<PathBuf> = Vec::new();
    for (number, (disk, variant)) in disks.iter().zip(variants).enumerate() {
        let base = base(&layers);
        let mut options = variant.to_vec();
        if number > 0 {
            options.push(&base);
        }
        let layer = create(directory, &format!("layer{number}"), disk, &options);
        layers.push(layer);
    }
    layers
}
