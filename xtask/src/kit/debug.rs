// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Kernels of our own: some check themselves, one is User-Mode Linux.
//!
//! They are built from the very source package of the stock kernel, in a root of the same suite,
//! so a module that is right for one is right for the other; the stock kernel stays what counts.
//! Nothing here needs the stock kernel's symbol comparison: the Rust metadata come from the same
//! build as the kernel.

use super::config::{self, Wanted};
use super::Kit;
use crate::run::{self, Log};
use anyhow::{bail, Context, Result};
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the kernel is built with, besides what every kit has.
const PACKAGES: &[&str] = &["bc", "bison", "flex", "gcc", "libelf-dev", "libssl-dev"];

/// KASAN and Rust go together only with LLVM.
const LLVM: &[&str] = &["clang", "lld", "llvm"];

/// What User-Mode Linux is built from besides the source package.
const CRC: &str = include_str!("../../kernel/uml-crc32.patch");

/// Parts of the source tree that modules are built with; the rest goes once the kernel is built.
const KEPT: &[&str] = &[
    ".config",
    "Kconfig",
    "Makefile",
    "Module.symvers",
    "System.map",
    "arch",
    "include",
    "rust",
    "scripts",
    "tools",
];

/// A kernel of our own.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Debug {
    /// Locks, sleeping, objects, lists, bounds; fault injection. Quick enough for every run
    Light,
    /// KASAN and kmemleak besides; several times slower
    Kasan,
    /// User-Mode Linux: a program of the host, for times
    #[value(skip)]
    Uml,
}

impl Debug {
    /// As part of file names and of the kernel's release.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Debug::Light => "light",
            Debug::Kasan => "kasan",
            Debug::Uml => "uml",
        }
    }

    /// The option that chooses it.
    pub(super) fn option(self) -> String {
        match self {
            Debug::Uml => "--uml".to_string(),
            Debug::Light | Debug::Kasan => format!("--debug={}", self.name()),
        }
    }

    /// How many times longer than on the stock kernel things may take.
    pub(crate) fn slowness(self) -> u32 {
        match self {
            Debug::Light => 4,
            Debug::Kasan => 12,
            Debug::Uml => 1,
        }
    }

    /// Arguments of every make with this kernel's tree, its own and that of modules.
    pub(crate) fn make_arguments(self) -> &'static [&'static str] {
        match self {
            Debug::Light => &[],
            Debug::Kasan => &["LLVM=1"],
            // Else rustc addresses symbols of other objects through relocations that the loader of
            // modules does not know.
            Debug::Uml => &[
                "ARCH=um",
                "RUSTFLAGS_MODULE=-Zdirect-access-external-data=yes",
            ],
        }
    }

    /// The parts of the configuration; what stands in a later one holds.
    fn fragments(self) -> Vec<&'static str> {
        let base = include_str!("../../kernel/base.config");
        let light = include_str!("../../kernel/light.config");
        let kasan = include_str!("../../kernel/kasan.config");
        match self {
            Debug::Light => vec![base, light],
            Debug::Kasan => vec![base, light, kasan],
            Debug::Uml => vec![base, include_str!("../../kernel/uml.config")],
        }
    }

    /// Packages of the root besides those of every kit.
    pub(super) fn packages(self) -> Vec<&'static str> {
        match self {
            Debug::Light => PACKAGES.to_vec(),
            Debug::Kasan => [PACKAGES, LLVM].concat(),
            Debug::Uml => [PACKAGES, &["patch"]].concat(),
        }
    }

    /// What the source is changed by, as a unified diff.
    fn patch(self) -> Option<&'static str> {
        (self == Debug::Uml).then_some(CRC)
    }

    /// The file that boots, in the tree.
    fn image(self) -> &'static str {
        match self {
            Debug::Light | Debug::Kasan => "arch/x86/boot/bzImage",
            Debug::Uml => "linux",
        }
    }

    /// Directories of `arch` that modules are built with.
    fn architectures(self) -> &'static [&'static str] {
        match self {
            Debug::Light | Debug::Kasan => &["x86"],
            Debug::Uml => &["um", "x86"],
        }
    }

    /// Everything besides the package list that decides what comes out of a build.
    pub(super) fn recipe(self) -> Vec<&'static str> {
        let patch = self.patch().into_iter().collect();
        [self.fragments(), self.make_arguments().to_vec(), patch].concat()
    }

    /// The release of this kernel of a package version such as `7.2.12-1~bpo13+1`.
    pub(super) fn release(self, version: &str) -> String {
        let upstream = version.split('-').next().unwrap_or(version);
        format!("{upstream}{}", self.suffix())
    }

    fn suffix(self) -> String {
        format!("-vbd-{}", self.name())
    }
}

/// Builds and installs the kernel into the root of `kit` from the package at `source`.
pub(super) fn make(kit: &Kit, debug: Debug, source: &Path, log: &Log) -> Result<()> {
    let build = Build { kit, debug, log };
    log.step("unpack the kernel's source", || build.unpack(source))?;
    log.step("configure the kernel", || build.configure())?;
    let (image, time) = match debug {
        Debug::Light | Debug::Kasan => ("bzImage", "a quarter of an hour and more"),
        Debug::Uml => ("linux", "five minutes and more"),
    };
    log.step(&format!("build the kernel ({time})"), || {
        build.log.run(build.make().args([image, "modules"]))
    })?;
    log.step("install the kernel", || build.install())?;
    log.step("keep only what modules are built with", || build.prune())
}

struct Build<'a> {
    kit: &'a Kit,
    debug: Debug,
    log: &'a Log,
}

