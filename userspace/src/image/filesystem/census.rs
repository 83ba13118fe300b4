// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What a directory holds: how large a file system of it has to be, and whether it can be one.

use crate::error::{Error, Result};
use crate::image::input;
use rustix::fs::{lgetxattr_query, llistxattr, seek, statfs, SeekFrom};
use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Bytes in a block of the file systems.
const BLOCK: u64 = 4096;

/// Bytes of an inode, and how many of them extended attributes can have.
const INODE: u64 = 256;
const INLINE_ATTRIBUTES: usize = 92;

/// Bytes of an attribute besides its name and value.
const ATTRIBUTE: usize = 16;

/// Longest symbolic link that an inode holds.
const INLINE_LINK: u64 = 59;

/// Extents that an inode holds, and how many a block of them does.
const INLINE_EXTENTS: u64 = 4;
const EXTENTS: u64 = 340;

/// File systems that hold no files but views of the running kernel, some without an end.
const VIEWS: [(u32, &str); 21] = [
    (0x0000_9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x6265_6570, "configfs"),
    (0x0000_1cd1, "devpts"),
    (0xcafe_4a11, "bpf"),
    (0x6165_676c, "pstore"),
    (0xde5e_81e4, "efivarfs"),
    (0x1980_0202, "mqueue"),
    (0x9584_58f6, "hugetlbfs"),
    (0x0000_0187, "autofs"),
    (0x4249_4e4d, "binfmt_misc"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x6e73_6673, "nsfs"),
    (0x6759_6969, "rpc_pipefs"),
    (0x6573_5543, "fusectl"),
];

/// What a directory holds.
#[derive(Default)]
pub(super) struct Census {
    /// Files, directories and others, a file with several names once.
    inodes: u64,
    /// Bytes of whole file system blocks.
    bytes: u64,
    /// Whether other file systems are mounted in it.
    pub(super) mounts: bool,
}

impl Census {
    /// Walks through `top`; what is mounted in it is left out with `one_file_system`, and counted as
    /// an empty directory.
    pub(super) fn take(top: &Path, one_file_system: bool) -> Result<Self> {
        let mut census = Self::default();
        let found = fs::symlink_metadata(top.join(".")).map_err(Error::io(top, "cannot read"))?;
        let home = found.dev();
        let mut views = HashMap::new();
        if let Some(view) = view(top, home, &mut views) {
            return Err(Error::unfit(
                top,
                format!("is a {view} file system, which holds no files"),
            ));
        }
        census.attributes(top);
        let mut linked = HashSet::new();
        let mut left = vec![top.to_owned()];
        while let Some(dir) = left.pop() {
            let failed = || Error::io(&dir, "cannot read");
            let mut names = 0;
            for entry in fs::read_dir(&dir).map_err(failed())? {
                let entry = entry.map_err(failed())?;
                let path = entry.path();
                let found = fs::symlink_metadata(&path).map_err(Error::io(&path, "cannot read"))?;
                names += (8 + entry.file_name().as_bytes().len() as u64).next_multiple_of(4);
                if found.dev() != home {
                    census.mounts = true;
                    if one_file_system {
                        census.inodes += 1;
                        census.bytes += BLOCK;
                        continue;
                    }
                    if let Some(view) = view(&path, found.dev(), &mut views) {
                        let reason = format!(
                            "is a {view} file system, which holds no files; --one-file-system leaves it out"
                        );
                        return Err(Error::unfit(&path, reason));
                    }
                }
                if found.is_dir() {
                    left.push(path.clone());
                } else if found.nlink() > 1 && !linked.insert((found.dev(), found.ino())) {
                    continue;
                }
                census.inodes += 1;
                census.attributes(&path);
                census.bytes += contents(&path, &found)?;
            }
            census.bytes += (names + names / 8).next_multiple_of(BLOCK).max(BLOCK);
        }
        Ok(census)
    }

