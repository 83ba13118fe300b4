// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the cases share.

pub(super) mod content;
pub(super) mod damage;
pub(super) mod defect;
pub(super) mod device;
pub(super) mod digest;
pub(super) mod dir;
pub(super) mod injection;
pub(super) mod kmsg;
pub(super) mod layers;
pub(super) mod memory;
pub(super) mod memory_disk;
pub(super) mod read;
pub(super) mod scratch;
pub(super) mod storage;
pub(super) mod tool;
pub(super) mod uevents;
