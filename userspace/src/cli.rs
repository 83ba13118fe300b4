// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The command line; its help is the manual.

pub(crate) mod common;
pub(crate) mod devices;
pub(crate) mod layers;

use self::common::{FormArgs, NameArgs, WorkArgs};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use vbd_format::limits;
use vbdctl::image::filesystem::Filesystem;

/// Shows stacks of overlaybd layers as block devices, /dev/vbdN, and makes and inspects such layers.
#[derive(Debug, Parser)]
#[command(name = "vbdctl", version, max_term_width = 100, after_help = STATUS)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const STATUS: &str = "Exit status: 0 done, 1 failed, 2 misuse.";

/// The verbs.
#[derive(Debug, Subcommand)]
// Only the verb that is used is put together: that is half of what a short run takes.
#[command(defer = true)]
pub(crate) enum Command {
    /// Show a stack of layers as a block device.
    Attach(devices::AttachArgs),
    /// Take devices away.
    Detach(devices::DetachArgs),
    /// List the devices.
    List(devices::ListArgs),
    /// Say what a device is and how it does.
    Status(devices::StatusArgs),
    /// Print a device-mapper table for a stack.
    DmTable(devices::DmTableArgs),
    /// Print the name that a disk was attached by; for udev.
    #[command(hide = true)]
    UdevName(devices::UdevNameArgs),
    /// Write man pages and completions.
    #[cfg(feature = "docs")]
    #[command(hide = true)]
    Docs(devices::DocsArgs),
    /// Make a layer from a raw image or a directory.
    Create(CreateArgs),
    /// Say what layers and a stack of layers are.
    Info(InfoArgs),
    /// Verify all that the format allows to verify.
    Check(layers::CheckArgs),
    /// Tell where two disks differ.
    Compare(layers::CompareArgs),
    /// Write the disk that a stack makes to a raw image or a block device.
    Export(layers::ExportArgs),
    /// Change how a layer is compressed and wrapped, or make one from another disk image.
    Convert(layers::ConvertArgs),
    /// Make a sealed layer of a writable one.
    Commit(layers::CommitArgs),
    /// Make one layer of several.
    Merge(layers::MergeArgs),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  A raw image becomes an LZ4 layer:
      vbdctl create disk.img disk.lz4
  A directory becomes an ext4 file system of 1 GiB in a layer for a registry:
      vbdctl create --fs ext4 --size 1G --tar rootfs/ base.tar
  The running system, without /proc, /sys and other disks:
      vbdctl create --fs ext4 --one-file-system / /mnt/backup/root.lz4
  What a changed image adds to a stack of two layers:
      vbdctl create --base base.tar,tools.lz4 changed.img top.lz4
  ZSTD in blocks of 64 KiB, level 19:
      vbdctl create --format zstd --block-size 64K --level 19 disk.img disk.zst
  Then, with the driver:
      insmod vbd.ko backfile=base.tar,tools.lz4,top.lz4

A file or block device is taken for a raw image whatever it holds, since the guest of a raw image
can write anything; convert reads other formats. A file system of a directory keeps owners,
permissions and extended attributes, those of the directory itself too.

Ranges of zeroes are not stored. The same source and options make the same bytes, whatever the
number of jobs. The result appears under its name only when it is complete and on disk, readable
by whom the umask says; with --force by whom the file was that it replaces.

Exit status: 0 done, 1 failed, 2 misuse.";

/// Arguments of `create`.
///
/// The text below is the help.
#[derive(Debug, Args)]
#[command(
    about = "Make a layer from a raw image or a directory",
    long_about = "Make a sealed layer from a raw image (a file, sparse or not, or a block device) or \
                  from a directory, which mkfs.ext4 or mkfs.erofs makes a file system of first.",
    after_long_help = CREATE_EXAMPLES,
    after_help = "See --help for examples."
)]
pub(crate) struct CreateArgs {
    /// Raw image, block device or directory.
    pub(crate) source: PathBuf,

    /// Layer file to make.
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) form: FormArgs,

    /// Stack to build on: only what differs from it is written.
    ///
    /// Layer files, bottom first, separated by commas or in several --base options; the name of a file
    /// may itself contain commas. An overlaybd config.v1.json stands for its layers. Sectors that are
    /// zero now and were not before are recorded as zeroed. The new layer names the stack's top layer
    /// as its parent.
    #[arg(long, value_name = "LAYER|CONFIG")]
    pub(crate) base: Vec<PathBuf>,

    /// Virtual size: the bytes of the disk, a multiple of 512; suffixes K, M, G, T.
    ///
    /// By default the image's size, rounded up to 512 (what is added reads as zeroes). For a directory,
    /// the size of its file system; by default a quarter more than the files need, and 16 MiB (ext4), or
    /// just what is needed (erofs).
    #[arg(long, value_name = "SIZE", value_parser = virtual_size)]
    pub(crate) size: Option<u64>,

    /// File system for a directory [default: ext4].
    #[arg(long, value_enum)]
    pub(crate) fs: Option<FsArg>,

    /// Leave out what is mounted in the directory.
    ///
    /// What it is mounted on is kept, as a rule an empty directory. Needs root if something is mounted.
    /// Without this option all of it is included, except that proc, sysfs and other views of the kernel
    /// are an error.
    #[arg(long)]
    pub(crate) one_file_system: bool,

    #[command(flatten)]
    pub(crate) name: NameArgs,

    #[command(flatten)]
    pub(crate) work: WorkArgs,
}

