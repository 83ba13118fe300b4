// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The overlaybd image format: one place for every rule.
//!
//! A layer file is `tar? -> ZFile? -> LSMT`; a stack of up to 255 layers reads as one disk.
//! This core parses, validates, merges, looks up and plans. It does no I/O, allocates nothing,
//! contains no `unsafe` and cannot panic on image data; callers supply reading ([`ReadAt`]),
//! memory (slices), the checksum ([`Checksum`]) and the decoders ([`zfile::Codec`]).
//!
//! The same files are a cargo package (`vbd-format`) for the tool, tests and fuzzers, and a module
//! of the kernel crate; paths inside are therefore relative. `docs/format-*.md` tell the layouts.
//!
//! Opening a layer, bottom to top of this module list:
//!
//! 1. [`tar::unwrap`] finds the payload of the file;
//! 2. [`zfile::probe`] tells whether it is compressed, [`zfile::load_jump_table`] reads the table;
//! 3. [`lsmt::probe`] and [`lsmt::load_index`] read the layer's records;
//! 4. [`lsmt::Merge`] folds the layers' records into one index;
//! 5. [`lsmt::Pieces`] answers a read with pieces, [`zfile::Run`] groups the blocks to fetch.

#![cfg_attr(not(MODULE), no_std)]
#![deny(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod checksum;
pub mod error;
pub mod limits;
pub mod lsmt;
pub mod source;
pub mod tar;
mod trailer;
pub mod upper;
pub mod zfile;

pub use self::checksum::Checksum;
pub use self::error::{Class, Error, Rule};
pub use self::source::{ReadAt, Window};
