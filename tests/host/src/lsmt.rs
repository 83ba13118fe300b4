// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! LSMT layers, written by the numbers of `docs/format-lsmt.md`.

use crate::mem::Sparse;
use crate::{put, put_u32, put_u64};

/// One index record, to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// First virtual sector.
    pub offset: u64,
    /// Sectors.
    pub len: u64,
    /// First stored sector.
    pub moffset: u64,
    /// Whether it reads as zeroes.
    pub zeroed: bool,
    /// The tag byte on disk.
    pub tag: u8,
}

impl Record {
    /// A record of stored data.
    pub fn data(offset: u64, len: u64, moffset: u64) -> Self {
        Self {
            offset,
            len,
            moffset,
            ..Self::default()
        }
    }

    /// A record that reads as zeroes.
    pub fn zero(offset: u64, len: u64, moffset: u64) -> Self {
        Self {
            zeroed: true,
            ..Self::data(offset, len, moffset)
        }
    }

    /// First sector after it.
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// The 16 bytes on disk.
    pub fn bytes(&self) -> [u8; 16] {
        let bits = u128::from(self.offset)
            | u128::from(self.len) << 50
            | u128::from(self.moffset) << 64
            | u128::from(self.zeroed) << 119
            | u128::from(self.tag) << 120;
        bits.to_le_bytes()
    }
}

/// A padding record as writers make it.
pub const PADDING: [u8; 16] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// Data of so many sectors: sector `i` holds `i + 1` in every byte.
pub fn numbered(sectors: u8) -> Vec<u8> {
    (1..=sectors).flat_map(|value| [value; 512]).collect()
}

/// Everything that a sealed layer is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Flags of the header.
    pub header_flags: u32,
    /// Flags of the trailer.
    pub trailer_flags: u32,
    /// Bytes of the virtual disk.
    pub virtual_size: u64,
    /// Uuid text of the trailer.
    pub uuid: [u8; 37],
    /// Parent's uuid text of the trailer.
    pub parent_uuid: [u8; 37],
    /// Free text.
    pub user_tag: Vec<u8>,
    /// Data, from byte 4096 on.
    pub data: Vec<u8>,
    /// Bytes between data and index.
    pub junk_before_index: Vec<u8>,
    /// Index records as on disk, padding included.
    pub records: Vec<[u8; 16]>,
    /// Bytes between index and trailer.
    pub junk_after_index: Vec<u8>,
}

impl Spec {
    /// A committed layer.
    pub fn new(virtual_size: u64, data: Vec<u8>, records: &[Record]) -> Self {
        Self {
            header_flags: 0x07,
            trailer_flags: 0x06,
            virtual_size,
            uuid: *b"01234567-89AB-CDEF-0123-456789ABCDEF\0",
            parent_uuid: *b"00000000-0000-0000-0000-000000000000\0",
            user_tag: b"made by a test".to_vec(),
            data,
            junk_before_index: Vec::new(),
            records: records.iter().map(Record::bytes).collect(),
            junk_after_index: Vec::new(),
        }
    }

    /// Byte at which the index begins.
    pub fn index_at(&self) -> u64 {
        (4096 + self.data.len() + self.junk_before_index.len()) as u64
    }

    /// Header or trailer.
    pub fn structure(&self, flags: u32, index: Option<u64>) -> Vec<u8> {
        let mut bytes = vec![0u8; 4096];
        put(
            &mut bytes,
            0,
            [0x4c, 0x53, 0x4d, 0x54, 0x00, 0x01, 0x02, 0x00],
        );
        put(
            &mut bytes,
            8,
            [
                0x65, 0x7e, 0x63, 0xd2, 0x94, 0x44, 0x08, 0x4c, 0xa2, 0xd2, 0xc8, 0xec, 0x4f, 0xcf,
                0xae, 0x8a,
            ],
        );
        put_u32(&mut bytes, 24, 390);
        put_u32(&mut bytes, 28, flags);
        if let Some(at) = index {
            put_u64(&mut bytes, 32, at);
            put_u64(&mut bytes, 40, self.records.len() as u64);
        }
        put_u64(&mut bytes, 48, self.virtual_size);
        put(&mut bytes, 56, self.uuid);
        put(&mut bytes, 93, self.parent_uuid);
        bytes[132] = 1;
        bytes[133] = 1;
        bytes[134..134 + self.user_tag.len()].copy_from_slice(&self.user_tag);
        bytes
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let mut file = self.structure(self.header_flags, None);
        file.extend_from_slice(&self.data);
        file.extend_from_slice(&self.junk_before_index);
        file.extend(self.records.iter().flatten());
        file.extend_from_slice(&self.junk_after_index);
        file.extend(self.structure(self.trailer_flags, Some(self.index_at())));
        file
    }

    /// The file with the index at byte `index_at`, however far; data is zeroes then.
    pub fn build_sparse(&self, index_at: u64) -> Sparse {
        let index: Vec<u8> = self.records.iter().flatten().copied().collect();
        let trailer_at = index_at + index.len() as u64;
        Sparse {
            size: trailer_at + 4096,
            pieces: vec![
                (0, self.structure(self.header_flags, None)),
                (index_at, index),
                (
                    trailer_at,
                    self.structure(self.trailer_flags, Some(index_at)),
                ),
            ],
        }
    }
}
