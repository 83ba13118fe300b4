// SPDX-License-Identifier: GPL-2.0

//! From layer files to a device: the one way, for module parameters and configfs alike.

use crate::backing::Backing;
use crate::cache::BlockCache;
use crate::codec::Codecs;
use crate::device::{Device, Looks, NewDevice, LOGICAL_BLOCK_SIZES};
use crate::error::LayerFault;
use crate::format::limits::{MAX_VIRTUAL_SIZE, SECTOR};
use crate::names::{Label, LayerName, Names};
use crate::pool::Pools;
use crate::registry::Registry;
use crate::stack::{Options, Stack};
use crate::stats::Stats;
use crate::sys::debugfs::Dir;
use crate::sys::file::{File, Identity};
use crate::sys::shrinker::Shrinker;
use kernel::fmt;
use kernel::id_pool::IdPool;
use kernel::prelude::*;
use kernel::str::{CStr, CString};
use kernel::sync::{new_mutex, Arc, Mutex};

/// A layer's file as the user has named it, open since then: the name's meaning in the user's mount
/// namespace, and the user's right to read it, are settled when it is given.
pub(crate) struct Source {
    file: Arc<File>,
    /// Path, as given or as found for a descriptor; `fd <n>` if none is known.
    label: Label,
    identity: Identity,
}

impl Source {
    /// The file at `path`.
    pub(crate) fn from_path(path: &[u8]) -> Result<Self> {
        // Inside the kernel no name is the current directory's.
        if path.is_empty() {
            return Err(ENOENT);
        }
        let mut text = KVec::with_capacity(path.len().saturating_add(1), GFP_KERNEL)?;
        text.extend_from_slice(path, GFP_KERNEL)?;
        text.push(0, GFP_KERNEL)?;
        let file = File::open(CStr::from_bytes_with_nul(&text).map_err(|_| EINVAL)?)?;
        let _ = text.pop();
        Self::new(file, text)
    }

    /// The file behind descriptor `fd` of the current process.
    pub(crate) fn from_fd(fd: u32) -> Result<Self> {
        let file = File::from_fd(fd)?;
        // A path may be too long to be told; the file can be read all the same.
        let label = file.path().or_else(|_| {
            let mut label = KVec::new();
            let text = CString::try_from_fmt(fmt!("fd {fd}"))?;
            label.extend_from_slice(text.to_bytes(), GFP_KERNEL)?;
            Ok::<_, Error>(label)
        })?;
        Self::new(file, label)
    }

    fn new(file: File, label: KVec<u8>) -> Result<Self> {
        let identity = file.identity()?;
        Ok(Self {
            file: Arc::new(file, GFP_KERNEL)?,
            label: Arc::new(label, GFP_KERNEL)?,
            identity,
        })
    }

    /// Which file it is, whatever it is called.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What to call the file in messages.
    pub(crate) fn label(&self) -> &[u8] {
        &self.label
    }
}

/// Why an attach failed: an errno, and one line that names layer, offset and rule.
pub(crate) struct AttachError {
    pub(crate) errno: Error,
    /// [`None`] when there was no memory to say it.
    pub(crate) text: Option<CString>,
}

impl AttachError {
    /// Puts the failure into words.
    pub(crate) fn new(errno: Error, text: fmt::Arguments<'_>) -> Self {
        Self {
            errno,
            text: CString::try_from_fmt(text).ok(),
        }
    }

    /// A file that cannot be opened as layer `number`.
    pub(crate) fn unopened(number: usize, label: &[u8], errno: Error) -> Self {
        Self::new(
            errno,
            fmt!(
                "{}: cannot be opened ({errno:?})",
                LayerName { number, label }
            ),
        )
    }

    /// A stack that cannot be opened.
    fn unreadable(names: &Names, fault: &LayerFault) -> Self {
        Self::new(fault.fault.errno(), fmt!("{}", names.tell(fault)))
    }

    /// Tells the log, in one line; returns the errno.
    pub(crate) fn report(&self) -> Error {
        match &self.text {
            Some(text) => pr_err!("{}\n", &**text),
            None => pr_err!("{:?}\n", self.errno),
        }
        self.errno
    }
}

impl From<Error> for AttachError {
    fn from(errno: Error) -> Self {
        Self::new(errno, fmt!("{errno:?}"))
    }
}

/// What all devices of the module share.
#[pin_data]
pub(crate) struct Host {
    codecs: Arc<Codecs>,
    /// Layers that are open, and what is kept of them.
    registry: Arc<Registry>,
    /// [`None`] when decoded blocks shall not be kept.
    _cache_shrinker: Option<Shrinker<BlockCache>>,
    /// Memory for reads.
    pools: Arc<Pools>,
    _pools_shrinker: Shrinker<Pools>,
    debugfs: Arc<Dir>,
    /// Numbers of disks in use.
    #[pin]
    numbers: Mutex<IdPool>,
}

/// Disk numbers that the pool begins with; it grows as needed.
const FIRST_NUMBERS: usize = 64;

