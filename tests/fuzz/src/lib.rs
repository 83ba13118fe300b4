// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Fuzz targets: functions that take any bytes and panic when something is wrong.
//!
//! `cargo xtask fuzz` has libFuzzer look for such bytes; the tests of this package go through the
//! corpus that it has left. What a reader has to make of an image is said by the second reader of
//! [`vbd_tests_host::decoder`], never by the format core itself.

mod image;
mod input;
pub mod pack;
mod seeds;
mod targets;

pub use self::seeds::seeds;

/// A target's function.
pub type Run = fn(&[u8]);

/// A target.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What it does with bytes.
    pub run: Run,
    /// Most bytes that are of use to it.
    pub max_len: usize,
}

macro_rules! targets {
    ($($name:ident: $max_len:literal;)*) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[
            $(Target {
                name: stringify!($name),
                run: targets::$name::run,
                max_len: $max_len,
            },)*
        ];
    };
}

targets! {
    json: 1024;
    lookup: 256;
    lsmt: 512;
    merge: 512;
    stack: 1024;
    tar: 2560;
    writable: 512;
    zfile: 2048;
}

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
