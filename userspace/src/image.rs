// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reading and writing of images.

pub mod backing;
pub mod check;
pub mod codec;
pub mod commit;
pub mod compare;
pub mod config;
pub mod container;
pub mod convert;
pub mod create;
mod dense;
pub mod disk;
mod erofs_settle;
pub mod export;
mod ext4_settle;
pub mod extent;
pub mod filesystem;
mod fill;
pub mod foreign;
pub mod input;
mod jump;
pub mod layer;
pub mod lsmt_writer;
pub mod merge;
pub mod output;
pub mod parallel;
pub mod pool;
pub mod program;
pub mod source;
pub mod stack;
pub mod upper;
pub mod zfile_writer;

pub use self::container::Container;
pub use self::create::{create, Created, Options};
pub use self::disk::Disk;
pub use self::layer::Layer;
pub use self::output::Output;
pub use self::source::Source;
pub use self::stack::{Reader, Stack};
pub use self::zfile_writer::Compression;
