// SPDX-License-Identifier: GPL-2.0

//! CRC32C by the kernel's fastest code.
//!
//! C header: `include/linux/crc32.h`.

use super::generated;
use crate::format::Checksum;

/// The kernel's `crc32c()`: no inversion at either end, just as the format wants it.
#[derive(Clone, Copy)]
pub(crate) struct Crc32c;

impl Checksum for Crc32c {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        // SAFETY: `data` is valid for reads of its length, and the function does nothing but read it.
        unsafe { generated::crc32c(seed, data.as_ptr().cast(), data.len()) }
    }
}
