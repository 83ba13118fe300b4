// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the host has to be, and the few packages it has to have.

use crate::run::{self, Log};
use anyhow::{bail, Context, Result};
use std::fs;
use std::process::Command;

/// Host packages: name, program that shows it is there, and what it is for.
const PACKAGES: &[(&str, &str, &str)] = &[
    (
        "mmdebstrap",
        "mmdebstrap",
        "makes the toolchain root from Debian packages",
    ),
    (
        "util-linux",
        "unshare",
        "keeps the root's mounts and processes apart from the host's",
    ),
    (
        "util-linux",
        "setpriv",
        "ends what runs in the root together with xtask",
    ),
];

/// Refuses a machine on which the kit cannot be made, and says why.
pub(super) fn check_machine() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!(
            "the kit's kernel is an amd64 one: this machine is {}",
            std::env::consts::ARCH
        );
    }
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let debian = release
        .lines()
        .any(|line| line == "ID=debian" || line.starts_with("ID_LIKE=debian"));
    if !debian {
        bail!("the kit is made with Debian's tools: run xtask on Debian 12 or later");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("the kit needs chroot and mount: run xtask as root");
    }
    Ok(())
}

/// Installs the host packages that are missing, after saying what and why.
pub(super) fn install_missing(log: &Log) -> Result<()> {
    let mut missing: Vec<&str> = Vec::new();
    for (package, program, purpose) in PACKAGES {
        if !in_path(program) {
            eprintln!("kit: this machine lacks {program}; installing {package}, which {purpose}");
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    missing.dedup();
    log.step(
        &format!("install {} on this machine", missing.join(", ")),
        || {
            let mut update = Command::new("apt-get");
            log.run(update.args(["update", "--quiet"]))?;
            let mut install = Command::new("apt-get");
            install.args(["install", "--quiet", "--yes", "--no-install-recommends"]);
            log.run(
                install
                    .args(&missing)
                    .env("DEBIAN_FRONTEND", "noninteractive"),
            )
        },
    )
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// The codename of the host's Debian release, such as `bookworm`.
pub(super) fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name
        .context("/etc/os-release has no VERSION_CODENAME")?
        .to_string())
}

/// The package sources that apt knows on this host: suite, component and address of each.
pub(super) fn sources() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args([
        "indextargets",
        "--format",
        "$(RELEASE) $(COMPONENT) $(REPO_URI)",
    ]);
    run::stdout(command.arg("Created-By: Packages"))
}
