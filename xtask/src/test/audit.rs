// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The rules of the sources that no compiler knows.
//!
//! * `unsafe` stands only under `kmod/sys/`. Each block and impl has a `SAFETY:` comment before it,
//!   each unsafe function a `# Safety` section.
//! * `kmod/sys/` names nothing that is outside of it.
//! * Crate roots deny `unsafe_code`, packages take the workspace's lints, and the lint is allowed
//!   again for `mod sys` of a crate root and nowhere else.
//! * Every source file begins with the licence of its part of the tree.

mod layering;
mod licence;
mod text;
mod unsafety;

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Files that builds make, relative to the checkout.
const GENERATED: &[&str] = &["kmod/sys/bindings_generated.rs"];

/// Parts of the tree that hold sources, and files at its top.
const PLACES: &[&str] = &[
    ".cargo",
    ".ci",
    "Cargo.toml",
    "Kbuild",
    "Makefile",
    "kmod",
    "tests",
    "userspace",
    "xtask",
];

/// Looks at the whole tree below `top`; returns a line for each place that breaks a rule.
pub(super) fn tree(top: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut seen = 0;
    for path in sources(top)? {
        let shown = path.to_string_lossy().into_owned();
        let bytes = fs::read(top.join(&path)).with_context(|| shown.clone())?;
        let text = String::from_utf8_lossy(&bytes);
        seen += 1;
        findings.extend(licence::check(&shown, &text));
        if shown.ends_with(".rs") {
            findings.extend(unsafety::check(&shown, &text));
            findings.extend(layering::check(&shown, &text));
        }
        if shown.ends_with("Cargo.toml") {
            findings.extend(unsafety::check_manifest(&shown, &text));
        }
    }
    if seen == 0 {
        findings.push(format!("{} holds no sources", top.display()));
    }
    Ok(findings)
}

/// The source files below `top`, as sorted paths relative to it.
fn sources(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = PLACES.iter().map(PathBuf::from).collect();
    while let Some(path) = waiting.pop() {
        let full = top.join(&path);
        if full.is_dir() && !full.is_symlink() {
            let entries = fs::read_dir(&full).with_context(|| full.display().to_string())?;
            for entry in entries {
                let name = entry?.file_name();
                if name != "target" {
                    waiting.push(path.join(name));
                }
            }
        } else if full.is_file()
            && licence::is_source(&path)
            && !GENERATED.iter().any(|made| path == Path::new(made))
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_with_each_kind_of_fault_is_found_out() {
        let top = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let gpl = "// SPDX-License-Identifier: GPL-2.0\n";
        put("kmod/vbd.rs", &format!("{gpl}#![deny(unsafe_code)]\n"));
        put(
            "kmod/sys/a.rs",
            &format!("{gpl}fn f() {{ unsafe {{ g() }} }}\n"),
        );
        put("kmod/sys/bindings_generated.rs", "unsafe fn f() {}\n");
        put("kmod/b.rs", "unsafe fn f() {}\n");
        put("xtask/target/c.rs", "no licence\n");
        put("xtask/data.bin", "no licence\n");
        let findings = tree(top.path()).unwrap();
        let places: Vec<&str> = findings
            .iter()
            .map(|line| line.split(": ").next().unwrap())
            .collect();
        assert_eq!(
            places,
            ["kmod/b.rs:1", "kmod/b.rs:1", "kmod/sys/a.rs:2"],
            "{findings:#?}"
        );
    }

    #[test]
    fn a_tree_without_sources_is_no_good_tree() {
        let top = tempfile::tempdir().unwrap();
        assert_eq!(tree(top.path()).unwrap().len(), 1);
    }
}
