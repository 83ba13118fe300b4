// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A writable layer on files that lose what was not synced: any subset of its sectors.
//!
//! [`Upper`] is the format core's map and order over a [`Store`], as the kernel has them over real
//! files; [`Sim`] runs operations on it, some of them in the middle of others, and after each step
//! asks what a power cut would leave.

mod disk;
mod map;
mod sim;
mod store;

pub use disk::{Disk, Value};
pub use map::{Regions, Tail};
pub use sim::{Break, Limits, Op, Sim};
pub use store::Store;
