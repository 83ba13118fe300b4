// SPDX-License-Identifier: GPL-2.0

//! `zfile_target` and `lsmt_target`: layers on block devices, composed by `dmsetup`.
//!
//!     0 <sectors> zfile_target <device> <bytes of the ZFile>
//!     0 <sectors> lsmt_target <device> <bytes> [<device> <bytes> …]        bottom layer first
//!
//! The first shows what a compressed file holds, the second a stack of layers as a disk; the layers
//! of the second may be compressed and wrapped themselves.

use crate::backing::Backing;
use crate::cache::BlockCache;
use crate::codec::Codecs;
use crate::error::LayerFault;
use crate::format::limits::MAX_LAYERS;
use crate::names::{Label, Names};
use crate::pool::Pools;
use crate::registry::Registry;
use crate::stack::{Options, Stack};
use crate::stats::Stats;
use crate::sys::dm::{Answer, Bio, Refusal, Table, Target};
use crate::sys::job::{Verdict, Worker};
use crate::sys::pages::{Part, Parts};
use crate::sys::shrinker::Shrinker;
use crate::transfer::{Progress, Transfer, OPTIMAL_BYTES};
use core::fmt::Write;
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::{BStr, CStr};
use kernel::sync::Arc;

/// What all targets share.
pub(crate) struct Shared {
    codecs: Arc<Codecs>,
    registry: Arc<Registry>,
    _cache_shrinker: Shrinker<BlockCache>,
    pools: Arc<Pools>,
    _pools_shrinker: Shrinker<Pools>,
}

/// Bytes of decoded blocks to keep.
const CACHE_BYTES: u64 = 32 << 20;

impl Shared {
    /// Nothing decoded yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let cache = BlockCache::new(CACHE_BYTES)?;
        let pools = Pools::new(true)?;
        let shared = Self {
            codecs: Arc::new(Codecs::new()?, GFP_KERNEL)?,
            _cache_shrinker: Shrinker::new(cache.clone())?,
            registry: Registry::new(Some(cache))?,
            _pools_shrinker: Shrinker::new(pools.clone())?,
            pools,
        };
        Ok(Arc::new(shared, GFP_KERNEL)?)
    }
}

/// What a kind of target makes of its devices.
pub(crate) trait Kind: Send + Sync + 'static {
    /// The name in tables.
    const NAME: &'static CStr;

    /// Devices that a table line may name.
    const MAX_DEVICES: usize;

    /// Opens the devices' contents, bottom first.
    fn open(
        backings: KVec<Backing>,
        shared: &Shared,
        stats: Arc<Stats>,
    ) -> Result<Stack, LayerFault>;
}

/// `zfile_target`.
pub(crate) struct ZFileKind;

impl Kind for ZFileKind {
    const NAME: &'static CStr = c"zfile_target";
    const MAX_DEVICES: usize = 1;

    fn open(
        backings: KVec<Backing>,
        shared: &Shared,
        stats: Arc<Stats>,
    ) -> Result<Stack, LayerFault> {
        Stack::open_zfile(backings, shared.codecs.clone(), &shared.registry, stats)
    }
}

/// `lsmt_target`.
pub(crate) struct LsmtKind;

impl Kind for LsmtKind {
    const NAME: &'static CStr = c"lsmt_target";
    const MAX_DEVICES: usize = MAX_LAYERS;

    fn open(
        backings: KVec<Backing>,
        shared: &Shared,
        stats: Arc<Stats>,
    ) -> Result<Stack, LayerFault> {
        let options = Options {
            size: 0,
            verify: true,
            direct: false,
        };
        Stack::open(
            backings,
            options,
            shared.codecs.clone(),
            &shared.registry,
            stats,
        )
    }
}

/// A target of one kind.
pub(crate) struct StackTarget<K> {
    transfer: Transfer,
    stats: Arc<Stats>,
    _kind: core::marker::PhantomData<K>,
}

impl<K: Kind> Target for StackTarget<K> {
    const NAME: &'static CStr = K::NAME;
    const VERSION: [u32; 3] = [1, 0, 0];
    const OPTIMAL_SIZE: u32 = OPTIMAL_BYTES as u32;
    type BioData = Progress;
    type Shared = Arc<Shared>;