const INFO_EXAMPLES: &str = "\
Examples:
  One layer:
      vbdctl info disk.lz4
  A stack, bottom layer first:
      vbdctl info base.tar tools.lz4 top.lz4
  An image as overlaybd's snapshotter describes it:
      vbdctl info --json config.v1.json
  A device-mapper table needs the virtual size in sectors:
      vbdctl info --json disk.lz4 | jq '.virtual_size / 512'

The fields of the JSON are described in the documentation of vbdctl::report; sizes are bytes.

Exit status: 0 done, 1 failed, 2 misuse.";

/// Arguments of `info`.
#[derive(Debug, Args)]
#[command(
    about = "Say what layers and a stack of layers are",
    long_about = "Open layers as the driver does, with all checks of their metadata, and say what each is \
                  and what disk they make as a stack.",
    after_long_help = INFO_EXAMPLES,
    after_help = "See --help for examples."
)]
pub(crate) struct InfoArgs {
    /// Layer files, bottom first; an overlaybd config.v1.json stands for its layers.
    #[arg(required = true, value_name = "LAYER|CONFIG")]
    pub(crate) stack: Vec<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// File systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FsArg {
    /// By mkfs.ext4.
    Ext4,
    /// By mkfs.erofs.
    Erofs,
}

impl From<FsArg> for Filesystem {
    fn from(fs: FsArg) -> Self {
        match fs {
            FsArg::Ext4 => Self::Ext4,
            FsArg::Erofs => Self::Erofs,
        }
    }
}

/// The words of the command line.
///
/// After `--` no word is an option; clap takes one for it all the same that follows a list of files. Where
/// words are files, such a one gets a directory.
pub(crate) fn words() -> impl Iterator<Item = OsString> {
    let mut files = false;
    let mut names = false;
    std::env::args_os().enumerate().map(move |(at, word)| {
        let bytes = word.as_bytes();
        names |= at == 1 && matches!(bytes, b"detach" | b"status");
        if files && !names && bytes.len() > 1 && bytes.starts_with(b"-") {
            return Path::new(".").join(word).into();
        }
        files |= bytes == b"--";
        word
    })
}

/// An error about the arguments of `verb`: printed with its usage, ends with status 2.
pub(crate) fn misuse(verb: &str, message: String) -> anyhow::Error {
    let mut command = Cli::command();
    command.build();
    let command = command
        .find_subcommand(verb)
        .cloned()
        .unwrap_or_else(Cli::command);
    command
        .clone()
        .error(ErrorKind::ArgumentConflict, message)
        .into()
}

/// A number of bytes: digits and perhaps one of K, M, G, T, each 1024 times the one before.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, unit)) if !unit.is_ascii_digit() => {
            let power = "KMGT".find(unit.to_ascii_uppercase());
            let power = power.ok_or("the unit must be K, M, G or T")?;
            (&text[..at], 10 * (power + 1))
        }
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number of bytes")?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "too large".to_owned())
}

fn block_size(text: &str) -> Result<u32, String> {
    let size = bytes(text)?;
    match u32::try_from(size) {
        Ok(size)
            if size.is_power_of_two()
                && (limits::MIN_BLOCK_SIZE..=limits::MAX_BLOCK_SIZE).contains(&size) =>
        {
            Ok(size)
        }
        _ => Err("must be a power of two from 512 to 64K".to_owned()),
    }
}

fn virtual_size(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        0 => Err("must not be 0".to_owned()),
        size if size % limits::SECTOR != 0 => Err("must be a multiple of 512".to_owned()),
        size if size > limits::MAX_VIRTUAL_SIZE => Err("must be at most 2^59".to_owned()),
        size => Ok(size),
    }
}

fn message(text: &str) -> Result<String, String> {
    if text.len() > 256 {
        return Err(format!("{} bytes, more than 256", text.len()));
    }
    Ok(text.to_owned())
}

/// 36 characters, hexadecimal digits in groups of 8, 4, 4, 4 and 12; kept in upper case.
fn uuid(text: &str) -> Result<[u8; 37], String> {
    let groups: Vec<&str> = text.split('-').collect();
    let right = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|b| b.is_ascii_hexdigit());
    if !right {
        return Err("must look like 01234567-89AB-CDEF-0123-456789ABCDEF".to_owned());
    }
    let mut uuid = [0; 37];
    uuid[..36].copy_from_slice(text.to_ascii_uppercase().as_bytes());
    Ok(uuid)
}

/// Layers of a stack: `2-5`, `3` or `4-`.
fn layer_range(text: &str) -> Result<(usize, Option<usize>), String> {
    let number = |text: &str| -> Result<usize, String> {
        text.parse()
            .map_err(|_| "must look like 2-5, 3 or 4-".to_owned())
    };
    let (first, last) = match text.split_once('-') {
        None => (number(text)?, Some(number(text)?)),
        Some((first, "")) => (number(first)?, None),
        Some((first, last)) => (number(first)?, Some(number(last)?)),
    };
    if last.is_some_and(|last| last < first) {
        return Err("the last layer lies below the first".to_owned());
    }
    Ok((first, last))
}
