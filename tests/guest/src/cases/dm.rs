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
