// SPDX-License-Identifier: GPL-2.0

//! Decoders for blocks: one ZSTD context for each CPU that is there, shared by all devices. CPUs that come
//! later share those.
//!
//! A context is held only while a block is decoded, never while anything is waited for, so there
//! is no order between contexts and no device can starve another one.

use crate::format::zfile::{Algorithm, Codec, HeadCodec, Output};
use crate::format::Checksum;
use crate::sys::codec::{lz4_decompress, lz4_decompress_head, Zstd};
use crate::sys::crc::crc32c;
use crate::sys::machine;
use crate::sys::pages::Chunk;
use kernel::cpu::CpuId;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Mutex};

/// The kernel's checksum, which is just what the format wants.
#[derive(Clone, Copy)]
pub(crate) struct Crc32c;

impl Checksum for Crc32c {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        crc32c(seed, data)
    }
}

impl Output for Chunk<'_> {
    fn len(&self) -> usize {
        Chunk::len(self)
    }

    fn clear(&mut self) {
        Chunk::clear(self);
    }
}

/// The decoders of the module.
pub(crate) struct Codecs {
    /// One for each CPU, each without a context before the first ZSTD layer.
    zstd: KVec<Pin<KBox<Mutex<Option<Zstd>>>>>,
}

impl Codecs {
    /// Decoders for LZ4, which needs no memory, and empty places for ZSTD contexts.
    pub(crate) fn new() -> Result<Self> {
        let count = machine::processors();
        let mut zstd = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let slot = KBox::pin_init(new_mutex!(None, "vbd_zstd"), GFP_KERNEL)?;
            zstd.push(slot, GFP_KERNEL)?;
        }
        Ok(Self { zstd })
    }

    /// Makes sure that blocks of `algorithm` can be decoded; allocates on first need.
    pub(crate) fn prepare(&self, algorithm: Algorithm) -> Result {
        if algorithm == Algorithm::Zstd {
            for slot in &self.zstd {
                let mut context = slot.lock();
                if context.is_none() {
                    *context = Some(Zstd::new()?);
                }
            }
        }
        Ok(())
    }

    fn zstd_decompress(&self, src: &[u8], dst: &mut Chunk<'_>) -> Option<usize> {
        let cpu = CpuId::current().as_u32() as usize;
        let here = cpu.checked_rem(self.zstd.len())?;
        let (before, after) = self.zstd.split_at_checked(here)?;
        let mut context =
            match Iterator::chain(after.iter(), before).find_map(|slot| slot.try_lock()) {
                Some(context) => context,
                None => self.zstd.get(here)?.lock(),
            };
        (*context).as_mut()?.decompress(src, dst)
    }
}

impl Codec<Chunk<'_>> for &Codecs {
    fn decode(&mut self, algorithm: Algorithm, src: &[u8], dst: &mut Chunk<'_>) -> Option<usize> {
        match algorithm {
            Algorithm::Lz4 => lz4_decompress(src, dst),
            Algorithm::Zstd => self.zstd_decompress(src, dst),
        }
    }
}

impl HeadCodec<Chunk<'_>> for &Codecs {
    fn decode_head(&mut self, src: &[u8], dst: &mut Chunk<'_>) -> Option<usize> {
        lz4_decompress_head(src, dst)
    }
}
