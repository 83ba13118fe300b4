// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A directory as a raw image, by the programs that know the file systems.

use super::backing::size_of;
use super::ext4_times;
use super::output::open_unnamed;
use super::source::Source;
use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Uuid and hash seed of every file system made here: equal input makes equal bytes.
const UUID: &str = "76626463-746c-4d6b-8673-000000000001";

/// Time of creation that a file system states, in seconds since 1970, unless the environment's
/// `SOURCE_DATE_EPOCH` says another; mkfs.ext4 takes 0 for "now".
const CREATED: &str = "1";

/// Bytes in a block of the file systems.
const BLOCK: u64 = 4096;

/// File systems that a directory can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// By `mkfs.ext4 -d`.
    Ext4,
    /// By `mkfs.erofs`.
    Erofs,
}

/// Makes a raw image of the directory `dir` in an unnamed file beside `result`.
///
/// `size` is the image's, in bytes; by default ext4 gets a quarter more than the files need and
/// 16 MiB, and erofs what it needs.
pub fn image_of(kind: Filesystem, dir: &Path, size: Option<u64>, result: &Path) -> Result<Source> {
    let name = result.with_extension("image");
    let Scratch {
        file,
        target,
        hidden: _hidden,
    } = Scratch::beside(&name)?;
    let mut command = match kind {
        Filesystem::Ext4 => {
            let census = Census::take(dir)?;
            file.set_len(size.unwrap_or(census.ext4_size()))
                .map_err(Error::io(&name, "cannot set the size"))?;
            ext4(dir, &target, census.inodes())
        }
        Filesystem::Erofs => erofs(dir, &target),
    };
    run(&mut command, dir)?;
    if kind == Filesystem::Ext4 {
        ext4_times::settle(&file, dir)?;
    }
    if let Some(size) = size {
        let made = size_of(&file, &name)?;
        if made > size {
            let reason = format!("needs {made} bytes as erofs, more than the size {size}");
            return Err(Error::unfit(dir, reason));
        }
        file.set_len(size)
            .map_err(Error::io(&name, "cannot set the size"))?;
    }
    Source::from_file(dir, file)
}

/// A file for another program to write an image to.
pub(super) struct Scratch {
    /// The file.
    pub(super) file: File,
    /// A name by which another program reaches it.
    pub(super) target: PathBuf,
    hidden: Hidden,
}

impl Scratch {
    /// A file without a name, or with a hidden one, in the directory of `name`.
    pub(super) fn beside(name: &Path) -> Result<Self> {
        let (file, hidden) = open_unnamed(name)?;
        let process = std::process::id();
        let target = match &hidden {
            Some(path) => path.clone(),
            None => PathBuf::from(format!("/proc/{process}/fd/{}", file.as_raw_fd())),
        };
        Ok(Self {
            file,
            target,
            hidden: Hidden(hidden),
        })
    }
}

/// A name that goes away when the image has been opened, or could not be made.
struct Hidden(Option<PathBuf>);

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Nothing more can be done about a name that does not go away.
            let _ = fs::remove_file(path);
        }
    }
}

fn ext4(dir: &Path, target: &Path, entries: u64) -> Command {
    let time = created();
    let mut command = Command::new("mkfs.ext4");
    command
        // The order of names follows the locale.
        .env("LC_ALL", "C")
        .env("E2FSPROGS_FAKE_TIME", &time)
        .env("SOURCE_DATE_EPOCH", &time)
        // No journal: the layer is read-only, and a device that is cannot replay one.
        .args(["-q", "-F", "-b", "4096", "-m", "0", "-O", "^has_journal"])
        .args(["-U", UUID, "-N", &entries.to_string(), "-E"])
        .arg(format!("hash_seed={UUID},lazy_itable_init=0,nodiscard"))
        .arg("-d")
        .arg(dir)
        .arg(target);
    command
}

fn erofs(dir: &Path, target: &Path) -> Command {
    let mut command = Command::new("mkfs.erofs");
    command
        .env("LC_ALL", "C")
        .args(["--quiet", "-U", UUID, "-T"])
        .arg(created());
    // Which option leaves the files' own times alone differs from version to version.
    let help = Command::new("mkfs.erofs").arg("--help").output();
    let help = help.map_or_else(|_| Vec::new(), |o| [o.stdout, o.stderr].concat());
    let help = String::from_utf8_lossy(&help);
    let keep = ["--mkfs-time", "--preserve-mtime"];
    command.args(keep.iter().find(|option| help.contains(**option)));
    command.arg(target).arg(dir);
    command
}

fn created() -> OsString {
    std::env::var_os("SOURCE_DATE_EPOCH")
        .filter(|time| time != "0")
        .unwrap_or_else(|| CREATED.into())
}

/// Runs `command`, which reads `dir`; its messages become part of the error if it fails.
pub(super) fn run(command: &mut Command, dir: &Path) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::unfit(dir, format!("needs {name}, which is not here"))
            }
            _ => Error::unfit(dir, format!("cannot run {name}: {error}")),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let reason = format!("{name} failed: {}: {}", output.status, text.join("; "));
    Err(Error::unfit(dir, reason))
}

/// What a directory holds.
#[derive(Default)]
struct Census {
    /// Files, directories and others.
    entries: u64,
    /// Bytes of whole file system blocks.
    bytes: u64,
}

impl Census {
    fn take(dir: &Path) -> Result<Self> {
        let mut census = Self::default();
        let mut left = vec![dir.to_owned()];
        while let Some(dir) = left.pop() {
            let failed = || Error::io(&dir, "cannot read");
            for entry in fs::read_dir(&dir).map_err(failed())? {
                let entry = entry.map_err(failed())?;
                let found = entry.metadata().map_err(failed())?;
                if found.is_dir() {
                    left.push(entry.path());
                }
                census.entries += 1;
                census.bytes += found.size().next_multiple_of(BLOCK).max(BLOCK);
            }
        }
        Ok(census)
    }

    /// Inodes, with some to spare.
    fn inodes(&self) -> u64 {
        self.entries + self.entries / 8 + 256
    }

    /// Bytes of an ext4 that holds it.
    fn ext4_size(&self) -> u64 {
        let needed = self.bytes + self.inodes() * 256;
        (needed + needed / 4 + (16 << 20)).next_multiple_of(1 << 20)
    }
}
