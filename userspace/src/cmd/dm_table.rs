// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl dm-table`: a device-mapper table for a stack.

use crate::cli::devices::{DmTableArgs, DmTarget};
use crate::cli::misuse;
use crate::cmd::print::print;
use anyhow::{bail, Context as _, Result};
use std::fmt::Write as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use vbd_format::{limits, lsmt};
use vbdctl::image::extent::{self, Extent};
use vbdctl::image::{input, Layer};

/// A layer and the bytes of its device that it takes.
struct Row<'a> {
    path: &'a Path,
    is_device: bool,
    bytes: u64,
    original_size: Option<u64>,
}

/// Prints the table, or the script around it.
pub(crate) fn run(args: &DmTableArgs) -> Result<()> {
    if !args.bytes.is_empty() && args.bytes.len() != args.layers.len() {
        return Err(misuse(
            "dm-table",
            format!(
                "--bytes has {} numbers for {} layers",
                args.bytes.len(),
                args.layers.len()
            ),
        ));
    }
    if args.target == DmTarget::Zfile && args.layers.len() > 1 {
        return Err(misuse("dm-table", "--target zfile takes one layer".into()));
    }
    let mut rows = Vec::new();
    for (number, path) in args.layers.iter().enumerate() {
        rows.push(row(args, path, args.bytes.get(number).copied())?);
    }
    let bytes = match args.target {
        DmTarget::Zfile => rows.first().and_then(|row| row.original_size).unwrap_or(0),
        DmTarget::Lsmt => virtual_size(&rows)?,
    };
    print(&text(args, &rows, bytes.div_ceil(limits::SECTOR))?)
}

fn row<'a>(args: &DmTableArgs, path: &'a Path, given: Option<u64>) -> Result<Row<'a>> {
    let show = || path.display().to_string();
    let found = input::open(path)?.metadata().with_context(show)?;
    let is_device = found.file_type().is_block_device();
    if !is_device && !args.losetup {
        bail!(
            "{}: is no block device, and device-mapper takes nothing else: \
             --losetup prints a script that makes loop devices",
            show()
        );
    }
    let given = given.filter(|&bytes| bytes != 0);
    let Extent {
        bytes,
        original_size,
    } = match given {
        Some(bytes) => Extent {
            bytes,
            original_size: None,
        },
        None => extent::find(path)?.with_context(|| {
            format!(
                "{}: nothing tells where the layer ends; give its size with --bytes",
                show()
            )
        })?,
    };
    let original_size = match (args.target, original_size) {
        (DmTarget::Zfile, None) if given.is_some() => Some(extent::original_size(path, bytes)?),
        (DmTarget::Zfile, None) => bail!("{}: is no ZFile by itself", show()),
        (_, size) => size,
    };
    let size = found.len();
    let cut = size % limits::SECTOR;
    let mut row = Row {
        path,
        is_device,
        bytes,
        original_size,
    };
    if !is_device && cut != 0 && bytes > size - cut {
        // Loop devices have whole sectors and leave the rest of the file out.
        row.bytes = size - cut;
        if Layer::open_first(path, row.bytes).is_err() {
            bail!(
                "{}: has {size} bytes, and a loop device would leave out the last {cut}, which are \
                 needed: make it a multiple of {} (truncate --size=%{}) or wrap it with --tar",
                show(),
                limits::SECTOR,
                limits::SECTOR
            );
        }
    }
    Ok(row)
}

/// Opens the layers as the target will, and tells the bytes of the disk that they make.
fn virtual_size(rows: &[Row<'_>]) -> Result<u64> {
    let mut sizes = Vec::new();
    for row in rows {
        let (layer, _) = Layer::open_first(row.path, row.bytes)?;
        sizes.push(layer.lsmt.virtual_size);
    }
    lsmt::virtual_size(sizes.into_iter()).map_err(|error| anyhow::anyhow!("{error}"))
}

fn text(args: &DmTableArgs, rows: &[Row<'_>], sectors: u64) -> Result<String> {
    let (target, default) = match args.target {
        DmTarget::Lsmt => ("lsmt_target", "vbd-lsmt"),
        DmTarget::Zfile => ("zfile_target", "vbd-zfile"),
    };
    let name = args.name.as_deref().unwrap_or(default);
    let mut script = String::new();
    let mut table = format!("{name},,,ro,0 {sectors} {target}");
    for (number, row) in rows.iter().enumerate() {
        let path = row.path.to_str().with_context(|| {
            format!("{}: a table needs a path that is text", row.path.display())
        })?;
        if row.is_device {
            if path.contains(|c: char| c.is_whitespace() || ",;\\\"$`".contains(c)) {
                bail!("{path}: a table cannot hold this path; make a link to it");
            }
            write!(table, " {path} {}", row.bytes)?;
        } else {
            let quoted = path.replace('\'', r"'\''");
            writeln!(
                script,
                "layer{number}=$(losetup --find --show --read-only -- '{quoted}')"
            )?;
            write!(table, " $layer{number} {}", row.bytes)?;
        }
    }
    Ok(match args.losetup {
        true => format!("{script}dmsetup create --concise \"{table}\"\n"),
        false => table + "\n",
    })
}
