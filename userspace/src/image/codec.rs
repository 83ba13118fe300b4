// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Checksum, decoders and encoders, from the libraries that upstream uses.

use std::io;
use vbd_format::zfile::{Algorithm, Codec};
use vbd_format::Checksum;

/// CRC32C of the `crc32c` crate, without the inversions that it makes at both ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crc;

impl Checksum for Crc {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        !crc32c::crc32c_append(!seed, data)
    }
}

/// The decoders, with the memory they keep between blocks.
#[derive(Default)]
pub struct Decoders {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Codec for Decoders {
    fn decode(&mut self, algorithm: Algorithm, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        match algorithm {
            Algorithm::Lz4 => {
                let room = i32::try_from(dst.len()).ok()?;
                lz4::block::decompress_to_buffer(src, Some(room), dst).ok()
            }
            Algorithm::Zstd => {
                if self.zstd.is_none() {
                    self.zstd = zstd::bulk::Decompressor::new().ok();
                }
                self.zstd.as_mut()?.decompress_to_buffer(src, dst).ok()
            }
        }
    }
}

/// The ZSTD level of upstream's tools.
pub const ZSTD_LEVEL: i32 = 3;

/// One compressor, with the memory it keeps between blocks.
pub enum Encoder {
    /// LZ4 blocks, default acceleration.
    Lz4,
    /// ZSTD: one frame a block, with its content size and without a checksum.
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    /// A compressor; `level` is ZSTD's and means nothing to LZ4.
    pub fn new(algorithm: Algorithm, level: i32) -> io::Result<Self> {
        Ok(match algorithm {
            Algorithm::Lz4 => Self::Lz4,
            Algorithm::Zstd => Self::Zstd(zstd::bulk::Compressor::new(level)?),
        })
    }

    /// Compresses `src` to the start of `dst`, which must hold [`Algorithm::bound`] bytes, and
    /// returns the bytes written. The output may be larger than the input.
    pub fn encode(&mut self, src: &[u8], dst: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Lz4 => lz4::block::compress_to_buffer(src, None, false, dst),
            Self::Zstd(context) => context.compress_to_buffer(src, dst),
        }
    }
}
