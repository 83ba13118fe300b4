// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Arguments of the verbs that read, check and remake layers.

use super::common::{FormArgs, NameArgs, WorkArgs};
use super::{bytes, uuid};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

const CHECK_EXAMPLES: &str = "\
Examples:
  One layer, all of it:
      vbdctl check disk.lz4
  A stack, bottom layer first, for a script:
      vbdctl check --json base.tar tools.lz4 top.lz4 | jq '.findings[] | select(.defect)'

A defect is what a reader would refuse, or could read differently from another one. What is legal
and worth knowing is told as a note and does not count. The fields of the JSON are described in
the documentation of vbdctl::image::check.

Exit status: 0 no defect, 1 at least one, or failed, 2 misuse.";

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(
    about = "Verify all that the format allows to verify",
    long_about = "Verify layers and the stack they make: digests and checksums, the length that every block \
                  decompresses to, order and place of all records, sizes of tar wrappers, headers \
                  against trailers. Goes on after a defect and tells each with file and offset.",
    after_long_help = CHECK_EXAMPLES,
    after_help = "See --help for examples."
)]
pub(crate) struct CheckArgs {
    /// Layer files, bottom first; an overlaybd config.v1.json stands for its layers.
    #[arg(required = true, value_name = "LAYER|CONFIG")]
    pub(crate) stack: Vec<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// Leave the notes out.
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Threads, 1 to 128 [default: one for each processor, at most 16].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=128))]
    pub(crate) jobs: Option<u8>,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  A stack as a raw image; what is zero becomes holes:
      vbdctl export base.tar top.lz4 disk.img
  The first partition of an image, as overlaybd's snapshotter describes it:
      vbdctl export --offset 1M --length 512M config.v1.json part1.img
  Onto a block device, which must be large enough and not in use:
      vbdctl export --force disk.lz4 /dev/sdx
  To another program:
      vbdctl export disk.lz4 - | ssh host 'dd of=/dev/sdx bs=1M'

Exit status: 0 done, 1 failed, 2 misuse.";

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(
    about = "Write the disk that a stack makes to a raw image or a block device",
    after_long_help = EXPORT_EXAMPLES,
    after_help = "See --help for examples."
)]
pub(crate) struct ExportArgs {
    /// Layer files, bottom first; an overlaybd config.v1.json stands for its layers.
    #[arg(required = true, value_name = "LAYER|CONFIG")]
    pub(crate) stack: Vec<PathBuf>,

    /// Raw image to make, block device to write to, or - for standard output.
    #[arg(required = true)]
    pub(crate) output: PathBuf,

    /// First byte of the disk to write; suffixes K, M, G, T.
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "0", hide_default_value = true)]
    pub(crate) offset: u64,

    /// Bytes to write [default: up to the end of the disk].
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) length: Option<u64>,

    /// Threads, 1 to 128 [default: one for each processor, at most 16].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=128))]
    pub(crate) jobs: Option<u8>,

    /// Replace the output file if it exists; needed to write to a block device.
    #[arg(long)]
    pub(crate) force: bool,
}

const COMPARE_EXAMPLES: &str = "\
Examples:
  A layer with the image it was made from:
      vbdctl compare disk.lz4 disk.img
  A stack, its layers separated by commas, with what it was merged to:
      vbdctl compare base.tar,tools.lz4,top.lz4 merged.lz4
  All ranges that differ, for a script:
      vbdctl compare --all --json config.v1.json disk.img

A file that is no layer is taken for a raw image. Where one disk is shorter, it is compared as if
zeroes followed, and the sizes are told as a difference. Ranges are whole sectors of 512 bytes.

Exit status: 0 equal, 1 different, or failed, 2 misuse.";

/// Arguments of `compare`.
#[derive(Debug, Args)]
#[command(
    about = "Tell where two disks differ",
    after_long_help = COMPARE_EXAMPLES,
    after_help = "See --help for examples."
)]
pub(crate) struct CompareArgs {
    /// Stack (layers separated by commas, bottom first, or a config.v1.json) or raw image.
    #[arg(value_name = "DISK")]
    pub(crate) a: PathBuf,

    /// What to compare it with.
    #[arg(value_name = "DISK")]
    pub(crate) b: PathBuf,

    /// Tell all ranges that differ, not only the first.
    #[arg(long)]
    pub(crate) all: bool,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// Threads, 1 to 128 [default: one for each processor, at most 16].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=128))]
    pub(crate) jobs: Option<u8>,
}

const CONVERT_EXAMPLES: &str = "\
Examples:
  A plain layer becomes LZ4 in a tar archive:
      vbdctl convert --tar layer.plain layer.tar
  ZSTD in blocks of 64 KiB:
      vbdctl convert --format zstd --block-size 64K layer.lz4 layer.zst
  Neither compressed nor wrapped:
      vbdctl convert --format plain layer.tar layer.plain
  A disk of a virtual machine becomes a layer:
      vbdctl convert disk.qcow2 disk.lz4
  One whose name does not end as its format does, and which builds on another image:
      vbdctl convert --from qcow2 --allow-references disk.img disk.lz4
  A raw disk, whatever its guest wrote to it:
      vbdctl convert --from raw disk.img disk.lz4

A layer keeps its records, data, name, parent and text, byte for byte; only its container changes.

What the source is, you say by --from; else the end of its name does (.qcow2, .vmdk, .vdi, .vhd,
.vhdx); else it has to be a layer, or a raw image that does not begin as anything known: an archive
or a compressed file is refused, and so is a disk image of another name. The contents of a disk
never choose the format, since a guest can write to it what looks like another one, with host files
for its parts. Scripts for raw disks of guests give --from raw. Guessing has to be asked for, by
--from auto, and is for images of those who you trust.

