// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The shared directory: a copy of it as an ext4 image, since the stock cloud kernel cannot reach
//! the host's files (it has no 9P). The guest may write to the copy; nothing comes back.

use crate::kit::Kit;
use crate::run;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Makes the image at `image`, in a directory of ours, from the directory `share`.
pub(super) fn make(kit: &Kit, share: &Path, image: &Path) -> Result<()> {
    let Size { bytes, entries } = size(share)
        .with_context(|| format!("cannot read the shared directory {}", share.display()))?;
    // Room for the file system's own blocks, and for what the guest may add: the image is sparse,
    // so room that is not used costs nothing.
    let length = (bytes + bytes / 8 + entries * 4096).next_multiple_of(1 << 20) + (1 << 30);
    let file = File::create(image).with_context(|| format!("cannot create {}", image.display()))?;
    file.set_len(length)?;
    let place = image.parent().context("the image has no directory")?;
    let mut command = kit.command(&[share, place], Path::new("/"), "mkfs.ext4");
    command.args(["-q", "-F", "-m", "0", "-b", "4096", "-L", "share"]);
    // Without a journal: the image lives as long as the machine.
    command.args([
        "-O",
        "^has_journal",
        "-E",
        "nodiscard,lazy_itable_init=1,root_owner=0:0",
    ]);
    command.args(["-N", &(entries + 16384).to_string()]);
    command.arg("-d").arg(share).arg(image);
    run::stdout(&mut command)?;
    Ok(())
}

struct Size {
    /// Bytes that the files take on disk; holes take none.
    bytes: u64,
    entries: u64,
}

fn size(directory: &Path) -> std::io::Result<Size> {
    let mut total = Size {
        bytes: 0,
        entries: 0,
    };
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            total.entries += 1;
            // A file system that compresses or has the data in flight may say less than ext4
            // needs, but never for data that mkfs would not find again as holes.
            total.bytes += (metadata.blocks() * 512).max(if metadata.is_dir() { 4096 } else { 0 });
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_take_no_room() {
        let directory = tempfile::tempdir().unwrap();
        let sparse = File::create(directory.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        fs::write(directory.path().join("sub/file"), [1; 10_000]).unwrap();
        let size = size(directory.path()).unwrap();
        assert_eq!(size.entries, 3);
        assert!(size.bytes < 1 << 20, "{}", size.bytes);
    }
}
