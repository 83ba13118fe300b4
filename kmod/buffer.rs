// SPDX-License-Identifier: GPL-2.0

//! Byte buffers that are cheap to make.

use kernel::alloc::Flags;
use kernel::prelude::*;

/// Bytes that are cleared at a time: making a buffer byte by byte would take longer than to use it.
const CHUNK: usize = 256;

/// A buffer of a fixed size, in whole chunks, zero at first.
#[derive(Default)]
pub(crate) struct Buffer(KVVec<[u8; CHUNK]>);

impl Buffer {
    /// Allocates at least `bytes` bytes.
    pub(crate) fn new(bytes: usize, flags: Flags) -> Result<Self> {
        let chunks = bytes.div_ceil(CHUNK);
        Ok(Self(KVVec::from_elem([0; CHUNK], chunks, flags)?))
    }
}

impl core::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_flattened()
    }
}

impl core::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_flattened_mut()
    }
}
