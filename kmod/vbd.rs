// SPDX-License-Identifier: GPL-2.0

//! vbd: a stack of overlaybd layers as a block device.
//!
//! The way of a read: `queue` (request to parts) → `transfer` (a part's memory) → `stack` (merged
//! index) → `layer` → `block` (fetch, checksum, decode) or `backing` (plain) → the request's pages.
//! `format` holds every rule of the image format, `sys` every `unsafe`.

#![deny(unsafe_code)]

mod attach;
mod backing;
mod block;
mod budget;
mod buffer;
mod cache;
mod codec;
mod control;
mod device;
mod error;
#[allow(missing_docs)]
pub mod format;
mod layer;
mod names;
mod pool;
mod queue;
mod registry;
mod stack;
mod stats;
mod transfer;

/// The only `unsafe` of the module: one thin wrapper a C interface, named like the mainline
/// abstraction that it stands in for, so that it can go when mainline has grown it. What is safe to
/// call from here needs no further care: ranges are checked, and objects are freed by their owners.
#[allow(unsafe_code)]
mod sys {
    mod charge;
    pub(crate) mod codec;
    pub(crate) mod configfs;
    pub(crate) mod crc;
    mod crew;
    pub(crate) mod debugfs;
    pub(crate) mod file;
    pub(crate) mod gen_disk;
    mod generated;
    pub(crate) mod job;
    pub(crate) mod log;
    pub(crate) mod machine;
    pub(crate) mod mq;
    pub(crate) mod open;
    pub(crate) mod pages;
    pub(crate) mod param;
    pub(crate) mod shrinker;
    pub(crate) mod table;
    mod this_module;
    pub(crate) mod trace;
    mod workqueue;
}

use attach::{AttachError, Host, Source};
use control::Devices;
use core::borrow::Borrow;
use device::{Device, Looks, NewDevice};
use format::limits::MAX_LAYERS;
use kernel::prelude::*;
use kernel::sync::Arc;
use stack::Options;
use sys::configfs::Subsystem;

module! {
    type: Module,
    name: "vbd",
    authors: ["The vbd authors"],
    description: "Block device over a stack of overlaybd layers",
    license: "GPL",
    params: {
        size: u64 {
            default: 0,
            description: "bytes of /dev/vbd0, a multiple of 512 (0: what the layers say)",
        },
        verify: u8 {
            default: 1,
            description: "verify block checksums: 1 or 0",
        },
        partscan: u8 {
            default: 1,
            description: "look for partitions on /dev/vbd0: 1 or 0",
        },
        logical_block_size: u32 {
            default: 512,
            description: "bytes of a logical block of /dev/vbd0: 512 or 4096",
        },
        cache_mb: u16 {
            default: 32,
            description: "MiB of decoded blocks to keep, for all devices (0: none)",
        },
        inline: u8 {
            default: 1,
            description: "serve cached reads where they are submitted: 1, or 0 for tests",
        },
    },
}

/// The loaded module.
struct Module {
    _devices: Subsystem<Devices>,
    /// The device that the parameters describe.
    _device: Option<Device>,
}

impl kernel::Module for Module {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let host = Host::new(
            parameter::<u8>(module_parameters::inline.value()) != 0,
            u64::from(parameter::<u16>(module_parameters::cache_mb.value()))
                .saturating_mul(1 << 20),
        )?;
        let device = match sys::param::BACKFILE.value() {
            [] => None,
            backfile => Some(prepare(&host, backfile).map_err(|error| error.report())?),
        };
        // A module whose init fails is freed, whoever uses it. So what others can see comes last, the
        // disk last of all: the directory lets nobody in before init has succeeded.
        let devices = Subsystem::new(c"vbd", Devices::new(host.clone()))
            .inspect_err(|errno| pr_err!("configfs has no place for vbd ({errno:?})\n"))?;
        let device = match device {
            None => None,
            Some(device) => Some(
                host.add(device)
                    .map_err(|errno| AttachError::from(errno).report())?,
            ),
        };
        Ok(Self {
            _devices: devices,
            _device: device,
        })
    }
}

/// The value of a parameter, of which 7.2 hands a reference out and 7.3 the value itself.
fn parameter<T: Copy>(value: impl Borrow<T>) -> T {
    *value.borrow()
}

/// Opens what `backfile=` and the parameters of `/dev/vbd0` describe.
// Not inlined: what it takes of the stack is not needed by those that init calls besides.
#[inline(never)]
fn prepare(host: &Arc<Host>, backfile: &[u8]) -> Result<NewDevice, AttachError> {
    let options = Options {
        size: parameter(module_parameters::size.value()),
        verify: switch("verify", parameter(module_parameters::verify.value()))?,
        direct: false,
    };
    let looks = Looks {
        logical_block_size: parameter(module_parameters::logical_block_size.value()),
        partscan: switch("partscan", parameter(module_parameters::partscan.value()))?,
    };
    let paths = || backfile.split(|&byte| byte == b',');
    let mut sources =
        KVec::with_capacity(paths().count().min(MAX_LAYERS), GFP_KERNEL).map_err(Error::from)?;
    for (number, path) in paths().enumerate() {
        let source =
            Source::from_path(path).map_err(|errno| AttachError::unopened(number, path, errno))?;
        let source = Arc::new(source, GFP_KERNEL).map_err(Error::from)?;
        sources.push(source, GFP_KERNEL).map_err(Error::from)?;
    }
    host.prepare(&sources, options, looks)
}

/// A parameter that is 0 or 1.
fn switch(name: &str, value: u8) -> Result<bool, AttachError> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(AttachError::new(
            EINVAL,
            fmt!("{name}={other}: must be 0 or 1"),
        )),
    }
}
