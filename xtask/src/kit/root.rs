// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The toolchain root: a Debian system of the kernel's own suite.

use super::mirror::Mirror;
use super::{enter, Kit};
use crate::run::{quoted, Log};
use anyhow::Result;
use std::fs;
use std::path::Path;

/// Makes the root of `kit` with these packages, and with the stock kernel's headers, binary and
/// modules if that is the kit's kernel.
pub(super) fn make(
    kit: &Kit,
    packages: &[&str],
    cache: &Path,
    mirror: &Mirror,
    log: &Log,
) -> Result<()> {
    let mut packages: Vec<String> = packages.iter().map(ToString::to_string).collect();
    // The image package proper would pull an initramfs generator in and run its hooks; binary and
    // modules are packages of their own and do neither.
    if kit.own.is_none() {
        for part in ["headers", "binary", "modules"] {
            packages.push(format!("linux-{part}-{}", kit.release));
        }
    }
    let debs = cache.join("debs/root");
    bootstrap(&kit.root(), "apt", &packages, &debs, mirror, log)
}

/// Unpacks packages, and all that they depend on, into `root`; nothing is set up there.
pub(super) fn unpack(
    root: &Path,
    packages: &[&str],
    cache: &Path,
    mirror: &Mirror,
    log: &Log,
) -> Result<()> {
    let packages: Vec<String> = packages.iter().map(ToString::to_string).collect();
    let debs = cache.join("debs/unpacked");
    bootstrap(root, "extract", &packages, &debs, mirror, log)
}

/// Makes a Debian system; `variant` says what it has besides `packages`, as mmdebstrap names it.
fn bootstrap(
    root: &Path,
    variant: &str,
    packages: &[String],
    debs: &Path,
    mirror: &Mirror,
    log: &Log,
) -> Result<()> {
    fs::create_dir_all(debs)?;
    let mut command = enter::contained("mmdebstrap");
    command.args(["--mode=root", "--format=directory"]);
    command.arg(format!("--variant={variant}"));
    command.arg("--architectures=amd64");
    command.arg(format!("--include={}", packages.join(",")));
    command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    for path in ["doc", "info", "lintian", "locale", "man"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
    }
    // Packages that were fetched once are not fetched again: archives go in and come out.
    let outside = quoted(debs.as_os_str());
    let inside = "/var/cache/apt/archives";
    command.arg("--skip=essential/unlink");
    command.arg(format!("--setup-hook=mkdir -p \"$1\"{inside}"));
    command.arg(format!("--setup-hook=sync-in {outside} {inside}"));
    command.arg(format!("--customize-hook=sync-out {inside} {outside}"));
    command.arg(mirror.archive.suite);
    command.arg(root).args(mirror.sources());
    log.run(&mut command)
}

/// Unpacks the modules, which Debian compresses one by one: the guest's modprobe does not know
/// how, and boots are more frequent than kits.
pub(super) fn unpack_modules(kit: &Kit, log: &Log) -> Result<()> {
    let place = format!("/usr/lib/modules/{}/kernel", kit.release);
    let mut unpack = kit.command(&[], Path::new(&place), "find");
    unpack.args([
        ".",
        "-name",
        "*.ko.xz",
        "-exec",
        "xz",
        "--decompress",
        "{}",
        "+",
    ]);
    log.run(&mut unpack)?;
    log.run(kit.command(&[], Path::new("/"), "depmod").arg(&kit.release))
}
