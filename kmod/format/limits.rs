// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Every maximum that is accepted, in one place.
//!
//! A value from an image is compared with one of these before it sizes an allocation or a loop.

/// Bytes in a sector, the unit of LSMT records and of the block layer.
pub const SECTOR: u64 = 512;

/// Zeroes that may follow the trailer of a layer or ZFile, in bytes: what fills it up to whole sectors
/// of a device, of 4096 bytes at most.
pub const MAX_PADDING: u64 = 4095;

/// Layers in a stack; the format keeps a layer number in one byte.
pub const MAX_LAYERS: usize = 255;

/// Smallest ZFile block, in bytes.
pub const MIN_BLOCK_SIZE: u32 = 512;

/// Largest ZFile block, in bytes. Upstream's library reads powers of two up to this one.
pub const MAX_BLOCK_SIZE: u32 = 65536;

/// Blocks in one ZFile, upstream's own limit.
pub const MAX_BLOCKS: u64 = 1_000_000_000;

/// Records in the index of one layer, padding included: upstream's own limit since August 2026.
pub const MAX_INDEX_RECORDS: u64 = 1_000_000;

/// Records in the index file of a writable layer: upstream's own limit.
pub const MAX_LOG_RECORDS: u64 = 128_000_000;

/// Records in the merged index of a stack: 256 MiB of memory at 16 bytes each,
/// and 64 MiB for their directory.
///
/// Upstream stops at 128,000,000, which would let an attach pin 2 GiB of kernel memory. A 50 GB
/// production image has about 24,000.
pub const MAX_MERGED_RECORDS: usize = 16 * 1024 * 1024;

/// Largest virtual disk, in bytes: what 50 bits of sector number can address.
pub const MAX_VIRTUAL_SIZE: u64 = 1 << 59;

/// Largest layer file, in bytes: what a file offset can express.
pub const MAX_FILE_SIZE: u64 = i64::MAX as u64;

/// Memory that the jump tables and indexes of one stack take at most, in bytes: as much as 255 layers of
/// 50 GB in blocks of 4 KiB, and a few large indexes.
pub const MAX_STACK_MEMORY: u64 = 8 << 30;

/// Memory that the jump tables and indexes of one stack may take where there are `machine` bytes: a quarter
/// of them, and never more than [`MAX_STACK_MEMORY`].
pub fn stack_memory(machine: u64) -> u64 {
    (machine / 4).min(MAX_STACK_MEMORY)
}

/// Memory that those of all stacks together may take where there are `machine` bytes.
pub fn stacks_memory(machine: u64) -> u64 {
    machine / 2
}