impl Build<'_> {
    /// The source tree, in which the kernel is built, as the host sees it.
    fn tree(&self) -> PathBuf {
        self.kit.root().join(&self.kit.kdir()[1..])
    }

    fn inside(&self, program: &str) -> Command {
        let tree = self.kit.kdir();
        self.kit.command(&[], Path::new(&tree), program)
    }

    fn make(&self) -> Command {
        // The machine stays usable in the meantime.
        let mut make = self.inside("nice");
        make.args(["-n", "10", "make", "--no-print-directory"]);
        make.arg(run::jobs()).args(self.debug.make_arguments());
        make.args(["KBUILD_BUILD_USER=vbd", "KBUILD_BUILD_HOST=xtask"]);
        make
    }

    fn unpack(&self, source: &Path) -> Result<()> {
        fs::create_dir_all(self.tree())?;
        let directory = source
            .parent()
            .context("the source package has no directory")?;
        let tree = self.kit.kdir();
        let inside = |program: &str| self.kit.command(&[directory], Path::new(&tree), program);
        let mut package = inside("dpkg-deb");
        package.arg("--fsys-tarfile").arg(source);
        let mut archive = inside("tar");
        archive.args(["-xO", &format!("./usr/src/{}.tar.xz", self.kit.source()?)]);
        let mut files = inside("tar");
        files.args(["--strip-components=1", "-xJ"]);
        self.log.pipeline(&mut [package, archive, files])?;
        let Some(text) = self.debug.patch() else {
            return Ok(());
        };
        fs::write(self.tree().join("vbd.patch"), text)?;
        let mut patch = self.inside("patch");
        self.log
            .run(patch.args(["-p1", "--fuzz=0", "-i", "vbd.patch"]))
    }

    fn configure(&self) -> Result<()> {
        let name = format!("CONFIG_LOCALVERSION=\"{}\"\n", self.debug.suffix());
        let wanted: String = self.debug.fragments().join("\n") + "\n" + &name;
        self.log.run(self.make().arg("tinyconfig"))?;
        let path = self.tree().join(".config");
        let tiny = fs::read_to_string(&path)?;
        fs::write(&path, tiny + &wanted)?;
        self.log.run(self.make().arg("olddefconfig"))?;
        let refused = Wanted::parse(&wanted).refused_by(&fs::read_to_string(&path)?);
        if !refused.is_empty() {
            bail!(
                "the kernel's configuration did not take {}: correct xtask/kernel/*.config",
                config::shown(&refused)
            );
        }
        // The name of the release is taken from what the build reads, not from `.config`.
        self.log.run(self.make().arg("syncconfig"))?;
        let release = run::stdout(self.make().args(["-s", "kernelrelease"]))?;
        if release.trim() != self.kit.release {
            bail!(
                "the source is of kernel {}, not {}",
                release.trim(),
                self.kit.release
            );
        }
        Ok(())
    }

    fn install(&self) -> Result<()> {
        let mut install = self.make();
        install.args(["INSTALL_MOD_PATH=/usr", "modules_install"]);
        self.log.run(&mut install)?;
        let kernel = self.tree().join(self.debug.image());
        let target = self.kit.root().join(&self.kit.kernel()[1..]);
        fs::copy(&kernel, &target)
            .with_context(|| format!("cannot copy {} to its place", kernel.display()))?;
        Ok(())
    }

    fn prune(&self) -> Result<()> {
        for entry in fs::read_dir(self.tree())? {
            let entry = entry?;
            let name = entry.file_name();
            if KEPT.iter().any(|kept| name == *kept) {
                continue;
            }
            let gone = if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())
            } else {
                fs::remove_file(entry.path())
            };
            gone.with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
        for entry in fs::read_dir(self.tree().join("arch"))? {
            let entry = entry?;
            let mut kept = self.debug.architectures().iter();
            if entry.file_type()?.is_dir() && !kept.any(|kept| entry.file_name() == *kept) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let mut objects = self.inside("find");
        objects.args([".", "-type", "f", "("]);
        objects.args(["-name", "*.o", "-o", "-name", "*.a", "-o", "-name", "*.cmd"]);
        objects.args(["-o", "-name", "*Image*", "-o", "-name", "vmlinux*"]);
        self.log.run(objects.args([")", "-delete"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_the_upstream_version_and_the_kind() {
        assert_eq!(Debug::Light.release("7.2.12-1~bpo13+1"), "7.2.12-vbd-light");
        assert_eq!(Debug::Kasan.release("7.2-1"), "7.2-vbd-kasan");
        assert_eq!(Debug::Uml.release("7.2-1"), "7.2-vbd-uml");
    }

    #[test]
    fn the_kinds_are_told_apart_by_their_recipes() {
        assert_ne!(Debug::Light.recipe(), Debug::Kasan.recipe());
        assert_ne!(Debug::Light.packages(), Debug::Kasan.packages());
    }

    #[test]
    fn the_checks_that_tests_rely_on_are_asked_for() {
        let text = Debug::Light.fragments().join("\n");
        let light = Wanted::parse(&text);
        for name in [
            "CONFIG_PROVE_LOCKING",
            "CONFIG_PROVE_RCU",
            "CONFIG_DEBUG_ATOMIC_SLEEP",
            "CONFIG_FAILSLAB",
            "CONFIG_FAIL_PAGE_ALLOC",
            "CONFIG_BLK_ERROR_INJECTION",
        ] {
            assert_eq!(light.value(name), Some("y"), "{name}");
        }
        assert_eq!(light.value("CONFIG_KASAN"), None);
        let text = Debug::Kasan.fragments().join("\n");
        let kasan = Wanted::parse(&text);
        assert_eq!(kasan.value("CONFIG_KASAN"), Some("y"));
        assert_eq!(kasan.value("CONFIG_DEBUG_KMEMLEAK_DEFAULT_OFF"), None);
    }
}