    /// Counts the block for attributes of `path` that its inode has no room for.
    fn attributes(&mut self, path: &Path) {
        let mut names = [0; 1024];
        let bytes = match llistxattr(path, &mut names) {
            // None, or nothing that could be copied.
            Ok(0) | Err(rustix::io::Errno::OPNOTSUPP) => return,
            Ok(len) => names[..len]
                .split(|&byte| byte == 0)
                .filter(|name| !name.is_empty())
                .map(|name| {
                    let value = lgetxattr_query(path, name).unwrap_or(0);
                    ATTRIBUTE + name.len() + value.next_multiple_of(4)
                })
                .sum(),
            // More names than fit, or unreadable: mkfs will see.
            Err(_) => usize::MAX,
        };
        if bytes > INLINE_ATTRIBUTES {
            self.bytes += BLOCK;
        }
    }

    /// Inodes, with some to spare.
    pub(super) fn inodes(&self) -> u64 {
        self.inodes + self.inodes / 8 + 256
    }

    /// Bytes of an ext4 that holds it.
    pub(super) fn ext4_size(&self) -> u64 {
        let needed = self.bytes + self.inodes() * INODE;
        (needed + needed / 4 + (16 << 20)).next_multiple_of(1 << 20)
    }
}

/// The kind of view of the kernel that the file system of `path`, device `device`, is; `known` keeps
/// the answers.
fn view(
    path: &Path,
    device: u64,
    known: &mut HashMap<u64, Option<&'static str>>,
) -> Option<&'static str> {
    *known.entry(device).or_insert_with(|| {
        let kind = statfs(path).ok()?.f_type as u32;
        let view = VIEWS.iter().find(|(magic, _)| *magic == kind);
        view.map(|(_, name)| *name)
    })
}

/// Bytes of the blocks of what is no directory.
fn contents(path: &Path, found: &Metadata) -> Result<u64> {
    let size = found.size();
    if found.is_symlink() && size > INLINE_LINK {
        return Ok(BLOCK);
    }
    if !found.is_file() || size == 0 {
        return Ok(0);
    }
    let whole = size.next_multiple_of(BLOCK);
    if found.blocks().saturating_mul(512) >= size {
        return Ok(whole);
    }
    // Holes, or the file system packs data: the file itself tells them apart.
    let file = input::open(path)?;
    let (mut at, mut bytes, mut extents) = (0, 0, 0);
    while at < size {
        let Ok(start) = seek(&file, SeekFrom::Data(at)) else {
            // Nothing more; or it cannot be told, and all of it counts.
            if at == 0 && seek(&file, SeekFrom::Hole(0)).is_err() {
                return Ok(whole);
            }
            break;
        };
        let end = seek(&file, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        if start >= end {
            break;
        }
        bytes += end.next_multiple_of(BLOCK) - (start - start % BLOCK);
        extents += 1;
        at = end;
    }
    if extents > INLINE_EXTENTS {
        bytes += extents.div_ceil(EXTENTS) * BLOCK;
    }
    Ok(bytes.min(whole + extents.div_ceil(EXTENTS) * BLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn what_is_there_once_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: String| dir.path().join(name);
        fs::write(at("file".into()), vec![1; 70_000]).unwrap();
        for link in 0..300 {
            fs::hard_link(at("file".into()), at(format!("link{link}"))).unwrap();
        }
        let sparse = fs::File::create(at("sparse".into())).unwrap();
        sparse.set_len(1 << 40).unwrap();
        sparse.write_all_at(&[1; 8192], 1 << 30).unwrap();
        let census = Census::take(dir.path(), false).unwrap();
        assert_eq!(census.inodes, 2);
        // 18 blocks and 2, 301 names in two or three.
        let blocks = census.bytes / BLOCK;
        assert!((22..=24).contains(&blocks), "{blocks}");
        assert!(!census.mounts);
    }
}
