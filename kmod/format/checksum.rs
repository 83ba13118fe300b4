// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! CRC32C as overlaybd computes it: Castagnoli polynomial, reflected, no inversion at either end.
//!
//! The kernel's `crc32c(seed, data)` is exactly this. A library whose CRC inverts both ends gives
//! the same with `!crc32c_append(!seed, data)`.

/// Seed of header digests and of the jump table's checksum.
pub const SEED_METADATA: u32 = 0;

/// Seed of the checksum that follows each compressed block.
pub const SEED_BLOCK: u32 = 100_007;

/// Bytes of checksum after a compressed block.
pub const BLOCK_CRC_BYTES: usize = 4;

/// The raw CRC32C, supplied by the caller so that each side uses its fastest code.
pub trait Checksum {
    /// Continues from `seed` over `data`.
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32;
}

impl<C: Checksum + ?Sized> Checksum for &C {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        (**self).crc32c(seed, data)
    }
}
