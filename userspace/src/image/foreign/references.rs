// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Whether a disk image takes part of its contents from other files.
//!
//! Found out here and not by qemu-img, which opens some of those files to tell.

use super::vhd::{Footer, DIFFERENCING};
use super::Format;
use crate::error::{Error, Result};
use crate::image::source::Source;
use vbd_format::limits::SECTOR;

/// Bytes of a description inside a VMDK, more than any reader looks at, and before any data.
const DESCRIPTION: usize = 32 * 1024;

/// Where VHDX keeps its table of regions, and how many entries that may have.
const REGIONS_AT: u64 = 192 * 1024;
const MOST_REGIONS: u64 = 2047;

/// The region with the metadata, the item with the parameters, in the order of their bytes.
const METADATA: [u8; 16] = *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
const PARAMETERS: [u8; 16] = *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
const HAS_PARENT: u8 = 2;

/// What the image refers to, in words; [`None`] if it is complete. An error if it is not of `format`,
/// or refers to what qemu-img leaves out without a word.
pub(super) fn of(image: &Source, format: Format) -> Result<Option<String>> {
    match format {
        Format::Qcow2 => qcow2(image),
        Format::Vmdk => vmdk(image),
        Format::Vdi => vdi(image).map(|()| None),
        Format::Vhd => vhd(image).map(|()| None),
        Format::Vhdx => vhdx(image).map(|()| None),
    }
}

fn bytes<const N: usize>(image: &Source, at: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    image.read(at, &mut bytes)?;
    Ok(bytes)
}

fn be32(image: &Source, at: u64) -> Result<u32> {
    bytes(image, at).map(u32::from_be_bytes)
}

fn be64(image: &Source, at: u64) -> Result<u64> {
    bytes(image, at).map(u64::from_be_bytes)
}

fn le32(image: &Source, at: u64) -> Result<u32> {
    bytes(image, at).map(u32::from_le_bytes)
}

fn le64(image: &Source, at: u64) -> Result<u64> {
    bytes(image, at).map(u64::from_le_bytes)
}

fn no_image(image: &Source, format: Format) -> Error {
    Error::unfit(image.path(), format!("is no {} image", format.name()))
}

fn no_parent(image: &Source) -> Error {
    let reason = "is a differencing image: what its parent holds cannot be read";
    Error::unfit(image.path(), reason)
}

fn qcow2(image: &Source) -> Result<Option<String>> {
    let version = be32(image, 4)?;
    if bytes(image, 0)? != *b"QFI\xfb" || !(2..=3).contains(&version) {
        return Err(no_image(image, Format::Qcow2));
    }
    let (name_at, length) = (be64(image, 8)?, be32(image, 16)?);
    if name_at != 0 {
        let mut name = vec![0; length.min(1023) as usize];
        image.read(name_at, &mut name)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        return Ok(Some(format!("the backing file {name:?}")));
    }
    // Bit 2 of the incompatible features.
    let external = version == 3 && be64(image, 72)? & 4 != 0;
    Ok(external.then(|| "an external data file".to_owned()))
}

fn vmdk(image: &Source) -> Result<Option<String>> {
    let magic = bytes(image, 0)?;
    let (sparse, cowd) = (magic == *b"KDMV", magic == *b"COWD");
    if !sparse && !cowd {
        let start = bytes::<64>(image, 0)?.to_ascii_lowercase();
        let start = start.trim_ascii_start();
        if !start.starts_with(b"# disk descriptorfile") && !start.starts_with(b"version=") {
            return Err(no_image(image, Format::Vmdk));
        }
        return Ok(Some("the extents that it describes".to_owned()));
    }
    // Without a capacity of its own it is read as a description.
    if sparse && le64(image, 12)? == 0 {
        return Ok(Some("the extents that it describes".to_owned()));
    }
    // Where readers look: after the header, and where that says.
    let mut places = vec![SECTOR];
    if sparse {
        places.push(le64(image, 28)?.saturating_mul(SECTOR));
    }
    for at in places {
        let mut text = vec![0; DESCRIPTION];
        image.read(at, &mut text)?;
        let hint = b"parentFileNameHint";
        if text.windows(hint.len()).any(|part| part == hint) {
            return Ok(Some("the parent that it describes".to_owned()));
        }
    }
    Ok(None)
}

fn vdi(image: &Source) -> Result<()> {
    if bytes(image, 64)? != *b"\x7f\x10\xda\xbe" {
        return Err(no_image(image, Format::Vdi));
    }
    // Dynamic and fixed; what differs from another one has its names, too.
    let links: [u8; 32] = bytes(image, 0x1a8)?;
    if !(1..=2).contains(&le32(image, 0x4c)?) || links != [0; 32] {
        return Err(no_parent(image));
    }
    Ok(())
}

fn vhd(image: &Source) -> Result<()> {
    let footers = [Footer::read(image, 0)?, Footer::last(image)?];
    if footers
        .iter()
        .flatten()
        .any(|footer| footer.kind == DIFFERENCING)
    {
        return Err(no_parent(image));
    }
    footers[0]
        .map(|_| ())
        .ok_or_else(|| no_image(image, Format::Vhd))
}

fn vhdx(image: &Source) -> Result<()> {
    if bytes(image, 0)? != *b"vhdxfile" || bytes(image, REGIONS_AT)? != *b"regi" {
        return Err(no_image(image, Format::Vhdx));
    }
    let regions = u64::from(le32(image, REGIONS_AT + 8)?).min(MOST_REGIONS);
    for region in 0..regions {
        let entry = REGIONS_AT + 16 + region * 32;
        if bytes(image, entry)? != METADATA {
            continue;
        }
        let table = le64(image, entry + 16)?;
        // 64 KiB, with 32 bytes an item.
        for item in 1..2048 {
            let Some(entry) = table.checked_add(item * 32) else {
                break;
            };
            if bytes(image, entry)? != PARAMETERS {
                continue;
            }
            let at = table.saturating_add(le32(image, entry + 16)?.into());
            let [flags] = bytes(image, at.saturating_add(4))?;
            if flags & HAS_PARENT != 0 {
                return Err(no_parent(image));
            }
            return Ok(());
        }
    }
    Err(no_image(image, Format::Vhdx))
}
