// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Rust metadata of the stock kernel.
//!
//! Debian's headers packages carry no `rust/`, so it is built again from the kernel's source with
//! the kernel's own configuration and compiler. Symbol names hash the crate name and the compiler
//! version, so the names that come out must be the very names that the stock kernel exports.

use super::Kit;
use crate::run::Log;
use anyhow::{bail, Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where the metadata is built; a path inside the root.
const WORK: &str = "/usr/src/rust-metadata";

/// Builds the metadata from the package at `source` and installs it into the headers tree.
pub(super) fn make(kit: &Kit, source: &Path, log: &Log) -> Result<()> {
    let places = Places::of(kit)?;
    log.step("unpack the kernel's rust/", || {
        unpack(kit, &places, source, log)
    })?;
    log.step("build the Rust metadata", || build(kit, &places, log))?;
    log.step("compare its symbols with the stock kernel's", || {
        let work = kit.root().join(&WORK[1..]).join("obj/rust");
        let stock = kit.root().join(&kit.kdir()[1..]).join("Module.symvers");
        compare(&our_symbols(&work)?, &stock_symbols(&stock)?)
    })?;
    log.step("install it into the headers tree", || {
        install(kit, &places, log)
    })
}

/// The packages' directories, as paths inside the root.
struct Places {
    headers: String,
    common: String,
    kbuild: String,
}

impl Places {
    fn of(kit: &Kit) -> Result<Places> {
        let (version, _) = kit
            .release
            .split_once('-')
            .context("a release has no flavour")?;
        Ok(Places {
            headers: kit.kdir(),
            common: format!("/usr/src/linux-headers-{version}-common"),
            kbuild: format!("/usr/lib/linux-kbuild-{version}"),
        })
    }
}

/// Lays out a source tree of the few parts that `rust/` needs, and an object tree beside it.
fn unpack(kit: &Kit, places: &Places, source: &Path, log: &Log) -> Result<()> {
    let work = kit.root().join(&WORK[1..]);
    fs::create_dir_all(work.join("src"))?;
    fs::create_dir_all(work.join("obj"))?;
    let directory = source
        .parent()
        .context("the source package has no directory")?;
    let name = kit.source()?;
    let inside = |program: &str| kit.command(&[directory], Path::new(WORK), program);

    let mut package = inside("dpkg-deb");
    package.arg("--fsys-tarfile").arg(source);
    let mut archive = inside("tar");
    archive.args(["-xO", &format!("./usr/src/{name}.tar.xz")]);
    let mut tree = inside("tar");
    tree.args(["-C", "src", "--strip-components=1", "-xJ"]);
    tree.args(
        [
            "rust",
            "drivers/base/base.h",
            "scripts/generate_rust_target.rs",
        ]
        .map(|path| format!("{name}/{path}")),
    );
    tree.arg(format!(
        "{name}/scripts/rust_is_available_bindgen_libclang.h"
    ));
    log.pipeline(&mut [package, archive, tree])?;

    // Real copies: one file includes another by a path relative to where it really is.
    let copy = |from: &str, names: &[&str], to: &str| {
        let mut command = inside("cp");
        command.args(["--archive", "--update=none"]);
        command.args(names.iter().map(|name| format!("{from}/{name}")));
        log.run(command.arg(to))
    };
    copy(&places.common, &["arch", "include", "Makefile"], "src/")?;
    copy(&places.kbuild, &["scripts"], "src/")?;
    copy(
        &places.headers,
        &[".config", ".kernelvariables", "include", "arch"],
        "obj/",
    )?;
    copy(&places.kbuild, &["scripts", "tools"], "obj/")?;

    // No configuration step may run, for want of the Kconfig files: the configuration is made
    // older than what was generated from it.
    fs::write(work.join("obj/include/config/auto.conf.cmd"), "")?;
    log.run(inside("touch").args(["--date=@0", "obj/.config"]))?;
    fs::write(work.join("obj/metadata.mk"), makefile(places))?;
    Ok(())
}

fn makefile(places: &Places) -> String {
    format!(
        "include {headers}/.kernelvariables\n\
         include {WORK}/src/Makefile\n\
         metadata:\n\
         \t$(Q)$(HOSTRUSTC) $(KBUILD_HOSTRUSTFLAGS) --out-dir scripts --emit=link \
         $(srctree)/scripts/generate_rust_target.rs\n\
         \tscripts/generate_rust_target < include/config/auto.conf > scripts/target.json\n\
         \t+$(Q)$(MAKE) $(build)=rust\n",
        headers = places.headers
    )
}

fn build(kit: &Kit, _places: &Places, log: &Log) -> Result<()> {
    let object = format!("{WORK}/obj");
    let mut make = kit.command(&[], Path::new(&object), "make");
    make.arg(crate::run::jobs()).arg("--no-print-directory");
    log.run(make.args(["-f", "metadata.mk", "metadata"]))
}

/// The symbols that the rebuilt crates export.
fn our_symbols(rust: &Path) -> Result<BTreeSet<String>> {
    let mut symbols = BTreeSet::new();
    for entry in fs::read_dir(rust).with_context(|| rust.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("exports_") && name.ends_with("_generated.h") {
            let text = fs::read_to_string(&path)?;
            let lines = text.lines().map(str::trim);
            let exports = lines.filter_map(|line| {
                line.strip_prefix("EXPORT_SYMBOL_RUST_GPL(")?
                    .strip_suffix(");")
            });
            symbols.extend(exports.map(str::to_string));
        }
    }
    Ok(symbols)
}

/// The symbols that the stock kernel and its modules export.
fn stock_symbols(symvers: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(symvers).with_context(|| symvers.display().to_string())?;
    let names = text.lines().filter_map(|line| line.split('\t').nth(1));
    Ok(names.map(str::to_string).collect())
}

/// Refuses metadata that names a symbol the kernel lacks, or lacks one that the kernel has.
fn compare(ours: &BTreeSet<String>, stock: &BTreeSet<String>) -> Result<()> {
    let rust = |name: &&String| name.starts_with("_R") || name.starts_with("rust_helper_");
    let added: Vec<&String> = ours.difference(stock).collect();
    let lost: Vec<&String> = stock.difference(ours).filter(rust).collect();
    if ours.is_empty() {
        bail!("the rebuilt crates export nothing: the metadata is not usable");
    }
    if !added.is_empty() || !lost.is_empty() {
        let some = |names: &[&String]| {
            let first: Vec<&str> = names.iter().take(3).map(|name| name.as_str()).collect();
            format!("{} ({})", names.len(), first.join(", "))
        };
        bail!(
            "the rebuilt Rust metadata is not the stock kernel's: only in ours {}, only in stock \
             {}; the compiler differs from the kernel's own",
            some(&added),
            some(&lost)
        );
    }
    Ok(())
}

fn install(kit: &Kit, places: &Places, log: &Log) -> Result<()> {
    let object = format!("{WORK}/obj");
    let inside = |program: &str| kit.command(&[], Path::new(&object), program);
    let rust = kit.root().join(&object[1..]).join("rust");
    let mut metadata = Vec::new();
    let mut libraries = Vec::new();
    for entry in fs::read_dir(&rust)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rmeta") {
            metadata.push(format!("rust/{name}"));
        } else if name.starts_with("lib") && name.ends_with(".so") {
            libraries.push(format!("rust/{name}"));
        }
    }
    log.run(inside("strip").arg("-g").args(&libraries))?;
    let target = format!("{}/rust/", places.headers);
    log.run(inside("mkdir").arg("-p").arg(format!("{target}kernel")))?;
    log.run(inside("cp").args(&metadata).args(&libraries).arg(&target))?;
    let generated: Vec<String> = fs::read_dir(rust.join("kernel"))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("generated_arch_") && name.ends_with(".rs"))
        .map(|name| format!("rust/kernel/{name}"))
        .collect();
    log.run(
        inside("cp")
            .args(&generated)
            .arg(format!("{target}kernel/")),
    )?;
    let scripts = format!("{}/scripts/", places.headers);
    log.run(inside("cp").arg("scripts/target.json").arg(scripts))?;
    log.run(kit.command(&[], Path::new("/"), "rm").args(["-r", WORK]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_rust_symbols_have_to_agree() {
        let ours = set(&["_RNvA", "rust_helper_get_page"]);
        compare(&ours, &set(&["_RNvA", "printk", "rust_helper_get_page"])).unwrap();
        let missing = compare(&ours, &set(&["_RNvA", "printk"]))
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("only in ours 1 (rust_helper_get_page)"),
            "{missing}"
        );
        let foreign = set(&["_RNvA", "_RNvB", "rust_helper_get_page"]);
        let lost = compare(&ours, &foreign).unwrap_err().to_string();
        assert!(lost.contains("only in stock 1 (_RNvB)"), "{lost}");
        assert!(compare(&set(&[]), &set(&[])).is_err());
    }
}
