// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! File systems on disks of vbd: each is made twice from a directory tree that grew meanwhile, and the
//! second image becomes a layer on top of the first.

use super::guest::TOOLS;
use super::layers::Layers;
use super::Place;
use crate::test::steps::Step;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file system, and what its own programs are called.
pub(super) struct FileSystem {
    pub(super) name: &'static str,
    /// Bytes of the image that mkfs is given; nothing for one that makes it as long as it has to be.
    size: Option<u64>,
    /// Makes it; `TREE`, `PROTO` and `IMAGE` stand for paths.
    mkfs: &'static [&'static str],
    /// Checks a disk and changes nothing.
    check: &'static [&'static str],
    /// Bytes of the image that the checker misses when they are zero: place and length.
    vital: (u64, u64),
}

pub(super) const FILE_SYSTEMS: &[FileSystem] = &[
    FileSystem {
        name: "ext4",
        size: Some(192 << 20),
        mkfs: &["/usr/sbin/mkfs.ext4", "-q", "-d", "TREE", "IMAGE"],
        check: &["/usr/sbin/e2fsck", "-f", "-n"],
        vital: (128 << 10, 4 << 20),
    },
    FileSystem {
        name: "xfs",
        // Less is refused.
        size: Some(320 << 20),
        mkfs: &["/usr/sbin/mkfs.xfs", "-q", "-f", "-p", "PROTO", "IMAGE"],
        check: &["/usr/sbin/xfs_repair", "-n"],
        vital: (80 << 20, 64 << 10),
    },
    FileSystem {
        name: "erofs",
        size: None,
        mkfs: &["/usr/bin/mkfs.erofs", "--quiet", "-zlz4hc", "IMAGE", "TREE"],
        check: &["/usr/bin/fsck.erofs", "--extract"],
        vital: (8 << 20, 1 << 20),
    },
    FileSystem {
        name: "btrfs",
        size: Some(256 << 20),
        mkfs: &[
            "/usr/sbin/mkfs.btrfs",
            "-q",
            "-f",
            "--rootdir",
            "TREE",
            "IMAGE",
        ],
        check: &["/usr/bin/btrfs", "check", "--readonly", "--check-data-csum"],
        vital: (16 << 20, 32 << 20),
    },
];

/// The program that the tree holds, with all that it loads; and those that it gets later.
pub(super) const READER: &str = "/usr/bin/stress-ng";
const LATER: &[&str] = &["/usr/sbin/e2fsck", "/usr/bin/btrfs"];

/// How the layers are stored, bottom first.
const FORMATS: [&[&str]; 2] = [&["-f", "lz4"], &["-f", "zstd", "-b", "64K"]];

impl FileSystem {
    /// Makes its stack from trees of programs; the names of the layers, bottom first, and of one more
    /// that damages it.
    pub(super) fn stack(
        &self,
        place: &Place,
        layers: &Layers,
        step: &Step,
        trees: &[PathBuf],
    ) -> Result<(Vec<String>, String)> {
        let damaged = format!("{}-damaged", self.name);
        let mut stack = Vec::new();
        for (number, tree) in trees.iter().enumerate() {
            let name = format!("{}-{number}", self.name);
            let image = match self.size {
                Some(bytes) => layers.image(&name, bytes)?,
                None => layers.directory.join(&name),
            };
            let proto = layers.directory.join("proto");
            fs::write(&proto, prototype(tree)?)?;
            let (program, words) = self.mkfs.split_first().context("no mkfs")?;
            let mut mkfs = place.tools.command(&layers.directory, program);
            for word in words {
                match *word {
                    "TREE" => mkfs.arg(tree),
                    "PROTO" => mkfs.arg(&proto),
                    "IMAGE" => mkfs.arg(&image),
                    word => mkfs.arg(word),
                };
            }
            step.run(&mut mkfs)?;
            layers.create(&name, &name, FORMATS[number % FORMATS.len()], &stack)?;
            stack.push(name);
            if stack.len() == trees.len() {
                let (at, length) = self.vital;
                let zeroes = vec![0; usize::try_from(length)?];
                let file = File::options().write(true).open(&image)?;
                file.write_all_at(&zeroes, at)?;
                let name = stack.last().context("no layer")?;
                layers.create(name, &damaged, FORMATS[0], &stack)?;
            }
            fs::remove_file(&image)?;
        }
        Ok((stack, damaged))
    }

    /// The check as text for the guest's shell.
    pub(super) fn check_text(&self) -> String {
        format!("chroot {TOOLS} {} /dev/vbd0", self.check.join(" "))
    }
}

/// The trees that file systems are made of, the later one with more in it.
pub(super) fn trees(place: &Place, layers: &Layers) -> Result<Vec<PathBuf>> {
    let mut programs = vec![READER];
    let mut trees = Vec::new();
    for (number, more) in [&[], LATER].iter().enumerate() {
        programs.extend_from_slice(more);
        let tree = layers.directory.join(format!("tree-{number}"));
        place.tools.copy(&programs, &tree)?;
        trees.push(tree);
    }
    Ok(trees)
}

/// A tree as mkfs.xfs takes it: nested lists of names, modes, owners and where the content is.
fn prototype(tree: &Path) -> Result<String> {
    let mut text = "/none\n0 0\nd--755 0 0\n".to_string();
    list(tree, &mut text)?;
    text.push_str("$\n");
    Ok(text)
}

fn list(directory: &Path, text: &mut String) -> Result<()> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let metadata = fs::symlink_metadata(&path)?;
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_symlink() {
            let target = fs::read_link(&path)?;
            writeln!(text, "{name} l--777 0 0 {}", target.display())?;
        } else if metadata.is_dir() {
            writeln!(text, "{name} d--{mode:03o} 0 0")?;
            list(&path, text)?;
            writeln!(text, "$")?;
        } else {
            writeln!(text, "{name} ---{mode:03o} 0 0 {}", path.display())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn prototypes_are_nested_lists() {
        let tree = tempfile::tempdir().unwrap();
        let path = |name: &str| tree.path().join(name);
        fs::create_dir(path("usr")).unwrap();
        fs::set_permissions(path("usr"), PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(path("usr/a"), "x").unwrap();
        fs::set_permissions(path("usr/a"), PermissionsExt::from_mode(0o640)).unwrap();
        symlink("usr", path("bin")).unwrap();
        let expected = format!(
            "/none\n0 0\nd--755 0 0\nbin l--777 0 0 usr\nusr d--755 0 0\na ---640 0 0 {}\n$\n$\n",
            path("usr/a").display()
        );
        assert_eq!(prototype(tree.path()).unwrap(), expected);
    }
}
