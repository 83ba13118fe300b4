// SPDX-License-Identifier: GPL-2.0

//! A device: a stack behind a disk.

use crate::attach::DiskNumber;
use crate::debugfs::StatsFile;
use crate::format::limits::SECTOR;
use crate::pool::Pools;
use crate::queue::Queue;
use crate::stack::Stack;
use crate::stats::Stats;
use crate::sys::gen_disk::{GenDisk, Limits};
use crate::sys::mq::TagSet;
use crate::transfer::OPTIMAL_BYTES;
use kernel::debugfs::Dir;
use kernel::prelude::*;
use kernel::str::{CStr, CString};
use kernel::sync::Arc;

/// Requests that can be under way at a time. Each takes half a KiB, also of a device that nobody reads.
const QUEUE_DEPTH: u32 = 32;

/// Largest request: 1 MiB, in sectors.
const MAX_SECTORS: u32 = 2048;

/// Bytes that reads come in best: a page.
const PHYSICAL_BLOCK_SIZE: u32 = 4096;

/// A disk that is there until this is dropped.
pub(crate) struct Device {
    // Dropped in this order: the counters' file goes first, the number is free last.
    _stats_file: StatsFile,
    disk: GenDisk<Queue>,
    stats: Arc<Stats>,
    name: CString,
    _number: DiskNumber,
}

impl Device {
    /// Makes `/dev/vbd<number>` out of a stack.
    pub(crate) fn new(
        number: DiskNumber,
        stack: Arc<Stack>,
        stats: Arc<Stats>,
        pools: Arc<Pools>,
        root: &Dir,
    ) -> Result<Self> {
        let name = CString::try_from_fmt(fmt!("vbd{number}"))?;
        let limits = Limits {
            capacity: stack.disk_bytes() / SECTOR,
            physical_block_size: PHYSICAL_BLOCK_SIZE,
            optimal_size: OPTIMAL_BYTES as u32,
            max_sectors: MAX_SECTORS,
        };
        let tags = TagSet::new(QUEUE_DEPTH)?;
        let disk = GenDisk::new(&name, &limits, tags, Queue::new(stack.clone(), pools)?)?;
        let stats_file = StatsFile::new(root, &name, stats.clone())?;
        pr_info!(
            "{}: {} layers, {} bytes, {} segments\n",
            &*name,
            stack.layers(),
            stack.virtual_size(),
            stack.segments(),
        );
        Ok(Self {
            _stats_file: stats_file,
            disk,
            stats,
            name,
            _number: number,
        })
    }

    /// The disk's name in `/dev`.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
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
