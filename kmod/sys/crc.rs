// SPDX-License-Identifier: GPL-2.0

//! CRC32C by the kernel's fastest code.
//!
//! C header: `include/linux/crc32.h`.

use super::generated;

/// The kernel's `crc32c()`, without inversion at either end: continues from `seed` over `data`.
pub(crate) fn crc32c(seed: u32, data: &[u8]) -> u32 {
    // SAFETY: `data` is valid for reads of its length, and the function does nothing but read it.
    unsafe { generated::crc32c(seed, data.as_ptr().cast(), data.len()) }
}
