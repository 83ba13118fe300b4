// SPDX-License-Identifier: GPL-2.0

//! A read-only disk.
//!
//! Mainline's `kernel::block::mq::gen_disk` has no read-only flag and no limits, and does not pin
//! the module while the disk is open. C header: `include/linux/blkdev.h`.

use super::crew::Crew;
use super::generated;
use super::mq::{Operations, QueueData, TagSet};
use core::fmt::Write;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::{from_err_ptr, to_result};
use kernel::prelude::*;
use kernel::static_lock_class;
use kernel::str::{CStr, NullTerminatedFormatter};
use kernel::sync::atomic::{Atomic, Relaxed};

/// Segments that a request has at most: 1 MiB in pages.
const MAX_SEGMENTS: u16 = 256;

/// What a disk can take.
pub(crate) struct Limits {
    /// Size in 512-byte sectors, in whole logical blocks.
    pub(crate) capacity: u64,
    /// Bytes that reads are whole multiples of: 512 or 4096.
    pub(crate) logical_block_size: u32,
    /// Bytes that the disk reads well in one piece: its `physical_block_size`.
    pub(crate) physical_block_size: u32,
    /// Bytes of a read that keeps the driver busy best: its `io_opt`. Read-ahead is twice as much.
    pub(crate) optimal_size: u32,
    /// Largest request, in 512-byte sectors.
    pub(crate) max_sectors: u32,
    /// Whether the kernel looks for a partition table. Without it, `BLKRRPART` is `EINVAL` and
    /// `BLKPG` works, as with loop.
    pub(crate) partscan: bool,
}

/// A disk that nobody sees yet.
///
/// # Invariants
///
/// `disk` is allocated, and this holds a reference on it; its queue's `queuedata` is `queue`, which
/// nothing moves.
pub(crate) struct NewDisk<T: Operations> {
    disk: NonNull<bindings::gendisk>,
    // Dropped in this order: requests end before the driver that serves them goes.
    _tags: TagSet<T>,
    queue: KBox<QueueData<T>>,
}

/// A disk that is there for everyone to open, until this is dropped.
///
/// # Invariants
///
/// The disk was added and is deleted only by `drop`.
pub(crate) struct GenDisk<T: Operations>(NewDisk<T>);

// SAFETY: A disk may be added, deleted and freed from any thread.
unsafe impl<T: Operations> Send for NewDisk<T> {}
// SAFETY: Shared references give nothing away.
unsafe impl<T: Operations> Sync for NewDisk<T> {}

