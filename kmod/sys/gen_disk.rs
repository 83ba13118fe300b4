// SPDX-License-Identifier: GPL-2.0

//! A read-only disk.
//!
//! Mainline's `kernel::block::mq::gen_disk` has no read-only flag and no limits, and does not pin
//! the module while the disk is open. C header: `include/linux/blkdev.h`.

use super::mq::{Operations, QueueData, TagSet};
use super::workqueue::WorkQueue;
use core::fmt::Write;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::{from_err_ptr, to_result};
use kernel::prelude::*;
use kernel::static_lock_class;
use kernel::str::{CStr, NullTerminatedFormatter};
use kernel::types::ScopeGuard;

/// What a disk can take.
pub(crate) struct Limits {
    /// Size in 512-byte sectors.
    pub(crate) capacity: u64,
    /// Bytes that the disk reads well in one piece: its `physical_block_size`.
    pub(crate) physical_block_size: u32,
    /// Largest request, in 512-byte sectors.
    pub(crate) max_sectors: u32,
}

/// A disk that is there for everyone to open, until this is dropped.
///
/// # Invariants
///
/// `disk` was added and is deleted only by `drop`; its queue's `queuedata` is `_queue`, which nothing
/// moves.
pub(crate) struct GenDisk<T: Operations> {
    disk: NonNull<bindings::gendisk>,
    // Dropped in this order: requests end before the driver that serves them goes.
    _tags: TagSet<T>,
    _queue: KBox<QueueData<T>>,
}

// SAFETY: A disk may be deleted from any thread.
unsafe impl<T: Operations> Send for GenDisk<T> {}
// SAFETY: Shared references give nothing away.
unsafe impl<T: Operations> Sync for GenDisk<T> {}

impl<T: Operations> GenDisk<T> {
    /// Makes disk `name` and adds it: partitions are scanned before this returns, so the driver
    /// must be ready to serve.
    pub(crate) fn new(
        name: &CStr,
        limits: &Limits,
        tags: TagSet<T>,
        driver: T,
    ) -> Result<Self> {
        let workers = WorkQueue::new(name)?;
        let queue = KBox::new(QueueData { driver, workers }, GFP_KERNEL)?;

        let mut lim: bindings::queue_limits = pin_init::zeroed();
        lim.logical_block_size = 512;
        lim.physical_block_size = limits.physical_block_size;
        lim.io_min = limits.physical_block_size;
        lim.max_hw_sectors = limits.max_sectors;
        let data = core::ptr::from_ref(&*queue).cast_mut().cast();
        // SAFETY: The tag set is allocated; the queue's data stays valid until after the disk.
        let disk = from_err_ptr(unsafe {
            bindings::__blk_mq_alloc_disk(
                tags.as_ptr(),
                &mut lim,
                data,
                static_lock_class!().as_ptr(),
            )
        })?;
        let undo = ScopeGuard::new_with_data(disk, |disk| {
            // SAFETY: Allocated above and not added, so this is its end.
            unsafe { bindings::put_disk(disk) };
        });

        // SAFETY: The disk is ours alone until it is added.
        unsafe {
            (*disk).fops = &FOPS.0;
            NullTerminatedFormatter::new(&mut (*disk).disk_name)
                .ok_or(EINVAL)?
                .write_str(name.to_str()?)
                .map_err(|_| EINVAL)?;
            bindings::set_capacity(disk, limits.capacity);
            bindings::set_disk_ro(disk, true);
            to_result(bindings::device_add_disk(
                core::ptr::null_mut(),
                disk,
                core::ptr::null_mut(),
            ))?;
        }
        undo.dismiss();
        // INVARIANT: Added above; the queue's data lies in a box.
        Ok(Self {
            disk: NonNull::new(disk).ok_or(EINVAL)?,
            _tags: tags,
            _queue: queue,
        })
    }
}

impl<T: Operations> Drop for GenDisk<T> {
    fn drop(&mut self) {
        // SAFETY: Added by the type invariant. Deleting waits for requests under way and refuses
        // new ones; whoever still has the disk open holds a reference of his own.
        unsafe {
            bindings::del_gendisk(self.disk.as_ptr());
            bindings::put_disk(self.disk.as_ptr());
        }
    }
}

/// The disk's operations, constant.
struct Table(bindings::block_device_operations);

// SAFETY: Constant, and all it points to is functions and the module.
unsafe impl Sync for Table {}

static FOPS: Table = Table(bindings::block_device_operations {
    set_read_only: Some(set_read_only),
    // An open disk pins the module, or its code could go while it is in use.
    // The kernel makes this object when it loads the module; only its address is taken.
    owner: (&raw const bindings::__this_module).cast_mut(),
    ..pin_init::zeroed()
});

/// `BLKROSET`: the disk cannot be made writable.
///
/// # Safety
///
/// Called by the block layer; the arguments are not used as pointers.
unsafe extern "C" fn set_read_only(
    _bdev: *mut bindings::block_device,
    read_only: bool,
) -> kernel::ffi::c_int {
    if read_only {
        0
    } else {
        EROFS.to_errno()
    }
}
