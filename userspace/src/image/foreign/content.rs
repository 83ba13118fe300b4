// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the bytes of a file look like.
//!
//! A guest can write any of this to its disk, so it is only used to refuse, or where the user asked
//! for a guess.

use super::{vhd, Format};
use crate::error::Result;
use crate::image::disk::is_layer;
use crate::image::source::Source;
use std::path::Path;
use vbd_format::limits::SECTOR;

/// What a file begins, or ends, as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A layer, wrapped or not.
    Layer,
    /// A disk image.
    Image(Format),
    /// Something that is neither; how it is called, with its article.
    Other(&'static str),
    /// Nothing that is known here, which a raw image is.
    Unknown,
}

impl Content {
    /// How it is called, with its article; [`None`] for what is not known.
    pub fn name(self) -> Option<String> {
        match self {
            Self::Layer => Some("a layer".to_owned()),
            Self::Image(format) => Some(format!("a {} image", format.name())),
            Self::Other(name) => Some(name.to_owned()),
            Self::Unknown => None,
        }
    }
}

/// Disk images, by the byte and the magic there.
const IMAGES: [(Format, usize, &[u8]); 8] = [
    (Format::Qcow2, 0, b"QFI\xfb\0\0\0\x02"),
    (Format::Qcow2, 0, b"QFI\xfb\0\0\0\x03"),
    (Format::Vmdk, 0, b"KDMV"),
    (Format::Vmdk, 0, b"COWD"),
    (Format::Vmdk, 0, b"# Disk DescriptorFile"),
    (Format::Vdi, 64, b"\x7f\x10\xda\xbe"),
    (Format::Vhdx, 0, b"vhdxfile"),
    (Format::Vhd, 0, vhd::MAGIC),
];

/// What is no disk as it stands.
const OTHERS: [(&str, usize, &[u8]); 25] = [
    ("an xz file", 0, b"\xfd7zXZ\0"),
    ("a gzip file", 0, b"\x1f\x8b\x08"),
    ("a zstd file", 0, b"\x28\xb5\x2f\xfd"),
    ("an lz4 file", 0, b"\x04\x22\x4d\x18"),
    ("a bzip2 file", 0, b"BZh"),
    ("an lzip file", 0, b"LZIP\x01"),
    ("an lzop file", 0, b"\x89LZO\0\r\n\x1a\n"),
    ("a zip file", 0, b"PK\x03\x04"),
    ("a 7z file", 0, b"7z\xbc\xaf\x27\x1c"),
    ("a rar file", 0, b"Rar!\x1a\x07"),
    ("a tar archive", 257, b"ustar"),
    ("a cpio archive", 0, b"070701"),
    ("a cpio archive", 0, b"070702"),
    ("a cpio archive", 0, b"070707"),
    ("an ar archive", 0, b"!<arch>\n"),
    ("a qcow image of an unknown version", 0, b"QFI\xfb"),
    ("a QED image", 0, b"QED\0"),
    ("a Parallels image", 0, b"WithoutFreeSpace"),
    ("a Parallels image", 0, b"WithouFreSpacExt"),
    ("a Bochs image", 0, b"Bochs Virtual HD Image"),
    ("a cloop image", 0, b"#!/bin/sh\n#V2.0 Format"),
    ("an Android sparse image", 0, b"\x3a\xff\x26\xed"),
    ("a WIM image", 0, b"MSWIM\0\0\0"),
    ("an EWF image", 0, b"EVF\x09\x0d\x0a\xff\0"),
    ("a stream of btrfs send", 0, b"btrfs-stream\0"),
];

/// Says what the bytes of `path` look like.
pub fn content_of(path: &Path) -> Result<Content> {
    if is_layer(path)? {
        return Ok(Content::Layer);
    }
    let source = Source::open(path)?;
    // Before what stands at the beginning, which of a fixed VHD is the guest's.
    if vhd::fixed_size(&source)?.is_some() {
        return Ok(Content::Image(Format::Vhd));
    }
    let mut start = [0; SECTOR as usize];
    source.read(0, &mut start)?;
    let has = |at: usize, magic: &[u8]| start.get(at..at + magic.len()) == Some(magic);
    if let Some((format, ..)) = IMAGES.iter().find(|(_, at, magic)| has(*at, magic)) {
        return Ok(Content::Image(*format));
    }
    if let Some((name, ..)) = OTHERS.iter().find(|(_, at, magic)| has(*at, magic)) {
        return Ok(Content::Other(name));
    }
    if start.trim_ascii_start().first() == Some(&b'{') {
        return Ok(Content::Other("JSON"));
    }
    let mut end = [0; SECTOR as usize];
    source.read(source.size().saturating_sub(SECTOR), &mut end)?;
    if end.starts_with(b"koly") {
        return Ok(Content::Other("an Apple disk image"));
    }
    Ok(Content::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_magic_is_known_for_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let seen = |at: usize, magic: &[u8]| {
            let mut bytes = vec![0; 4096];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            fs::write(&path, bytes).unwrap();
            content_of(&path).unwrap()
        };
        for (format, at, magic) in IMAGES {
            assert_eq!(seen(at, magic), Content::Image(format));
        }
        for (name, at, magic) in OTHERS {
            assert_eq!(seen(at, magic), Content::Other(name));
        }
        assert_eq!(seen(0, b"\n {\"lowers\""), Content::Other("JSON"));
        assert_eq!(
            seen(4096 - 512, b"koly"),
            Content::Other("an Apple disk image")
        );
        // File systems and partition tables are what disks hold.
        assert_eq!(seen(510, b"\x55\xaa"), Content::Unknown);
        assert_eq!(seen(1080, b"\x53\xef"), Content::Unknown);
        assert_eq!(seen(0, b"LUKS\xba\xbe"), Content::Unknown);
        assert_eq!(seen(0, b"hsqs"), Content::Unknown);
    }
}
