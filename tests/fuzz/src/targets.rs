// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! One target a file.

pub(crate) mod json;
pub(crate) mod lookup;
pub(crate) mod lsmt;
pub(crate) mod merge;
pub(crate) mod stack;
pub(crate) mod tar;
pub(crate) mod writable;
pub(crate) mod zfile;
