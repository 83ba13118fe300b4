// SPDX-License-Identifier: GPL-2.0

//! How devices come and go: for now, the module parameters.

use crate::backing::Backing;
use crate::codec::Codecs;
use crate::device::Device;
use crate::error::Fault;
use crate::format::limits::{MAX_LAYERS, MAX_VIRTUAL_SIZE, SECTOR};
use crate::format::{self, Rule};
use crate::stack::{OpenError, Options, Stack};
use crate::stats::Stats;
use kernel::debugfs::Dir;
use kernel::prelude::*;
use kernel::str::{BStr, CStr};
use kernel::sync::Arc;

/// What devices share.
pub(crate) struct Control {
    codecs: Arc<Codecs>,
    debugfs: Dir,
}

impl Control {
    /// No devices yet.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            codecs: Arc::new(Codecs::new()?, GFP_KERNEL)?,
            debugfs: Dir::new(c"vbd"),
        })
    }

    /// Attaches the layers that `backfile=` lists, bottom first, as `/dev/vbd<index>`.
    ///
    /// A failure is told in one line of the log.
    pub(crate) fn attach(&self, index: u32, backfile: &[u8], options: Options) -> Result<Device> {
        if options.size % SECTOR != 0 || options.size > MAX_VIRTUAL_SIZE {
            pr_err!(
                "size={}: must be a multiple of {} up to {}\n",
                options.size,
                SECTOR,
                MAX_VIRTUAL_SIZE
            );
            return Err(EINVAL);
        }
        let stats = Arc::new(Stats::new(), GFP_KERNEL)?;
        let stack = self
            .open(backfile, options, stats.clone())
            .map_err(|error| report(backfile, &error))?;
        Device::new(index, Arc::new(stack, GFP_KERNEL)?, stats, &self.debugfs).inspect_err(|error| {
            pr_err!("vbd{}: no disk: {:?}\n", index, error);
        })
    }

    fn open(
        &self,
        backfile: &[u8],
        options: Options,
        stats: Arc<Stats>,
    ) -> Result<Stack, OpenError> {
        let count = paths(backfile).count();
        if count > MAX_LAYERS {
            return Err(format::Error::new(Rule::StackLayers, 0, count as u64).into());
        }
        let mut backings = KVec::with_capacity(count, GFP_KERNEL)?;
        for (number, path) in paths(backfile).enumerate() {
            let backing = open_path(path).map_err(|errno| OpenError {
                layer: Some(number),
                fault: Fault::Kernel(errno),
            })?;
            backings.push(backing, GFP_KERNEL)?;
        }
        Stack::open(backings, options, self.codecs.clone(), stats)
    }
}

fn paths(backfile: &[u8]) -> impl Iterator<Item = &[u8]> {
    backfile.split(|&byte| byte == b',')
}

fn open_path(path: &[u8]) -> Result<Backing> {
    let mut text = KVec::with_capacity(path.len().saturating_add(1), GFP_KERNEL)?;
    text.extend_from_slice(path, GFP_KERNEL)?;
    text.push(0, GFP_KERNEL)?;
    Backing::open(CStr::from_bytes_with_nul(&text).map_err(|_| EINVAL)?)
}

/// Tells in the log what was wrong with which layer; returns the errno.
fn report(backfile: &[u8], error: &OpenError) -> Error {
    match error.layer {
        Some(number) => {
            let path = paths(backfile).nth(number).unwrap_or_default();
            pr_err!(
                "layer {} ({}): {}\n",
                number,
                BStr::from_bytes(path),
                error.fault
            );
        }
        None => pr_err!("stack: {}\n", error.fault),
    }
    error.fault.errno()
}
