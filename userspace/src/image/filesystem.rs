// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A directory as a raw image, by the programs that know the file systems.

mod census;

use self::census::Census;
use super::backing::size_of;
use super::output::{open_unnamed, Unfinished};
use super::program::run;
use super::source::Source;
use super::{erofs_settle, ext4_settle};
use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Uuid and hash seed of every file system made here: equal input makes equal bytes.
const UUID: &str = "76626463-746c-4d6b-8673-000000000001";

/// Time of creation that a file system states, in seconds since 1970, unless the environment's
/// `SOURCE_DATE_EPOCH` says another; mkfs.ext4 takes 0 for "now".
const CREATED: &str = "1";

/// File systems that a directory can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// By `mkfs.ext4 -d`.
    Ext4,
    /// By `mkfs.erofs`.
    Erofs,
}

/// Covers a directory with itself, without what is mounted in it, for the program that follows; no
/// other program sees that.
const COVER: [&str; 6] = [
    "--mount",
    "--",
    "sh",
    "-c",
    "mount --bind \"$1\" \"$1\" && shift && exec \"$@\"",
    "sh",
];

/// Makes a raw image of the directory `dir` in an unnamed file beside `result`, with what is mounted
/// in it. A view of the kernel that is mounted there, such as /proc, is an error.
///
/// `size` is the image's, in bytes; by default ext4 gets a quarter more than the files need and
/// 16 MiB, and erofs what it needs.
pub fn image_of(kind: Filesystem, dir: &Path, size: Option<u64>, result: &Path) -> Result<Source> {
    make(kind, dir, false, size, result)
}

/// As [`image_of`], but what is mounted in the directory is left out: what it is mounted on is seen
/// instead, as a rule an empty directory. That takes root, if something is mounted.
pub fn image_of_one(
    kind: Filesystem,
    dir: &Path,
    size: Option<u64>,
    result: &Path,
) -> Result<Source> {
    make(kind, dir, true, size, result)
}

fn make(
    kind: Filesystem,
    dir: &Path,
    one_file_system: bool,
    size: Option<u64>,
    result: &Path,
) -> Result<Source> {
    let census = Census::take(dir, one_file_system)?;
    let Scratch {
        file,
        target,
        hidden: _hidden,
    } = Scratch::beside(result)?;
    let mut command = match kind {
        Filesystem::Ext4 => {
            file.set_len(size.unwrap_or(census.ext4_size()))
                .map_err(Error::io(result, "cannot set the size"))?;
            ext4(dir, &target, census.inodes())
        }
        Filesystem::Erofs => erofs(dir, &target),
    };
    let mut name = command.get_program().to_string_lossy().into_owned();
    if one_file_system && census.mounts {
        command = covered(dir, &command);
        name.push_str(" (by unshare and mount)");
    }
    run(&mut command, &name, dir, result)?;
    match kind {
        Filesystem::Ext4 => ext4_settle::settle(&file, dir, result)?,
        Filesystem::Erofs => erofs_settle::settle(&file, dir, result)?,
    }
    if let Some(size) = size {
        let made = size_of(&file, result)?;
        if made > size {
            let reason = format!("needs {made} bytes as erofs, more than the size {size}");
            return Err(Error::unfit(dir, reason));
        }
        file.set_len(size)
            .map_err(Error::io(result, "cannot set the size"))?;
    }
    Source::from_file(dir, file)
}

/// A file for another program to write an image to.
pub(super) struct Scratch {
    /// The file.
    pub(super) file: File,
    /// A name by which another program reaches it.
    pub(super) target: PathBuf,
    /// The name goes away when the image has been opened, or could not be made.
    hidden: Option<Unfinished>,
}

impl Scratch {
    /// A file without a name, or with a hidden one, in the directory of `name`.
    pub(super) fn beside(name: &Path) -> Result<Self> {
        let (file, hidden) = open_unnamed(name)?;
        let process = std::process::id();
        let target = match &hidden {
            Some(hidden) => no_option(hidden.path()),
            None => PathBuf::from(format!("/proc/{process}/fd/{}", file.as_raw_fd())),
        };
        Ok(Self {
            file,
            target,
            hidden,
        })
    }
}

/// The same path, which no program takes for an option.
fn no_option(path: &Path) -> PathBuf {
    match path.as_os_str().as_bytes() {
        [b'-', ..] => Path::new(".").join(path),
        _ => path.to_owned(),
    }
}

/// `command`, for which nothing is mounted in `dir`.
fn covered(dir: &Path, command: &Command) -> Command {
    let mut cover = Command::new("unshare");
    cover.args(COVER).arg(no_option(dir));
    cover.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            cover.env(name, value);
        }
    }
    cover
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
        .arg(no_option(dir))
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
    command.arg(target).arg(no_option(dir));
    command
}

fn created() -> OsString {
    std::env::var_os("SOURCE_DATE_EPOCH")
        .filter(|time| time != "0")
        .unwrap_or_else(|| CREATED.into())
}
