// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Arguments of the verbs for devices.

use super::{bytes, virtual_size};
use clap::{ArgAction, Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use vbdctl::control::attach::SECTOR_SIZES;

const ATTACH_EXAMPLES: &str = "\
Examples:
  A stack, bottom layer first; the device's path is printed:
      vbdctl attach base.tar tools.lz4 top.lz4
  Under a name, for other verbs and for /dev/disk/by-vbd/web:
      vbdctl attach --name web base.tar top.lz4
  An image as overlaybd's snapshotter describes it:
      vbdctl attach --name web config.v1.json
  What /etc/vbd/web.json says, as vbd@web.service does at boot:
      vbdctl attach --config /etc/vbd/web.json

A stack that is attached under the same name with the same options is left as it is, and its path
is printed: attaching twice is attaching once. Another stack under the same name is an error, and
so are the same files when they were changed since then: the device has what was read before that.
Without --name the name is made from layers and options, such as stack-89abcdef01234567.

The driver is loaded and configfs mounted if that is needed. When the path is printed, the disk can
be opened, and where udev has vbd's rule, its link is there, too. Where /dev is no devtmpfs, as in
many containers, the node is made, and detach removes it. If anything fails, nothing stays behind.

A file for --config holds one JSON object:
    layers       layer files, bottom first; relative names count from the file's directory
    config       or, instead of layers, an overlaybd config.v1.json
    name         optional; by default the file's name without .json
    size         optional; as --size, in bytes
    verify       optional; false as --verify 0
    direct       optional; true as --direct
    partscan     optional; true as --partscan
    sector_size  optional; as --sector-size, in bytes
An overlaybd config.v1.json may stand there itself, too. Of such a configuration every key that
cannot be honoured is refused: upper, accelerationLayer, recordTracePath, download.enable, and
layers that are not here as files. Its resultFile gets success or failed:REASON: a regular file is
made or replaced, a character device or a pipe gets the words, anything else is an error.

Exit status: 0 done, 1 failed, 2 misuse.";

/// Arguments of `attach`.
#[derive(Debug, Args)]
#[command(
    about = "Show a stack of layers as a block device",
    long_about = "Show a stack of layers as the block device /dev/vbdN, read-only, and print its path.",
    after_long_help = ATTACH_EXAMPLES,
    after_help = "See --help for examples."
)]
pub(crate) struct AttachArgs {
    /// Layer files, bottom first; an overlaybd config.v1.json stands for its layers.
    #[arg(required_unless_present = "config", value_name = "LAYER|CONFIG")]
    pub(crate) stack: Vec<PathBuf>,

    /// What to attach, from a file such as /etc/vbd/NAME.json.
    #[arg(long, value_name = "FILE", conflicts_with = "stack")]
    pub(crate) config: Option<PathBuf>,

    /// Name of the device [default: made from layers and options].
    #[arg(long, short, value_parser = device_name)]
    pub(crate) name: Option<String>,

    /// Virtual size instead of what the layers say: bytes, a multiple of 512; suffixes K, M, G, T.
    #[arg(long, value_name = "SIZE", value_parser = virtual_size)]
    pub(crate) size: Option<u64>,

    /// Whether each block's checksum is verified when it is read: 1 or 0 [default: 1].
    #[arg(long, value_name = "0|1", value_parser = switch, action = ArgAction::Set)]
    pub(crate) verify: Option<bool>,

    /// Read layers that are not compressed past the page cache; only on file systems that can.
    #[arg(long)]
    pub(crate) direct: bool,

    /// Have the kernel look for partitions.
    #[arg(long, short = 'P')]
    pub(crate) partscan: bool,

    /// Bytes of a logical block of the disk, 512 or 4096 [default: 512].
    #[arg(long, short = 'b', value_name = "BYTES", value_parser = sector_size)]
    pub(crate) sector_size: Option<u32>,

    /// Longest wait for others that work on the device, and for its node and link.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    pub(crate) timeout: Duration,
}

const DETACH_EXAMPLES: &str = "\
Examples:
      vbdctl detach web
      vbdctl detach /dev/vbd3
      vbdctl detach --all

A device that is mounted, or held by another device, is busy: the error says by whom. For programs
that have it open, such as udev's after an attach, --timeout is waited.

Exit status: 0 done, 1 failed (busy, or no such device), 2 misuse.";

/// Arguments of `detach`.
#[derive(Debug, Args)]
#[command(
    about = "Take devices away",
    after_long_help = DETACH_EXAMPLES,
    after_help = "See --help for examples."
)]
pub(crate) struct DetachArgs {
    /// Names or paths of devices.
    #[arg(required_unless_present = "all", value_name = "NAME|/dev/vbdN")]
    pub(crate) devices: Vec<PathBuf>,

    /// All devices; those that others lie on come last.
    #[arg(long, conflicts_with = "devices")]
    pub(crate) all: bool,

