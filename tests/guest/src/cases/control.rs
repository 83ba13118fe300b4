// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Devices at run time: the driver's configfs, by itself and through `vbdctl`.

pub(super) mod attributes;
pub(super) mod direct;
pub(super) mod looks;
pub(super) mod many;
pub(super) mod races;
pub(super) mod vbdctl;
