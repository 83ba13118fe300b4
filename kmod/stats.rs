// SPDX-License-Identifier: GPL-2.0

//! Counters of a device: a name and a number a line, in debugfs as `vbd/<disk>/stats` and in configfs
//! as `stat`. With them go the names by which messages about the device call it.

use crate::names::Names;
use kernel::fmt;
use kernel::sync::atomic::{Atomic, Relaxed};

/// One counter; only ever grows.
pub(crate) struct Counter(Atomic<i64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Counts one.
    pub(crate) fn inc(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub(crate) fn add(&self, n: u64) {
        self.0.add(n as i64, Relaxed);
    }
}

macro_rules! stats {
    ($( $(#[$doc:meta])* $name:ident, )*) => {
        /// The counters of one device, and its names.
        pub(crate) struct Stats {
            names: Names,
            $( $(#[$doc])* pub(crate) $name: Counter, )*
        }

        impl Stats {
            /// All zero.
            pub(crate) fn new(names: Names) -> Self {
                Self { names, $( $name: Counter::new(), )* }
            }

            /// What the device and its layers are called.
            pub(crate) fn names(&self) -> &Names {
                &self.names
            }

            /// Writes all of them, a line each.
            pub(crate) fn show(&self, out: &mut impl fmt::Write) -> fmt::Result {
                $( writeln!(out, "{} {}", stringify!($name), self.$name.0.load(Relaxed))?; )*
                Ok(())
            }
        }
    };
}

stats! {
    /// Read requests.
    requests,
    /// Bytes asked for by them.
    bytes,
    /// Requests served at once, in the context of whoever submitted them.
    inline,
    /// Requests served by workers.
    queued,
    /// Requests that ended with an error in whole or part.
    errors,
    /// Reads of backing files.
    backing_reads,
    /// Blocks decompressed.
    blocks_decoded,
    /// Reads of a block's part that the cache of decoded blocks had.
    cache_hits,
    /// Blocks whose checksum did not match.
    crc_errors,
    /// Blocks that did not decompress, or to a wrong length.
    decode_errors,
    /// Second attempts after any of these, or after a failed read.
    rereads,
}
