// SPDX-License-Identifier: GPL-2.0

//! vbd: a stack of overlaybd layers as a block device.
//!
//! The way of a read: `queue` (request to parts) → `transfer` (a part's memory) → `stack` (merged
//! index) → `layer` → `block` (fetch, checksum, decode) or `backing` (plain) → the request's pages.
//! `format` holds every rule of the image format, `sys` every `unsafe`.

#![deny(unsafe_code)]

mod backing;
mod block;
mod codec;
mod control;
mod device;
mod error;
#[allow(missing_docs)]
pub mod format;
mod layer;
mod pool;
mod queue;
mod stack;
mod stats;
#[allow(unsafe_code)]
mod sys;
mod transfer;

use control::Control;
use device::Device;
use kernel::prelude::*;
use stack::Options;

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
    },
}

/// The loaded module.
struct Module {
    // Dropped in this order: devices before what they share.
    _device: Option<Device>,
    _control: Control,
}

impl kernel::Module for Module {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let control = Control::new()?;
        let verify = match *module_parameters::verify.value() {
            0 => false,
            1 => true,
            other => {
                pr_err!("verify={}: must be 0 or 1\n", other);
                return Err(EINVAL);
            }
        };
        let options = Options {
            size: *module_parameters::size.value(),
            verify,
        };
        let device = match sys::param::BACKFILE.value() {
            [] => None,
            backfile => Some(control.attach(0, backfile, options)?),
        };
        Ok(Self {
            _device: device,
            _control: control,
        })
    }
}