Images of qcow2, vmdk, vdi, vhdx and dynamic vhd are read by qemu-img. One that takes contents from
other files (a backing file, extents, an external data file) is refused without --allow-references,
as these may be any files of this host. Differencing vdi, vhd and vhdx images are always refused.

Exit status: 0 done, 1 failed, 2 misuse.";

/// Arguments of `convert`.
#[derive(Debug, Args)]
#[command(
    about = "Change how a layer is compressed and wrapped, or make one from another disk image",
    after_long_help = CONVERT_EXAMPLES,
    after_help = "See --help for examples."
)]
pub(crate) struct ConvertArgs {
    /// Layer, or a disk image: raw, qcow2, vmdk, vdi, vhd or vhdx.
    pub(crate) source: PathBuf,

    /// Layer file to make.
    pub(crate) output: PathBuf,

    /// What the source is [default: what the end of its name says, else a layer or raw].
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) from: Option<FromArg>,

    /// Read the files, too, that a disk image takes a part of its contents from.
    #[arg(long)]
    pub(crate) allow_references: bool,

    #[command(flatten)]
    pub(crate) form: FormArgs,

    #[command(flatten)]
    pub(crate) work: WorkArgs,
}

/// What `convert` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FromArg {
    /// What its contents look like: only for images of those who you trust.
    Auto,
    /// A layer, wrapped or not.
    Layer,
    /// The bytes of a disk.
    Raw,
    /// QEMU's, version 2 or 3.
    Qcow2,
    /// VMware's.
    Vmdk,
    /// VirtualBox's.
    Vdi,
    /// Virtual PC's, fixed or dynamic.
    #[value(alias = "vpc")]
    Vhd,
    /// Hyper-V's.
    Vhdx,
}

const COMMIT_EXAMPLES: &str = "\
Examples:
  The writable pair of a container:
      vbdctl commit --tar -m 'packages installed' writable_data writable_index layer.tar
  A sparse layer, on top of a layer whose name it is to carry as its parent:
      vbdctl commit --sparse --parent 556F2BE0-3D78-4D0D-8561-3D93BEF53B6E upper.data layer.lz4

Only what is live is kept, in the order of the disk. Where a crash has left a log of records that
ends badly, the rest of it is left out and a line on standard error says so. The files must not be
in use. The result is laid out as overlaybd-commit does it.

Exit status: 0 done, 1 failed, 2 misuse.";

/// Arguments of `commit`.
#[derive(Debug, Args)]
#[command(
    about = "Make a sealed layer of a writable one",
    override_usage = "vbdctl commit [OPTIONS] <DATA> <INDEX> <OUTPUT>\n       \
                      vbdctl commit [OPTIONS] --sparse <FILE> <OUTPUT>",
    after_long_help = COMMIT_EXAMPLES,
    after_help = "See --help for examples."
)]
pub(crate) struct CommitArgs {
    /// Data file and index file, or one sparse file.
    #[arg(required = true, num_args = 1..=2, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Layer file to make.
    #[arg(required = true)]
    pub(crate) output: PathBuf,

    /// The layer is one sparse file, not a pair.
    #[arg(long)]
    pub(crate) sparse: bool,

    #[command(flatten)]
    pub(crate) form: FormArgs,

    #[command(flatten)]
    pub(crate) name: NameArgs,

    /// Name of the layer below [default: what the writable layer says].
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    pub(crate) parent: Option<[u8; 37]>,

    #[command(flatten)]
    pub(crate) work: WorkArgs,
}

const MERGE_EXAMPLES: &str = "\
Examples:
  A whole stack becomes one layer:
      vbdctl merge --bottom base.tar tools.lz4 top.lz4 all.lz4
  The middle of an image, layers 2 to 5 of those that it lists (0 = bottom):
      vbdctl merge --layers 2-5 config.v1.json middle.lz4

The result stands for the layers it was made of, wherever they stood in a stack. Records that say
zero are kept, since they may hide what lies below; they are dropped where nothing can: with
--bottom, for a config.v1.json as a whole, and if --layers begins at 0. A record keeps the number
of its layer, counted from the top, in its tag, as overlaybd-merge does it; readers ignore it.

Exit status: 0 done, 1 failed, 2 misuse.";

/// Arguments of `merge`.
#[derive(Debug, Args)]
#[command(
    about = "Make one layer of several",
    after_long_help = MERGE_EXAMPLES,
    after_help = "See --help for examples."
)]
pub(crate) struct MergeArgs {
    /// Layer files, bottom first; an overlaybd config.v1.json stands for its layers.
    #[arg(required = true, value_name = "LAYER|CONFIG")]
    pub(crate) stack: Vec<PathBuf>,

    /// Layer file to make.
    #[arg(required = true)]
    pub(crate) output: PathBuf,

    /// Only these of the layers, such as 2-5, 3 or 4-; 0 is the bottom.
    #[arg(long, value_name = "FIRST-LAST", value_parser = super::layer_range)]
    pub(crate) layers: Option<(usize, Option<usize>)>,

    /// Nothing lies below the first layer: records that say zero are not needed.
    #[arg(long, conflicts_with = "keep_zeroed")]
    pub(crate) bottom: bool,

    /// Keep records that say zero in any case.
    #[arg(long)]
    pub(crate) keep_zeroed: bool,

    #[command(flatten)]
    pub(crate) form: FormArgs,

    #[command(flatten)]
    pub(crate) name: NameArgs,

    #[command(flatten)]
    pub(crate) work: WorkArgs,
}
