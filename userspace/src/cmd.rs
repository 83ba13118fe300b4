// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The verbs.

pub(crate) mod attach;
pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod compare;
pub(crate) mod convert;
pub(crate) mod create;
pub(crate) mod detach;
pub(crate) mod dm_table;
#[cfg(feature = "docs")]
pub(crate) mod docs;
pub(crate) mod export;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod merge;
mod print;
mod progress;
pub(crate) mod status;
pub(crate) mod udev_name;

/// A verdict that standard output has told already: the program ends with status 1 and is silent.
#[derive(Debug, thiserror::Error)]
#[error("the check failed")]
pub(crate) struct Failed;