    /// Longest wait for a device that programs have open.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub(crate) timeout: Duration,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(
    about = "List the devices",
    after_help = "The fields of the JSON are described in the documentation of \
                  vbdctl::report::device; sizes are bytes."
)]
pub(crate) struct ListArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(
    about = "Say what a device is and how it does",
    long_about = "Say what a device is, of which layers, how many bytes of their files are present, who \
                  uses it, and what its counters and its last error are.",
    after_help = "The fields of the JSON are described in the documentation of \
                  vbdctl::report::device; sizes are bytes."
)]
pub(crate) struct StatusArgs {
    /// Name or path of the device.
    #[arg(value_name = "NAME|/dev/vbdN")]
    pub(crate) device: PathBuf,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

const DM_TABLE_EXAMPLES: &str = "\
Examples:
  A stack on logical volumes, with layers compressed or wrapped as they come:
      dmsetup create --concise \"$(vbdctl dm-table --name web /dev/vg/base /dev/vg/top)\"
  One target on the other, as the original's README does it:
      dmsetup create --concise \"$(vbdctl dm-table --target zfile --name z0 /dev/loop0)\"
      dmsetup create --concise \"$(vbdctl dm-table --name web /dev/mapper/z0)\"
  Layer files: a script that puts loop devices below the table:
      vbdctl dm-table --losetup --name web base.tar top.lz4 | sh -e

A device may be larger than the layer on it, and the table needs the layer's bytes. They are known
  of a layer in a tar wrapper: from the tar header;
  of a ZFile whose header has the final numbers: from the header;
  of others, when nothing but zeroes follows the layer, at most 64 MiB of them: from the trailer.
Otherwise give them with --bytes: a plain layer's header does not tell where its end is.

Exit status: 0 done, 1 failed, 2 misuse.";

/// Arguments of `dm-table`.
#[derive(Debug, Args)]
#[command(
    about = "Print a device-mapper table for a stack",
    long_about = "Print what `dmsetup create --concise` needs to show layers on block devices as a disk, \
                  with the sizes filled in.",
    after_long_help = DM_TABLE_EXAMPLES,
    after_help = "See --help for examples."
)]
pub(crate) struct DmTableArgs {
    /// Block devices that hold layers, bottom first; with --losetup also files.
    #[arg(required = true, value_name = "DEVICE|LAYER")]
    pub(crate) layers: Vec<PathBuf>,

    /// Which target.
    #[arg(long, short, value_enum, default_value_t = DmTarget::Lsmt)]
    pub(crate) target: DmTarget,

    /// Name of the new device [default: vbd-lsmt or vbd-zfile].
    #[arg(long, short, value_parser = dm_name)]
    pub(crate) name: Option<String>,

    /// Bytes of each layer, bottom first, separated by commas; 0 = find out.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub(crate) bytes: Vec<u64>,

    /// Print a shell script that makes loop devices of files first.
    #[arg(long)]
    pub(crate) losetup: bool,
}

/// Device-mapper targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DmTarget {
    /// A stack of layers as a disk.
    Lsmt,
    /// What one compressed file holds.
    Zfile,
}

/// Arguments of `udev-name`.
#[derive(Debug, Args)]
pub(crate) struct UdevNameArgs {
    /// The kernel's name of the disk.
    #[arg(value_name = "vbdN")]
    pub(crate) disk: String,
}

/// Arguments of `docs`.
#[cfg(feature = "docs")]
#[derive(Debug, Args)]
pub(crate) struct DocsArgs {
    /// Directory that gets `man` and `completions`.
    pub(crate) directory: PathBuf,
}

/// A name that is safe in paths, in udev links and as an instance of a systemd unit.
pub(crate) fn device_name(text: &str) -> Result<String, String> {
    const MOST: usize = 200;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:+-".contains(c);
    if text.is_empty() || text.len() > MOST || !text.chars().all(plain) {
        return Err(format!("must be 1 to {MOST} letters, digits and _.:+-"));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("must begin with a letter or digit".to_owned());
    }
    if let Some(number) = text.strip_prefix("vbd") {
        if number.chars().all(|c| c.is_ascii_digit()) {
            return Err("looks like the kernel's name of a disk".to_owned());
        }
    }
    Ok(text.to_owned())
}

/// A name without what `dmsetup` would take for the end of a field.
fn dm_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
    if text.is_empty() || text.len() > 127 || !text.chars().all(plain) {
        return Err("must be 1 to 127 letters, digits and #+-.:=@_".to_owned());
    }
    Ok(text.to_owned())
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("must be 0 or 1".to_owned()),
    }
}

fn sector_size(text: &str) -> Result<u32, String> {
    let size = bytes(text).ok().and_then(|size| u32::try_from(size).ok());
    size.filter(|size| SECTOR_SIZES.contains(size))
        .ok_or_else(|| "must be 512 or 4096".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|wait| *wait <= Duration::from_secs(86_400))
        .ok_or_else(|| "must be a number of seconds, at most 86400".to_owned())
}
