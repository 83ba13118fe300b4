// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A copy of the module's sources, for builds that must not touch those of the stock kernel:
//! kbuild leaves its results beside the sources, and each kernel needs results of its own.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What the module is built from, at the top of the checkout.
const SOURCES: &[&str] = &["Kbuild", "Makefile", "kmod"];

/// Brings the copy in `to` of the sources in `from` up to date. Files that did not change are not
/// written, so that make sees what did.
pub(super) fn update(from: &Path, to: &Path) -> Result<()> {
    let mut wanted = BTreeSet::new();
    for name in SOURCES {
        collect(from, Path::new(name), &mut wanted)?;
    }
    for file in &wanted {
        let target = to.join(file);
        let source = from.join(file);
        let content =
            fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        if fs::read(&target).is_ok_and(|old| old == content) {
            continue;
        }
        let directory = target.parent().unwrap_or(to);
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&target, content))
            .with_context(|| format!("cannot write {}", target.display()))?;
    }
    let mut there = BTreeSet::new();
    for name in SOURCES {
        collect(to, Path::new(name), &mut there)?;
    }
    for file in there.difference(&wanted) {
        let gone = to.join(file);
        fs::remove_file(&gone).with_context(|| format!("cannot remove {}", gone.display()))?;
    }
    Ok(())
}

/// Adds the source files at or below `path` in `top`, by their paths in there.
fn collect(top: &Path, path: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let whole = top.join(path);
    if whole.is_dir() {
        let entries = fs::read_dir(&whole);
        for entry in entries.with_context(|| format!("cannot read {}", whole.display()))? {
            collect(top, &path.join(entry?.file_name()), found)?;
        }
    } else if whole.is_file() && is_source(path) {
        found.insert(path.to_path_buf());
    }
    Ok(())
}

/// Whether a file was written by a person: kbuild's results lie among the sources.
fn is_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default();
    let ours = extension.is_empty()
        || ["c", "h", "mk", "rs"]
            .iter()
            .any(|known| extension == *known);
    let made = name.starts_with('.') || name.contains("_generated.") || name.ends_with(".mod.c");
    ours && !made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written_and_what_is_gone_is_removed() {
        let from = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        let sources = from.path().join("kmod/sys");
        fs::create_dir_all(&sources).unwrap();
        fs::write(from.path().join("Kbuild"), "obj-m := vbd.o\n").unwrap();
        fs::write(sources.join("a.rs"), "a").unwrap();
        fs::write(sources.join("b.c"), "b").unwrap();
        fs::write(sources.join("b.o"), "object").unwrap();
        fs::write(sources.join("x_generated.rs"), "made").unwrap();
        update(from.path(), to.path()).unwrap();
        let copy = to.path().join("kmod/sys");
        assert_eq!(fs::read_to_string(copy.join("a.rs")).unwrap(), "a");
        assert!(!copy.join("b.o").exists() && !copy.join("x_generated.rs").exists());

        let time = |name: &str| fs::metadata(copy.join(name)).unwrap().modified().unwrap();
        let before = time("a.rs");
        fs::write(copy.join("b.o"), "the copy's own").unwrap();
        fs::remove_file(sources.join("b.c")).unwrap();
        update(from.path(), to.path()).unwrap();
        assert_eq!(time("a.rs"), before);
        assert!(!copy.join("b.c").exists());
        assert!(copy.join("b.o").exists());
    }
}
