// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Decoders and encoders: the real ones, and one that copies.

use vbd_format::zfile::{Algorithm, Codec, HeadCodec};

/// LZ4 and ZSTD by their own libraries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Real;

impl Codec for Real {
    fn decode(&mut self, algorithm: Algorithm, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        match algorithm {
            Algorithm::Lz4 => lz4_flex::block::decompress_into(src, dst).ok(),
            Algorithm::Zstd => zstd::bulk::decompress_to_buffer(src, dst).ok(),
        }
    }
}

/// Compresses one block with the real encoder; `algo` is the number on disk.
pub fn encode(algo: u8, plain: &[u8]) -> Vec<u8> {
    match algo {
        1 => lz4_flex::block::compress(plain),
        2 => zstd::bulk::compress(plain, 3).expect("zstd compresses"),
        _ => plain.to_vec(),
    }
}

/// A decoder whose compressed form is the plain bytes. Fails where the real ones would: on an
/// empty input, and when the output does not fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copying {
    /// Blocks decoded so far.
    pub calls: usize,
}

impl Codec for Copying {
    fn decode(&mut self, _: Algorithm, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        self.calls += 1;
        assert!(
            dst.iter().all(|&b| b == 0),
            "the output must be cleared before a decoder sees it"
        );
        if src.is_empty() {
            return None;
        }
        dst.get_mut(..src.len())?.copy_from_slice(src);
        Some(src.len())
    }
}

impl HeadCodec for Copying {
    fn decode_head(&mut self, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        let head = src.get(..dst.len()).unwrap_or(src);
        self.decode(Algorithm::Lz4, head, dst)
    }
}
