// SPDX-License-Identifier: GPL-2.0

//! The only `unsafe` of the module: one thin wrapper a C interface.
//!
//! Each file is named like the mainline abstraction that it stands in for, so that it can go when
//! mainline has grown it. What is safe to call from here needs no further care: ranges are checked
//! by the wrappers, and objects are freed by their owners.

pub(crate) mod codec;
pub(crate) mod configfs;
pub(crate) mod crc;
pub(crate) mod file;
pub(crate) mod gen_disk;
pub(crate) mod log;
pub(crate) mod mq;
pub(crate) mod pages;
pub(crate) mod param;
pub(crate) mod workqueue;

/// What Kbuild has bindgen make of `bindings.h`.
#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unused_imports
)]
#[rustfmt::skip]
#[path = "sys/bindings_generated.rs"]
mod generated;
