// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The footer of a VHD, which is the last sector of the file.

use crate::error::{Error, Result};
use crate::image::source::Source;
use vbd_format::limits::SECTOR;

/// How a footer begins.
pub(super) const MAGIC: &[u8] = b"conectix";

/// Fields of the footer, by their first byte; numbers are big endian.
const CURRENT_SIZE: usize = 48;
const TYPE: usize = 60;
const CHECKSUM: usize = 64;

/// Values of the type.
const FIXED: u32 = 2;
pub(super) const DIFFERENCING: u32 = 4;

/// A footer, or the copy of it that a dynamic VHD begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footer {
    /// Bytes of the disk.
    size: u64,
    /// Fixed, dynamic or differencing.
    pub(super) kind: u32,
}

impl Footer {
    /// The footer at byte `at`; [`None`] if there is none whose checksum is right.
    pub(super) fn read(image: &Source, at: u64) -> Result<Option<Self>> {
        let mut bytes = [0; SECTOR as usize];
        image.read(at, &mut bytes)?;
        let u32_at = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        let checksum = !(sum(&bytes) - sum(&bytes[CHECKSUM..CHECKSUM + 4]));
        if !bytes.starts_with(MAGIC) || checksum != u32_at(CHECKSUM) {
            return Ok(None);
        }
        Ok(Some(Self {
            size: u64::from(u32_at(CURRENT_SIZE)) << 32 | u64::from(u32_at(CURRENT_SIZE + 4)),
            kind: u32_at(TYPE),
        }))
    }

    /// The footer at the end of the file.
    pub(super) fn last(image: &Source) -> Result<Option<Self>> {
        match image.size().checked_sub(SECTOR) {
            Some(at) => Self::read(image, at),
            None => Ok(None),
        }
    }
}

/// Bytes of the disk of a fixed VHD, which stands at the beginning of the file as it is; [`None`] if
/// the image is none.
pub(super) fn fixed_size(image: &Source) -> Result<Option<u64>> {
    let Some(footer) = Footer::last(image)?.filter(|footer| footer.kind == FIXED) else {
        return Ok(None);
    };
    let room = image.size() - SECTOR;
    if footer.size > room {
        let reason = format!(
            "is cut off: a fixed VHD of {} bytes, of which {room} are here",
            footer.size
        );
        return Err(Error::unfit(image.path(), reason));
    }
    Ok(Some(footer.size))
}
