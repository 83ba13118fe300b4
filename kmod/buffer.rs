// SPDX-License-Identifier: GPL-2.0

//! Memory for fetching and decoding blocks, used by one reader at a time.

use crate::format::zfile::Run;
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

    /// Makes room for `bytes` bytes, if there is not; what the buffer held is then gone.
    fn make_room(&mut self, bytes: usize, flags: Flags) -> Result {
        if self.len() < bytes {
            // What the allocator would take anyway; so a buffer grows a few times at most.
            let bytes = bytes.checked_next_power_of_two().unwrap_or(bytes);
            *self = Self::new(bytes, flags)?;
        }
        Ok(())
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

/// Blocks of a layer.
#[derive(Clone, Copy)]
pub(crate) struct Fetched {
    pub(crate) layer: u8,
    pub(crate) run: Run,
}

/// A decoded block of a layer, or its first bytes.
#[derive(Clone, Copy)]
pub(crate) struct Decoded {
    pub(crate) layer: u8,
    pub(crate) block: u64,
    pub(crate) len: usize,
}

/// A set of buffers for the blocks of any layer, as far as they are large enough.
#[derive(Default)]
pub(crate) struct BlockBuffers {
    pub(crate) fetch: Buffer,
    /// What `fetch` holds.
    pub(crate) fetched: Option<Fetched>,
    pub(crate) bounce: Buffer,
    /// What `bounce` holds.
    pub(crate) decoded: Option<Decoded>,
}

impl BlockBuffers {
    /// Memory for `fetch` stored and `bounce` decoded bytes.
    pub(crate) fn new(fetch: usize, bounce: usize, flags: Flags) -> Result<Self> {
        Ok(Self {
            fetch: Buffer::new(fetch, flags)?,
            fetched: None,
            bounce: Buffer::new(bounce, flags)?,
            decoded: None,
        })
    }

    /// Bytes of memory.
    pub(crate) fn size(&self) -> usize {
        self.fetch.len().saturating_add(self.bounce.len())
    }

    /// Whether there is room for `fetch` stored and `bounce` decoded bytes.
    pub(crate) fn has_room(&self, fetch: usize, bounce: usize) -> bool {
        self.fetch.len() >= fetch && self.bounce.len() >= bounce
    }

    /// Makes room for `fetch` stored and `bounce` decoded bytes, where there is not.
    pub(crate) fn make_room(&mut self, fetch: usize, bounce: usize, flags: Flags) -> Result {
        if self.fetch.len() < fetch {
            self.fetched = None;
            self.fetch.make_room(fetch, flags)?;
        }
        if self.bounce.len() < bounce {
            self.decoded = None;
            self.bounce.make_room(bounce, flags)?;
        }
        Ok(())
    }

    /// Forgets what the buffers hold: another request may belong to another time.
    pub(crate) fn clear(&mut self) {
        self.fetched = None;
        self.decoded = None;
    }
}
