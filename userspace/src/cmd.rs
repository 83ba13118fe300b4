// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The verbs.

pub(crate) mod attach;
pub(crate) mod create;
pub(crate) mod detach;
pub(crate) mod dm_table;
pub(crate) mod info;
pub(crate) mod list;
mod print;
pub(crate) mod status;
pub(crate) mod udev_name;
