// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers and stacks of overlaybd images, from user space: the reader, the writers and the reports
//! behind the program `vbdctl`.
//!
//! Every rule of the format comes from [`vbd_format`]; this crate adds files, memory and codecs.
//!
//! * [`image::Stack`] opens layer files, bottom first, and reads the disk that they make.
//! * [`image::create()`] turns a raw image into a sealed layer.
//! * [`control`] attaches stacks as block devices and detaches them.
//! * [`report`] says what a layer, a stack or a device is, as text and as JSON.

pub mod control;
pub mod error;
pub mod image;
pub mod report;

pub use self::error::{Error, Result};
