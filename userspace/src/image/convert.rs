// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Changes the container of a layer, and reads disk images of other formats.

use super::container::Container;
use super::filesystem::{run, Scratch};
use super::layer::Layer;
use super::lsmt_writer::tie;
use super::output::Sink as _;
use super::parallel::in_order;
use super::source::Source;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use vbd_format::lsmt::UUID_NONE;

/// Bytes that one task reads, a multiple of every block size.
const PART: u64 = 512 * 1024;

/// Puts the layer `source` into another container at `path`, byte for byte, but that the header gets the
/// trailer's name if it has none and is not compressed; returns the size of the new file.
///
/// `progress` is told the bytes of the LSMT file that are done.
pub fn convert(
    source: &Layer,
    path: &Path,
    container: &Container,
    jobs: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let size = source.lsmt_size();
    let mut packer = container.begin(path)?;
    let mut next = 0;
    in_order(
        jobs,
        || source.reader(),
        |reader, at: u64| {
            let mut bytes = vec![0; PART.min(size - at) as usize];
            reader.read_exact_at(at, &mut bytes)?;
            Ok(bytes)
        },
        || {
            let at = next;
            next += PART;
            Ok((at < size).then_some(at))
        },
        |bytes: Result<Vec<u8>>| {
            packer.write(&bytes?)?;
            progress(packer.position());
            Ok(ControlFlow::Continue(()))
        },
    )?;
    // The header of a layer that was made compressed has no name.
    if source.header_uuid()? == UUID_NONE {
        tie(&mut packer, &source.lsmt.trailer.uuid)?;
    }
    packer.finish()
}

/// Formats of disk images, by how they begin: name for qemu-img, byte and magic.
const FORMATS: [(&str, usize, &[u8]); 7] = [
    ("qcow2", 0, b"QFI\xfb"),
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("vmdk", 0, b"# Disk DescriptorFile"),
    ("vdi", 64, b"\x7f\x10\xda\xbe"),
    ("vhdx", 0, b"vhdxfile"),
    ("vpc", 0, b"conectix"),
];

/// The format of a disk image that only qemu-img reads, in its words; [`None`] for a raw image.
pub fn foreign_format(path: &Path) -> Result<Option<&'static str>> {
    let mut start = Vec::new();
    File::open(path)
        .map_err(Error::io(path, "cannot open"))?
        .take(512)
        .read_to_end(&mut start)
        .map_err(Error::transfer(path, 0, "cannot read"))?;
    Ok(FORMATS
        .iter()
        .find(|(_, at, magic)| start.get(*at..at + magic.len()) == Some(magic))
        .map(|(name, ..)| *name))
}

/// The disk of the image `path`, whose format is `format`, as a raw image: a file without a name
/// beside `result`.
pub fn foreign_image(path: &Path, format: &str, result: &Path) -> Result<Source> {
    let scratch = Scratch::beside(&result.with_extension("raw"))?;
    let mut command = Command::new("qemu-img");
    command
        .args(["convert", "-f", format, "-O", "raw", "--"])
        .arg(path)
        .arg(&scratch.target);
    run(&mut command, path)?;
    Source::from_file(path, scratch.file)
}
