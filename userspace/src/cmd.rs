// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The verbs.

pub(crate) mod create;
pub(crate) mod info;
