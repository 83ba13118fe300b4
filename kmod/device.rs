// SPDX-License-Identifier: GPL-2.0

//! A device: a stack behind a disk.

use crate::attach::DiskNumber;
use crate::format::limits::SECTOR;
use crate::pool::Pools;
use crate::queue::Queue;
use crate::stack::Stack;
use crate::stats::Stats;
use crate::sys::debugfs::{Dir, File, Show, Text};
use crate::sys::gen_disk::{GenDisk, Limits, NewDisk};
use crate::sys::mq::TagSet;
use crate::transfer::OPTIMAL_BYTES;
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;

/// Requests that can be under way at a time. Each takes half a KiB, also of a device that nobody reads.
const QUEUE_DEPTH: u32 = 32;

/// Largest request: 1 MiB, in sectors.
const MAX_SECTORS: u32 = 2048;

/// Bytes that reads come in best: a page, and the largest logical block.
const PHYSICAL_BLOCK_SIZE: u32 = 4096;

/// Logical block sizes that a disk can have, in bytes.
pub(crate) const LOGICAL_BLOCK_SIZES: [u32; 2] = [512, 4096];

/// What a disk looks like from outside.
#[derive(Clone, Copy)]
pub(crate) struct Looks {
    /// Bytes of a logical block, one of [`LOGICAL_BLOCK_SIZES`].
    pub(crate) logical_block_size: u32,
    /// Whether the kernel looks for a partition table on it.
    pub(crate) partscan: bool,
}

/// `/sys/kernel/debug/vbd/<disk>/stats`: a name and a number a line.
impl Show for Stats {
    fn show(&self, out: &mut Text<'_>) -> fmt::Result {
        Stats::show(self, out)
    }
}

/// A device that nobody sees yet.
pub(crate) struct NewDevice {
    // Dropped in this order: the number is free last.
    disk: NewDisk<Queue>,
    stack: Arc<Stack>,
    stats: Arc<Stats>,
    number: DiskNumber,
}

/// A disk that is there until this is dropped.
pub(crate) struct Device {
    // Dropped in this order: the counters' file goes first, the number is free last.
    _stats_file: File<Stats>,
    disk: GenDisk<Queue>,
    stats: Arc<Stats>,
    _number: DiskNumber,
}

impl NewDevice {
    /// Makes `vbd<number>`, which `stats` names, out of a stack.
    pub(crate) fn new(
        number: DiskNumber,
        stack: Arc<Stack>,
        looks: Looks,
        stats: Arc<Stats>,
        pools: Arc<Pools>,
    ) -> Result<Self> {
        let name = stats.names().device();
        let limits = Limits {
            capacity: stack.disk_bytes() / SECTOR,
            logical_block_size: looks.logical_block_size,
            physical_block_size: PHYSICAL_BLOCK_SIZE,
            optimal_size: OPTIMAL_BYTES as u32,
            max_sectors: MAX_SECTORS,
            partscan: looks.partscan,
        };
        let tags = TagSet::new(QUEUE_DEPTH)?;
        let disk = NewDisk::new(name, &limits, tags, Queue::new(stack.clone(), pools)?)?;
        Ok(Self {
            disk,
            stack,
            stats,
            number,
        })
    }

    /// Shows it to everyone, and its counters in `root`. Nothing can fail once it is there.
    pub(crate) fn add(self, root: Arc<Dir>) -> Result<Device> {
        let disk = self.disk.add()?;
        let name = self.stats.names().device();
        pr_info!(
            "{}: {} layers, {} bytes, {} segments\n",
            name,
            self.stack.layers(),
            self.stack.virtual_size(),
            self.stack.segments(),
        );
        Ok(Device {
            _stats_file: File::new(root, name, c"stats", self.stats.clone()),
            disk,
            stats: self.stats,
            _number: self.number,
        })
    }
}

impl Device {
    /// The disk's name in `/dev`.
    pub(crate) fn name(&self) -> &CStr {
        self.stats.names().device()
    }

    /// The counters.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Refuses whoever wants to open the disk from now on; `EBUSY` if somebody has it open.
    pub(crate) fn retire(&self) -> Result {
        self.disk.retire()
    }
}
