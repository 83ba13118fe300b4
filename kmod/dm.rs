// SPDX-License-Identifier: GPL-2.0

//! vbd_dm: device-mapper targets over overlaybd layers on block devices.
//!
//! The engine is that of vbd.ko, from the same files; only the two ends differ: bios come from
//! device-mapper instead of requests from a disk, and layers lie on block devices.

#![deny(unsafe_code)]

mod backing;
mod block;
mod budget;
mod buffer;
mod cache;
mod codec;
mod error;
#[allow(missing_docs)]
pub mod format;
mod layer;
mod names;
mod pool;
mod registry;
mod stack;
mod stats;
mod target;
mod transfer;

/// The only `unsafe` of the module, shared with vbd.ko but for the ends.
#[allow(unsafe_code)]
mod sys {
    mod charge;
    pub(crate) mod codec;
    pub(crate) mod crc;
    mod crew;
    pub(crate) mod dm;
    pub(crate) mod file;
    mod generated;
    pub(crate) mod job;
    pub(crate) mod log;
    pub(crate) mod machine;
    pub(crate) mod pages;
    pub(crate) mod shrinker;
    pub(crate) mod table;
    mod this_module;
    pub(crate) mod trace;
    mod workqueue;
}

use kernel::prelude::*;
use sys::dm::Registration;
use target::{LsmtKind, Shared, StackTarget, ZFileKind};

module! {
    type: Module,
    name: "vbd_dm",
    authors: ["The vbd authors"],
    description: "device-mapper targets over overlaybd layers",
    license: "GPL",
    alias: ["dm-zfile_target", "dm-lsmt_target"],
}

/// The loaded module.
struct Module {
    _zfile: Registration<StackTarget<ZFileKind>>,
    _lsmt: Registration<StackTarget<LsmtKind>>,
}

impl kernel::Module for Module {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let shared = Shared::new()?;
        Ok(Self {
            _zfile: Registration::new(shared.clone())?,
            _lsmt: Registration::new(shared)?,
        })
    }
}
