// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The writable top of a stack, as far as it is neither I/O nor memory: which sectors it owns and
//! where they lie ([`Cluster`], [`Region`]), and the order in which files are touched so that no
//! power cut loses what was flushed ([`write()`], [`zero`], [`flush`]).
//!
//! Placement is affine: the first write to a cluster of the disk reserves the cluster's bytes at the
//! end of the data file, and each of its sectors has one place there for ever. Overwrites go to the same
//! place, what was never written stays a hole of the file, and a place belongs to no other sector.
//! On disk that is an ordinary pair (`docs/format-writable.md`).
//!
//! The kernel, the tool and the crash tests supply memory ([`Map`]) and files ([`Data`], [`Commit`]); the
//! order is in one place for all of them.

mod cluster;
mod log;
mod map;
mod route;

pub use self::cluster::{Cluster, Source, CLUSTER_SECTORS};
pub use self::log::{open_log, verify_log, Group, Log, Verified};
pub use self::map::{
    home_places, Full, Map, Region, RegionExt, Span, Target, REGION_CLUSTERS, REGION_SECTORS,
};
pub use self::route::{flush, write, zero, Commit, Data, Space, Zeroing};