impl<T: Operations> NewDisk<T> {
    /// Makes disk `name`.
    pub(crate) fn new(name: &CStr, limits: &Limits, tags: TagSet<T>, driver: T) -> Result<Self> {
        let crew = Crew::new(name)?;
        let queue = KBox::new(
            QueueData {
                driver,
                crew,
                retired: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;

        let mut lim: bindings::queue_limits = pin_init::zeroed();
        lim.logical_block_size = limits.logical_block_size;
        lim.physical_block_size = limits.physical_block_size;
        lim.io_min = limits.physical_block_size;
        lim.io_opt = limits.optimal_size;
        lim.max_hw_sectors = limits.max_sectors;
        lim.max_segments = MAX_SEGMENTS;
        // Memory is written by the CPU: there is no engine that a long segment could overrun, and none
        // that needs it at a round address. 0 would stand for 511.
        lim.max_segment_size = u32::MAX;
        lim.dma_alignment = 1;
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
        // INVARIANT: Allocated just now, with the reference; the queue's data lies in a box.
        let this = Self {
            disk: NonNull::new(disk).ok_or(ENOMEM)?,
            _tags: tags,
            queue,
        };

        // SAFETY: The disk is ours alone until it is added.
        unsafe {
            (*disk).fops = &Self::FOPS;
            bindings::set_capacity(disk, limits.capacity);
            // Before the disk has a name, without which there is no event that tells of the change: of a
            // disk that was not added, nobody could make anything of it.
            bindings::set_disk_ro(disk, true);
            if !limits.partscan {
                (*disk).state |= 1 << bindings::GD_SUPPRESS_PART_SCAN;
            }
            NullTerminatedFormatter::new(&mut (*disk).disk_name)
                .ok_or(EINVAL)?
                .write_str(name.to_str()?)
                .map_err(|_| EINVAL)?;
            // Adding the disk names its device too, but overlooks that there was no memory for it
            // (`__add_disk()` in block/genhd.c), and then refuses the device without a name as
            // malformed. This name is kept when naming it again fails.
            to_result(bindings::dev_set_name(
                &raw mut (*(*disk).part0).bd_device,
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            ))?;
        }
        Ok(this)
    }

    /// Shows the disk to everyone: partitions may be scanned before this returns, so the driver must be
    /// ready to serve.
    ///
    /// From here on others may have the disk open, and a scan of partitions lets go of it only when the
    /// task returns to user space. They pin the module; but one whose init fails is freed all the same,
    /// so nothing that can fail may come after this in there.
    pub(crate) fn add(self) -> Result<GenDisk<T>> {
        // SAFETY: The disk is allocated by the type invariant, complete, and added just once. If it
        // cannot be, nobody has opened it.
        to_result(unsafe {
            bindings::device_add_disk(
                core::ptr::null_mut(),
                self.disk.as_ptr(),
                core::ptr::null_mut(),
            )
        })?;
        // INVARIANT: Added just now.
        Ok(GenDisk(self))
    }

    const FOPS: bindings::block_device_operations = bindings::block_device_operations {
        open: Some(Self::open),
        set_read_only: Some(set_read_only),
        // An open disk pins the module, or its code could go while it is in use.
        owner: (&raw const bindings::__this_module).cast_mut(),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by the block layer with a disk that `new` has made, under its `open_mutex`.
    unsafe extern "C" fn open(
        disk: *mut bindings::gendisk,
        mode: bindings::blk_mode_t,
    ) -> kernel::ffi::c_int {
        // SAFETY: The queue's data is a `QueueData<T>` and outlives the disk's last opening.
        let queue = unsafe { &*(*(*disk).queue).queuedata.cast::<QueueData<T>>() };
        if queue.retired.load(Relaxed) {
            ENXIO.to_errno()
        } else if mode & generated::VBD_BLK_OPEN_WRITE != 0 {
            // Who could write to it all the same would be told so by the first write, when it is late.
            EROFS.to_errno()
        } else {
            0
        }
    }
}

impl<T: Operations> Drop for NewDisk<T> {
    fn drop(&mut self) {
        // SAFETY: The reference is this value's by the type invariant, and this is its end.
        unsafe { bindings::put_disk(self.disk.as_ptr()) };
    }
}

impl<T: Operations> GenDisk<T> {
    /// Refuses whoever wants to open the disk from now on (`ENXIO`); fails with `EBUSY`, changing
    /// nothing, if somebody has it open.
    pub(crate) fn retire(&self) -> Result {
        let disk = self.0.disk.as_ptr();
        // SAFETY: The disk is there by the type invariant. Openers change only under this mutex,
        // and `open` is called under it.
        unsafe {
            let mutex = &raw mut (*disk).open_mutex;
            bindings::mutex_lock(mutex);
            let openers = generated::vbd_disk_openers(disk);
            if openers == 0 {
                self.0.queue.retired.store(true, Relaxed);
            }
            bindings::mutex_unlock(mutex);
            if openers == 0 {
                Ok(())
            } else {
                Err(EBUSY)
            }
        }
    }
}

impl<T: Operations> Drop for GenDisk<T> {
    fn drop(&mut self) {
        // SAFETY: Added by the type invariant. Deleting waits for requests under way and refuses
        // new ones; whoever still has the disk open holds a reference of his own.
        unsafe { bindings::del_gendisk(self.0.disk.as_ptr()) };
    }
}

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