    fn new(shared: &Arc<Shared>, table: &mut Table<'_>, words: &[&CStr]) -> Result<Self, Refusal> {
        if words.is_empty() || words.len() % 2 != 0 {
            return Err(Refusal::new(
                EINVAL,
                c"wanted: <device> <bytes> for each layer",
            ));
        }
        if words.len() / 2 > K::MAX_DEVICES {
            return Err(Refusal::new(EINVAL, c"too many devices"));
        }
        if !table.is_read_only() {
            return Err(Refusal::new(EINVAL, c"the device must be read-only"));
        }

        let mut backings = KVec::with_capacity(words.len() / 2, GFP_KERNEL).map_err(Error::from)?;
        let mut labels = KVec::with_capacity(words.len() / 2, GFP_KERNEL).map_err(Error::from)?;
        for pair in words.chunks_exact(2) {
            let [device, bytes] = pair else {
                continue;
            };
            let bytes = bytes.to_str().ok().and_then(|text| text.parse().ok());
            let bytes = bytes.ok_or(Refusal::new(EINVAL, c"<bytes> is not a number"))?;
            let file = table
                .open(device)
                .map_err(|errno| Refusal::new(errno, c"a device cannot be opened"))?;
            let file = Arc::new(file, GFP_KERNEL).map_err(Error::from)?;
            let backing = Backing::new(file, Some(bytes)).ok_or(Refusal::new(
                EINVAL,
                c"a device is smaller than its <bytes>",
            ))?;
            backings.push(backing, GFP_KERNEL).map_err(Error::from)?;
            labels
                .push(label(device)?, GFP_KERNEL)
                .map_err(Error::from)?;
        }

        let names = Names::new(table.disk_name()?, labels);
        let stats = Arc::new(Stats::new(names), GFP_KERNEL).map_err(Error::from)?;
        let stack = K::open(backings, shared, stats.clone()).map_err(|fault| {
            pr_err!("{}\n", stats.names().tell(&fault));
            Refusal::new(
                fault.fault.errno(),
                c"the layers cannot be opened, as the line before this one says",
            )
        })?;
        if table.bytes() > stack.disk_bytes() {
            pr_err!(
                "{}: the table has {} bytes, the layers have {}\n",
                BStr::from_bytes(K::NAME.to_bytes()),
                table.bytes(),
                stack.disk_bytes()
            );
            return Err(Refusal::new(EINVAL, c"the table is larger than the layers"));
        }
        let stack = Arc::new(stack, GFP_KERNEL).map_err(Error::from)?;
        Ok(Self {
            transfer: Transfer::new(stack, shared.pools.clone())?,
            stats,
            _kind: core::marker::PhantomData,
        })
    }

    fn map(&self, bio: &Bio<'_, Self>, all: Part<'_, Bio<'_, Self>>) -> Result<Verdict> {
        if !bio.is_read() {
            return Err(EROFS);
        }
        Ok(self.transfer.begin(bio.data(), all))
    }

    fn serve(&self, bio: &Bio<'_, Self>, parts: &Parts<'_, Bio<'_, Self>>, worker: &Worker<'_>) {
        self.transfer.serve(bio.data(), parts, worker);
    }

    fn complete(&self, bio: &Bio<'_, Self>) -> Result {
        self.transfer.end(bio.data(), &bio.range());
        if bio.data().failed() {
            self.stats.errors.inc();
            return Err(EIO);
        }
        Ok(())
    }

    fn status(&self, out: &mut Answer<'_>) -> fmt::Result {
        let stack = self.transfer.stack();
        write!(
            out,
            "layers {} bytes {} segments {}",
            stack.layers(),
            stack.virtual_size(),
            stack.segments()
        )
    }

    fn message(&self, words: &[&CStr], out: &mut Answer<'_>) -> Result {
        match words {
            [word] if word.to_bytes() == b"stats" => self.stats.show(out).map_err(|_| EIO),
            _ => Err(EINVAL),
        }
    }
}

/// What a layer on device `device` is called.
fn label(device: &CStr) -> Result<Label> {
    let mut label = KVec::new();
    label.extend_from_slice(device.to_bytes(), GFP_KERNEL)?;
    Ok(Arc::new(label, GFP_KERNEL)?)
}
