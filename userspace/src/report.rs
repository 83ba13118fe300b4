// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What layers and stacks are, for people and as stable JSON.
//!
//! All sizes are bytes unless a name says otherwise. Fields are never renamed or removed; new ones
//! may come. The JSON of `vbdctl info --json` is a [`StackReport`]:
//!
//! | field | meaning |
//! |---|---|
//! | `layers` | a [`LayerReport`] for each layer, bottom first |
//! | `virtual_size` | bytes of the disk |
//! | `records` | records of the merged index |
//! | `data_bytes`, `zeroed_bytes`, `hole_bytes` | how the disk's bytes are mapped; their sum is `virtual_size` |
//! | `file_bytes` | bytes of all layer files |
//!
//! and of a layer:
//!
//! | field | meaning |
//! |---|---|
//! | `file` | path, as given |
//! | `file_size` | bytes of the file |
//! | `tar` | `null`, or `form` (`ustar` or `pax`), `payload_offset` and `payload_size` |
//! | `zfile` | `null` for a layer that is not compressed, or a [`ZFileReport`] |
//! | `lsmt` | a [`LsmtReport`] |

pub mod device;

use crate::error::escaped;
use crate::image::{Layer, Stack};
use serde::Serialize;
use std::fmt::{self, Write as _};
use vbd_format::limits::SECTOR;
use vbd_format::tar::Wrapper;

/// A stack.
#[derive(Clone, Debug, Serialize)]
pub struct StackReport {
    /// Layers, bottom first.
    pub layers: Vec<LayerReport>,
    /// Bytes of the disk.
    pub virtual_size: u64,
    /// Records of the merged index.
    pub records: u64,
    /// Bytes of the disk that some layer stores.
    pub data_bytes: u64,
    /// Bytes of the disk that a record says are zero.
    pub zeroed_bytes: u64,
    /// Bytes of the disk that no layer has a record for.
    pub hole_bytes: u64,
    /// Bytes of all layer files.
    pub file_bytes: u64,
}

/// A layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// Path, as given.
    pub file: String,
    /// Bytes of the file.
    pub file_size: u64,
    /// The tar wrapper, if there is one.
    pub tar: Option<TarReport>,
    /// The compression, if there is any.
    pub zfile: Option<ZFileReport>,
    /// The layer proper.
    pub lsmt: LsmtReport,
}

/// A tar wrapper.
#[derive(Clone, Debug, Serialize)]
pub struct TarReport {
    /// `ustar` or `pax`.
    pub form: &'static str,
    /// Byte of the file at which the payload begins.
    pub payload_offset: u64,
    /// Bytes of the payload.
    pub payload_size: u64,
}

/// A ZFile.
#[derive(Clone, Debug, Serialize)]
pub struct ZFileReport {
    /// `lz4` or `zstd`.
    pub algorithm: &'static str,
    /// Bytes of input in a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Whether a checksum follows each block.
    pub block_crc: bool,
    /// Bytes of the ZFile.
    pub compressed_size: u64,
    /// Bytes before compression.
    pub original_size: u64,
    /// Compressed size divided by original size, rounded to four decimals.
    pub ratio: f64,
    /// Whether the numbers stand in the header; otherwise in the trailer only.
    pub header_overwritten: bool,
    /// Whether header and jump table carry checksums.
    pub digest: bool,
}

/// The layer proper.
#[derive(Clone, Debug, Serialize)]
pub struct LsmtReport {
    /// Bytes of the virtual disk; 0 if the layer does not say.
    pub virtual_size: u64,
    /// Records that map something.
    pub records: u64,
    /// Records that are padding or empty.
    pub padding_records: u64,
    /// Bytes of the disk that the layer stores.
    pub data_bytes: u64,
    /// Bytes of the disk that the layer says are zero.
    pub zeroed_bytes: u64,
    /// The layer's name; empty if it has none that can be read.
    pub uuid: String,
    /// The name of the layer below.
    pub parent_uuid: String,
    /// Free text, such as a commit message.
    pub message: String,
}

impl StackReport {
    /// Describes an open stack.
    pub fn of(stack: &Stack) -> Self {
        let mapped = stack.mapped();
        let used = mapped.data_bytes + mapped.zeroed_bytes;
        Self {
            layers: stack.layers().iter().map(LayerReport::of).collect(),
            virtual_size: stack.virtual_size(),
            records: mapped.records,
            data_bytes: mapped.data_bytes,
            zeroed_bytes: mapped.zeroed_bytes,
            hole_bytes: stack.virtual_size() - used,
            file_bytes: stack.layers().iter().map(Layer::file_size).sum(),
        }
    }

