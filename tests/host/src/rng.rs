// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Repeatable pseudo-random content.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// Next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.word() % limit
    }

    /// One of `list`.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// Bytes that do not compress.
    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.word().to_le_bytes());
        }
        out.truncate(len);
        out
    }

    /// Bytes in runs, some of noise and some of one value: they compress somewhat.
    pub fn texture(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 1024);
        while out.len() < len {
            let run = 1 + self.below(900) as usize;
            if self.word() & 1 == 0 {
                out.extend(self.noise(run));
            } else {
                let byte = self.word() as u8;
                out.extend(std::iter::repeat_n(byte, run));
            }
        }
        out.truncate(len);
        out
    }
}