impl Host {
    /// No devices yet. `inline` says whether submitters may serve reads themselves, `cache_bytes` how
    /// many bytes of decoded blocks may be kept.
    // Not inlined: what it takes of the stack is given back before layers are read.
    #[inline(never)]
    pub(crate) fn new(inline: bool, cache_bytes: u64) -> Result<Arc<Self>> {
        let cache = match cache_bytes {
            0 => None,
            bytes => Some(BlockCache::new(bytes)?),
        };
        let cache_shrinker = cache.clone().map(Shrinker::new).transpose()?;
        let registry = Registry::new(cache)?;
        let codecs = Arc::new(Codecs::new()?, GFP_KERNEL)?;
        let pools = Pools::new(inline)?;
        let pools_shrinker = Shrinker::new(pools.clone())?;
        let numbers = IdPool::with_capacity(FIRST_NUMBERS, GFP_KERNEL)?;
        let debugfs = Dir::new(c"vbd")?;
        Arc::pin_init(
            pin_init!(Self {
                codecs,
                registry,
                _cache_shrinker: cache_shrinker,
                pools,
                _pools_shrinker: pools_shrinker,
                debugfs,
                numbers <- new_mutex!(numbers, "vbd_numbers"),
            }),
            GFP_KERNEL,
        )
    }

    /// Attaches a stack, bottom layer first, as the disk with the lowest free number.
    pub(crate) fn attach(
        self: &Arc<Self>,
        sources: &[Arc<Source>],
        options: Options,
        looks: Looks,
    ) -> Result<Device, AttachError> {
        let device = self.prepare(sources, options, looks)?;
        Ok(self.add(device)?)
    }

    /// Shows a device to everyone; in the module's init nothing that can fail may come after.
    pub(crate) fn add(&self, device: NewDevice) -> Result<Device> {
        device.add(self.debugfs.clone())
    }

    /// Does all of [`Self::attach`] but what others can see.
    pub(crate) fn prepare(
        self: &Arc<Self>,
        sources: &[Arc<Source>],
        options: Options,
        looks: Looks,
    ) -> Result<NewDevice, AttachError> {
        check_size(options.size)?;
        check_logical_block_size(looks.logical_block_size)?;
        let number = DiskNumber::new(self.clone())?;
        let name = CString::try_from_fmt(fmt!("vbd{number}"))?;
        let mut labels = KVec::with_capacity(sources.len(), GFP_KERNEL).map_err(Error::from)?;
        for source in sources {
            labels
                .push(source.label.clone(), GFP_KERNEL)
                .map_err(Error::from)?;
        }
        let names = Names::new(name, labels);
        let stats = Arc::new(Stats::new(names), GFP_KERNEL).map_err(Error::from)?;
        let mut backings = KVec::with_capacity(sources.len(), GFP_KERNEL).map_err(Error::from)?;
        for source in sources {
            let backing = Backing::new(source.file.clone(), None).ok_or(EIO)?;
            backings.push(backing, GFP_KERNEL).map_err(Error::from)?;
        }
        let stack = Stack::open(
            backings,
            options,
            self.codecs.clone(),
            &self.registry,
            stats.clone(),
        )
        .map_err(|fault| AttachError::unreadable(stats.names(), &fault))?;
        let block_size = u64::from(looks.logical_block_size);
        if stack.disk_bytes().checked_rem(block_size) != Some(0) {
            return Err(AttachError::new(
                EINVAL,
                fmt!(
                    "size {}: no multiple of the logical block size {}",
                    stack.disk_bytes(),
                    block_size
                ),
            ));
        }
        let stack = Arc::new(stack, GFP_KERNEL).map_err(Error::from)?;
        let pools = self.pools.clone();
        Ok(NewDevice::new(number, stack, looks, stats, pools)?)
    }
}

/// Refuses a virtual size that no disk can have; 0 stands for the layers' own.
pub(crate) fn check_size(size: u64) -> Result<(), AttachError> {
    if size % SECTOR != 0 || size > MAX_VIRTUAL_SIZE {
        return Err(AttachError::new(
            EINVAL,
            fmt!("size {size}: must be a multiple of {SECTOR} up to {MAX_VIRTUAL_SIZE}"),
        ));
    }
    Ok(())
}

/// Refuses a logical block size that no disk can have.
pub(crate) fn check_logical_block_size(bytes: u32) -> Result<(), AttachError> {
    if LOGICAL_BLOCK_SIZES.contains(&bytes) {
        return Ok(());
    }
    let [small, large] = LOGICAL_BLOCK_SIZES;
    Err(AttachError::new(
        EINVAL,
        fmt!("logical_block_size {bytes}: must be {small} or {large}"),
    ))
}

/// A disk's number, free again when this is dropped.
pub(crate) struct DiskNumber {
    host: Arc<Host>,
    number: usize,
}

impl DiskNumber {
    fn new(host: Arc<Host>) -> Result<Self> {
        let mut numbers = host.numbers.lock();
        let number = loop {
            if let Some(unused) = numbers.find_unused_id(0) {
                break unused.acquire();
            }
            let more = numbers.grow_request().ok_or(ENOSPC)?.realloc(GFP_KERNEL)?;
            numbers.grow(more);
        };
        drop(numbers);
        Ok(Self { host, number })
    }
}

impl fmt::Display for DiskNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

impl Drop for DiskNumber {
    fn drop(&mut self) {
        self.host.numbers.lock().release_id(self.number);
    }
}
