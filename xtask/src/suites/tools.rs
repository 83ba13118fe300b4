// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The programs of others, from Debian packages in a root of their own.
//!
//! They are not in the kit's root: a longer list there would make everybody's kit anew.

use crate::kit::{self, enter};
use crate::run::{self, Log};
use crate::{cache, vm};
use anyhow::{bail, Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGES: &[&str] = &[
    "bash",
    "btrfs-progs",
    "cryptsetup-bin",
    "e2fsprogs",
    "erofs-utils",
    "fio",
    "libc-bin",
    "lvm2",
    "mdadm",
    "perl-base",
    "stress-ng",
    "xfsprogs",
];

/// Directories at the top of a tree that something is mounted on.
const MOUNT_POINTS: &[&str] = &["dev", "mnt", "proc", "sys", "tmp"];

/// The root.
pub(super) struct Tools {
    root: PathBuf,
}

impl Tools {
    /// Opens the root, or makes it first.
    pub(super) fn prepare() -> Result<Tools> {
        let cache = cache::directory()?;
        let place = cache.join("suites");
        fs::create_dir_all(&place)?;
        let _lock = cache::Lock::take(&place.join("lock"), "makes the suites' tools")?;
        let root = place.join(format!("root-{:08x}", kit::recipe(PACKAGES)));
        if !root.is_dir() {
            let log = Log::create(&place.join("tools.log"), "suites")?;
            let partial = place.join("partial");
            cache::remove_tree(&partial)?;
            log.step("unpack the suites' tools from Debian packages", || {
                kit::unpack_packages(&partial, PACKAGES, &log)
            })?;
            fs::rename(&partial, &root).with_context(|| root.display().to_string())?;
        }
        Ok(Tools { root })
    }

    /// A program of the root that sees `directory` of the host, and starts there.
    pub(super) fn command(&self, directory: &Path, program: &str) -> Command {
        enter::command(&self.root, &[directory], directory, program.as_ref())
    }

    /// Programs and the libraries that they load, by their paths in the root.
    pub(super) fn with_libraries(&self, programs: &[&str]) -> Result<BTreeSet<String>> {
        if programs.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut ldd = enter::command(&self.root, &[], Path::new("/"), "ldd".as_ref());
        let mut files = vm::libraries(&run::stdout(ldd.args(programs))?);
        if files.is_empty() {
            bail!("ldd named no library of {}", programs.join(", "));
        }
        files.extend(programs.iter().map(ToString::to_string));
        Ok(files)
    }

    /// A file of the root, as the host sees it.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Copies programs and their libraries to `tree`, so that they run with it as their root.
    pub(super) fn copy(&self, programs: &[&str], tree: &Path) -> Result<()> {
        for name in MOUNT_POINTS {
            fs::create_dir_all(tree.join(name))?;
        }
        for path in self.with_libraries(programs)? {
            let target = tree.join(path.trim_start_matches('/'));
            fs::create_dir_all(target.parent().context("a file has no directory")?)?;
            fs::copy(self.file(&path), &target).with_context(|| format!("cannot copy {path}"))?;
        }
        for name in ["bin", "lib", "lib64", "sbin"] {
            let link = tree.join(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(format!("usr/{name}"), link)?;
            }
        }
        Ok(())
    }
}
