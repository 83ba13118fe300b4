// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Nodes of disks in `/dev`. The kernel makes and removes them where that is a devtmpfs; where it is a
//! static directory, as in many containers, nobody would.

use super::disk;
use crate::error::{Error, Result};
use rustix::fs::{makedev, mknodat, FileType, Mode, CWD};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// A node, and the device that it is for.
type Node = (PathBuf, (u32, u32));

/// Whether the kernel looks after the nodes.
pub(super) fn are_kernels() -> bool {
    match fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => is_devtmpfs(&text),
        // Nothing is done where nothing is known.
        Err(_) => true,
    }
}

/// Whether `/dev` is a devtmpfs, from the text of a `mountinfo`.
fn is_devtmpfs(mountinfo: &str) -> bool {
    // The last one lies on top.
    let mut from_the_top = mountinfo.lines().rev();
    from_the_top
        .find(|line| line.split(' ').nth(4) == Some("/dev"))
        .and_then(|line| line.split_once(" - "))
        .is_some_and(|(_, rest)| rest.starts_with("devtmpfs "))
}

/// Makes the nodes of a disk and of its partitions that are missing.
pub(super) fn make(disk: &str) -> Result<()> {
    for (path, number) in of(disk) {
        let device = makedev(number.0, number.1);
        let mode = Mode::from_raw_mode(0o600);
        match mknodat(CWD, &path, FileType::BlockDevice, mode, device) {
            Ok(()) => {}
            Err(Errno::EXIST) if is(&path, number) => {}
            Err(Errno::EXIST) => {
                let reason = "is in the way of the disk's node, which has other numbers; remove it";
                return Err(Error::unfit(&path, reason));
            }
            Err(errno) => return Err(Error::io(&path, "cannot make the node")(errno.into())),
        }
    }
    Ok(())
}

/// The nodes that have to be removed with a disk, because nobody else does it.
pub(super) fn left_behind(disk: &str) -> Vec<Node> {
    match are_kernels() {
        true => Vec::new(),
        false => of(disk),
    }
}

/// Removes what the disk, which is gone, has left.
pub(super) fn remove(nodes: &[Node]) {
    for (path, number) in nodes {
        let back = Path::new("/sys/dev/block").join(format!("{}:{}", number.0, number.1));
        if is(path, *number) && !back.exists() {
            // Without the disk it is of no use, and in nobody's way.
            let _ = fs::remove_file(path);
        }
    }
}

fn of(disk: &str) -> Vec<Node> {
    let parts = disk::parts(disk).into_iter();
    parts
        .map(|(name, number)| (disk::node(&name), number))
        .collect()
}

/// Whether `path` is a node of the device `number`.
pub(super) fn is(path: &Path, number: (u32, u32)) -> bool {
    fs::metadata(path)
        .is_ok_and(|node| node.file_type().is_block_device() && disk::split(node.rdev()) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_dev_is_seen() {
        let kernels = "22 1 0:20 / / rw - ext4 /dev/vda rw\n\
                       23 22 0:5 / /dev rw,nosuid shared:2 - devtmpfs udev rw,size=1k\n\
                       24 23 0:21 / /dev/pts rw - devpts devpts rw\n";
        assert!(is_devtmpfs(kernels));
        let covered = format!("{kernels}30 23 0:44 / /dev rw - tmpfs tmpfs rw\n");
        assert!(!is_devtmpfs(&covered));
        assert!(!is_devtmpfs("22 1 0:20 / / rw - ext4 /dev/vda rw\n"));
    }
}
