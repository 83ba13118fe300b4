// SPDX-License-Identifier: GPL-2.0

//! What the machine has.

use super::generated;

/// Bytes of memory that the kernel manages.
pub(crate) fn memory() -> u64 {
    // SAFETY: Reads a number.
    unsafe { generated::vbd_total_memory() }
}

/// Processors that are there, running or not: at least one. Others may come later.
pub(crate) fn processors() -> usize {
    // SAFETY: Reads a number.
    (unsafe { generated::vbd_present_cpus() } as usize).max(1)
}
