// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The cache outside the work tree: where it is, and who may write to it.

use anyhow::{bail, Context, Result};
use rustix::fs::{flock, FlockOperation};
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The cache directory, made if missing: `$VBD_CACHE`, `$XDG_CACHE_HOME/vbd` or `~/.cache/vbd`.
pub(crate) fn directory() -> Result<PathBuf> {
    let path = |name: &str| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let directory = if let Some(own) = path("VBD_CACHE") {
        own
    } else if let Some(base) = path("XDG_CACHE_HOME") {
        base.join("vbd")
    } else if let Some(home) = path("HOME") {
        home.join(".cache/vbd")
    } else {
        bail!("no place for the cache: set VBD_CACHE or HOME");
    };
    fs::create_dir_all(&directory)
        .and_then(|()| fs::canonicalize(&directory))
        .with_context(|| format!("cannot make the cache {}", directory.display()))
}

/// A file lock; the system drops it with the process, however that ends.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until no other xtask holds the lock at `path`, and says that it waits for `what`.
    pub(crate) fn take(path: &Path, what: &str) -> Result<Lock> {
        let file = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("waiting for another xtask that {what}");
            flock(&file, FlockOperation::LockExclusive)
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Lock { _file: file })
    }
}

/// Removes a directory tree, unless something is mounted in it.
///
/// A mount that an interrupted run left behind could lead out of the tree, and what it leads to
/// would be removed too.
pub(crate) fn remove_tree(tree: &Path) -> Result<()> {
    if !tree.exists() {
        return Ok(());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")?;
    if let Some(mount) = mounts_below(&mounts, tree).first() {
        bail!("{mount} is still mounted, so its tree is not removed: umount it and run again");
    }
    fs::remove_dir_all(tree).with_context(|| format!("cannot remove {}", tree.display()))
}

/// The mount points of `mountinfo` (the kernel's format) that lie in `tree`.
fn mounts_below(mountinfo: &str, tree: &Path) -> Vec<String> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let points = points.map(|point| point.replace(r"\040", " "));
    points
        .filter(|point| Path::new(point).starts_with(tree))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_in_a_tree_are_found_and_its_namesakes_are_not() {
        let info = "22 1 0:20 / / rw - ext4 /dev/vda rw\n\
                    30 22 0:5 / /c/root/dev rw - devtmpfs dev rw\n\
                    31 22 0:6 / /c/rootless rw - tmpfs tmp rw\n\
                    32 22 0:7 / /c/root/a\\040b rw - tmpfs tmp rw\n";
        let found = mounts_below(info, Path::new("/c/root"));
        assert_eq!(found, ["/c/root/dev", "/c/root/a b"]);
    }
}
