// SPDX-License-Identifier: GPL-2.0

//! The table line of a target that is being constructed, and the devices that it names.
//!
//! C header: `include/linux/device-mapper.h`, `dm_get_device()`.

use super::SECTOR;
use crate::sys::file::File;
use crate::sys::generated;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::str::{CStr, CString};

/// The table that a new target is going to be part of.
///
/// # Invariants
///
/// The target that the devices are of is being constructed.
pub(crate) struct Table<'a> {
    devices: &'a mut Devices,
}

/// Devices that a target has open, as its table gives them.
///
/// # Invariants
///
/// `ti` outlives this. Each device was got from device-mapper for `ti` and not yet put.
pub(super) struct Devices {
    ti: NonNull<generated::dm_target>,
    open: KVec<NonNull<generated::dm_dev>>,
}

// SAFETY: Devices are put by whoever destroys the target, on any thread.
unsafe impl Send for Devices {}
// SAFETY: Shared references give away the devices' names only.
unsafe impl Sync for Devices {}

impl Drop for Devices {
    fn drop(&mut self) {
        for device in &self.open {
            // SAFETY: Got for `ti`, and put just once, by the type invariant.
            unsafe { generated::dm_put_device(self.ti.as_ptr(), device.as_ptr()) };
        }
    }
}

impl Devices {
    /// No devices yet, of a target that is being constructed.
    ///
    /// # Safety
    ///
    /// `ti` outlives the result, and its construction the result's [`Self::table`].
    pub(super) unsafe fn none(ti: NonNull<generated::dm_target>) -> Self {
        // INVARIANT: By this function's requirements; there are no devices.
        Self {
            ti,
            open: KVec::new(),
        }
    }

    /// The table, for the target's construction.
    pub(super) fn table(&mut self) -> Table<'_> {
        // INVARIANT: By the requirements of [`Self::none`].
        Table { devices: self }
    }

    /// A device's name as tables show it: `<major>:<minor>`.
    pub(super) fn name(&self, number: usize) -> &str {
        self.open.get(number).map_or("", |device| {
            // SAFETY: Open by the type invariant; the name is NUL-terminated and constant.
            let name = unsafe { &(*device.as_ptr()).name };
            CStr::from_bytes_until_nul(name)
                .ok()
                .and_then(|name| name.to_str().ok())
                .unwrap_or("")
        })
    }
}

impl Table<'_> {
    /// Bytes that the table line gives the target.
    pub(crate) fn bytes(&self) -> u64 {
        // SAFETY: The target is being constructed, by the type invariant.
        unsafe { (*self.devices.ti.as_ptr()).len }.saturating_mul(SECTOR)
    }

    /// Name of the mapped device's disk, such as `dm-3`.
    pub(crate) fn disk_name(&self) -> Result<CString> {
        // SAFETY: The target is being constructed, by the type invariant, so its table has a mapped
        // device with a disk, whose name is NUL-terminated and constant.
        let name = unsafe {
            let device = generated::dm_table_get_md((*self.devices.ti.as_ptr()).table);
            &(*generated::dm_disk(device)).disk_name
        };
        let name = CStr::from_bytes_until_nul(name).map_err(|_| EINVAL)?;
        Ok(CString::try_from(name)?)
    }

    /// Whether the table is for a read-only device.
    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: The target is being constructed, by the type invariant.
        let mode = unsafe { generated::dm_table_get_mode((*self.devices.ti.as_ptr()).table) };
        mode & !generated::VBD_BLK_OPEN_READ == 0
    }

    /// Opens the block device that `path` or `<major>:<minor>` names.
    ///
    /// device-mapper keeps it open until the target goes.
    pub(crate) fn open(&mut self, path: &CStr) -> Result<File> {
        self.devices.open.reserve(1, GFP_KERNEL)?;
        let mut device = core::ptr::null_mut();
        // SAFETY: The target is being constructed, by the type invariant; the path is NUL-terminated.
        to_result(unsafe {
            generated::dm_get_device(
                self.devices.ti.as_ptr(),
                path.as_char_ptr(),
                generated::VBD_BLK_OPEN_READ,
                &mut device,
            )
        })?;
        let device: NonNull<generated::dm_dev> = NonNull::new(device).ok_or(ENODEV)?;
        // INVARIANT: Got for `ti`. There is room, so this does not fail.
        self.devices.open.push(device, GFP_KERNEL)?;
        // SAFETY: A device that device-mapper has got is open.
        let file = unsafe { (*device.as_ptr()).bdev_file };
        // SAFETY: Open, as above.
        let file = NonNull::new(unsafe { bindings::get_file(file) }).ok_or(ENODEV)?;
        // INVARIANT: Open for reading; the reference just taken is the value's.
        Ok(File(file))
    }
}
