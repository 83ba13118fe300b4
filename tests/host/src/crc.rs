// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The raw CRC32C, one bit at a time in a table.

use vbd_format::Checksum;

const fn table() -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut i = 0;
    while i < 256 {
        let mut value = i as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = value & 1;
            value >>= 1;
            if carry == 1 {
                value ^= 0x82f6_3b78;
            }
            bit += 1;
        }
        table[i] = value;
        i += 1;
    }
    table
}

const TABLE: [u32; 256] = table();

/// The checksum of overlaybd: Castagnoli, reflected, no inversion.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawCrc;

impl Checksum for RawCrc {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        // A plain loop: it is called a great deal, and tests are not optimised.
        let (mut sum, mut i) = (seed, 0);
        while i < data.len() {
            sum = (sum >> 8) ^ TABLE[((sum ^ data[i] as u32) & 0xff) as usize];
            i += 1;
        }
        sum
    }
}