    /// The report as JSON, in lines.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

impl LayerReport {
    /// Describes an open layer.
    pub fn of(layer: &Layer) -> Self {
        let form = match layer.wrapper {
            Wrapper::None => None,
            Wrapper::Ustar => Some("ustar"),
            Wrapper::Pax => Some("pax"),
        };
        let trailer = &layer.lsmt.trailer;
        Self {
            file: layer.path.display().to_string(),
            file_size: layer.file_size(),
            tar: form.map(|form| TarReport {
                form,
                payload_offset: layer.payload_offset(),
                payload_size: layer.payload_size(),
            }),
            zfile: layer.zfile().map(|zfile| ZFileReport {
                algorithm: zfile.algorithm.name(),
                block_size: zfile.block_size,
                blocks: zfile.blocks(),
                block_crc: zfile.block_crc,
                compressed_size: layer.payload_size(),
                original_size: zfile.original_size,
                ratio: ratio(layer.payload_size(), zfile.original_size),
                header_overwritten: zfile.from_header,
                digest: zfile.index_crc.is_some(),
            }),
            lsmt: LsmtReport {
                virtual_size: layer.lsmt.virtual_size,
                records: layer.contents.records,
                padding_records: layer.lsmt.index_size - layer.contents.records,
                data_bytes: layer.contents.data_bytes,
                zeroed_bytes: layer.contents.zeroed_bytes,
                uuid: text(&trailer.uuid),
                parent_uuid: text(&trailer.parent_uuid),
                message: text(&trailer.user_tag),
            },
        }
    }
}

/// Four decimals of `part / whole`.
fn ratio(part: u64, whole: u64) -> f64 {
    (part as f64 / whole.max(1) as f64 * 10_000.0).round() / 10_000.0
}

/// The text of a field that ends with NULs.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

impl fmt::Display for StackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, layer) in self.layers.iter().enumerate() {
            writeln!(f, "layer {number}: {}", escaped(&layer.file))?;
            write!(f, "{layer}")?;
        }
        let layers = match self.layers.len() {
            1 => "1 layer".to_owned(),
            n => format!("{n} layers, layer 0 at the bottom"),
        };
        writeln!(f, "stack: {layers}")?;
        let sectors = self.virtual_size / SECTOR;
        row(
            f,
            "virtual size",
            format_args!("{} bytes, {sectors} sectors", self.virtual_size),
        )?;
        row(f, "records", format_args!("{} merged", self.records))?;
        row(f, "data", format_args!("{}", size(self.data_bytes)))?;
        row(f, "zeroed", format_args!("{}", size(self.zeroed_bytes)))?;
        row(f, "holes", format_args!("{}", size(self.hole_bytes)))?;
        row(f, "files", format_args!("{}", size(self.file_bytes)))
    }
}

impl fmt::Display for LayerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(f, "file size", format_args!("{}", size(self.file_size)))?;
        if let Some(tar) = &self.tar {
            row(
                f,
                "tar",
                format_args!(
                    "{}, payload of {} bytes at {}",
                    tar.form, tar.payload_size, tar.payload_offset
                ),
            )?;
        }
        match &self.zfile {
            None => row(f, "compression", format_args!("none"))?,
            Some(zfile) => zfile.rows(f)?,
        }
        let lsmt = &self.lsmt;
        row(
            f,
            "virtual size",
            format_args!("{}", size(lsmt.virtual_size)),
        )?;
        row(
            f,
            "records",
            format_args!("{} and {} padding", lsmt.records, lsmt.padding_records),
        )?;
        row(f, "data", format_args!("{}", size(lsmt.data_bytes)))?;
        row(f, "zeroed", format_args!("{}", size(lsmt.zeroed_bytes)))?;
        row(f, "uuid", format_args!("{}", lsmt.uuid))?;
        row(f, "parent uuid", format_args!("{}", lsmt.parent_uuid))?;
        if !lsmt.message.is_empty() {
            row(
                f,
                "message",
                format_args!("{}", lsmt.message.escape_debug()),
            )?;
        }
        Ok(())
    }
}

impl ZFileReport {
    fn rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(
            f,
            "compression",
            format_args!(
                "{}, {} blocks of {} bytes, {} block checksums",
                self.algorithm,
                self.blocks,
                self.block_size,
                if self.block_crc { "with" } else { "without" },
            ),
        )?;
        let mut numbers = String::from(if self.header_overwritten {
            "numbers in the header"
        } else {
            "numbers in the trailer only"
        });
        if !self.digest {
            write!(numbers, ", no digest")?;
        }
        row(
            f,
            "",
            format_args!(
                "{} bytes for {} ({:.1} %), {numbers}",
                self.compressed_size,
                self.original_size,
                self.ratio * 100.0
            ),
        )
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "  {name:<14}{}", escaped(&value.to_string()))
}

/// Bytes, and the same in a binary unit where that is shorter.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = None;
    for name in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = Some(name);
    }
    match unit {
        Some(unit) if value.fract() == 0.0 => format!("{bytes} bytes ({value} {unit})"),
        Some(unit) => format!("{bytes} bytes ({value:.1} {unit})"),
        None => format!("{bytes} bytes"),
    }
}
