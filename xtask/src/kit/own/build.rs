// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Making a kernel of our own: configured, built and installed in the kit's root.

use super::super::config::{self, Wanted};
use super::super::Kit;
use super::Own;
use crate::run::{self, Log};
use anyhow::{bail, Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Builds and installs the kernel into the root of `kit` from the package at `source`.
pub(in crate::kit) fn make(kit: &Kit, own: Own, source: &Path, log: &Log) -> Result<()> {
    let build = Build { kit, own, log };
    log.step("unpack the kernel's source", || build.unpack(source))?;
    log.step("configure the kernel", || build.configure())?;
    log.step(&format!("build the kernel ({})", own.build_time()), || {
        build.log.run(build.make().args([own.image().0, "modules"]))
    })?;
    log.step("install the kernel", || build.install())?;
    log.step("keep only what modules are built with", || build.prune())
}

struct Build<'a> {
    kit: &'a Kit,
    own: Own,
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
        make.arg(run::jobs()).args(self.own.make_arguments());
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
        for text in self.own.patches() {
            fs::write(self.tree().join("vbd.patch"), text)?;
            let mut patch = self.inside("patch");
            self.log
                .run(patch.args(["-p1", "--fuzz=0", "-i", "vbd.patch"]))?;
        }
        Ok(())
    }

    fn configure(&self) -> Result<()> {
        let name = format!("CONFIG_LOCALVERSION=\"{}\"\n", self.own.suffix());
        let wanted: String = self.own.fragments().join("\n") + "\n" + &name;
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
        let kernel = self.tree().join(self.own.image().1);
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
            let mut kept = self.own.architectures().iter();
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
