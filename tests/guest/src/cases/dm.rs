// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The targets of device-mapper: `zfile_target` and `lsmt_target`.

pub(super) mod answers;
pub(super) mod beside;
pub(super) mod cycles;
pub(super) mod damage;
pub(super) mod fixtures;
mod mapper;
pub(super) mod memory;
mod model;
pub(super) mod module;
pub(super) mod neighbours;
pub(super) mod reads;
pub(super) mod refused;
pub(super) mod reload;
pub(super) mod tables;
mod verity;

use super::support::scratch::Scratch;
use super::trace::Traced;
use mapper::{Disk, Mapped, Targets};

/// What is traced of reads of a mapped device.
pub(super) fn traced(traced: &Traced) {
    let targets = Targets::begin();
    let scratch = Scratch::new();
    let disks = Disk::all(&scratch, &traced.files());
    let table = mapper::lsmt(traced.bytes(), &mapper::parts(&disks));
    let mapped = Mapped::new("dm", &table);
    traced.check("vbd_dm", &mapped.path(), &mapped.disk());
    drop(mapped);
    drop((disks, targets));
}
