// SPDX-License-Identifier: GPL-2.0

//! Compressed layers that are open, by what is in them: devices on the same file, and places of a stack
//! that name it again, share its jump table and its decoded blocks.
//!
//! An entry lives as long as somebody uses it. The first one to open a layer loads its table; who comes
//! meanwhile waits for that, and loads it in turn if it has failed. The registry's lock is held while
//! entries are looked up, made and removed, and never while anything is read, so a layer may lie on a disk
//! of the driver. It comes after all locks of attaching and detaching; no other is taken under it.

use crate::budget::{Budget, Charge};
use crate::cache::BlockCache;
use crate::codec::Crc32c;
use crate::error::Fault;
use crate::format::zfile::{self, Group, ZFile};
use crate::format::ReadAt;
use crate::sys::file::Identity;
use crate::sys::table::Table;
use kernel::prelude::*;
use kernel::sync::{new_condvar, new_mutex, Arc, CondVar, Mutex};

/// What makes two openings the same layer.
#[derive(PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) file: Identity,
    /// Byte of the file at which the payload begins.
    pub(crate) offset: u64,
    /// With it the checksum of the jump table, where there is one.
    pub(crate) zfile: ZFile,
}

/// Where the blocks of a layer are.
pub(crate) struct BlockTable {
    groups: Table<Group>,
    _charge: Charge,
}

impl BlockTable {
    /// Reads the jump table of `zfile`, in pieces of `buf`. `charge` is for [`zfile::groups`] groups.
    pub(crate) fn load<S: ReadAt<Error = Fault>>(
        src: &S,
        zfile: &ZFile,
        charge: Charge,
        buf: &mut [u8],
    ) -> Result<Self, Fault> {
        let mut groups = Table::new(zfile::groups(zfile))?;
        let mut done = 0usize;
        zfile::load_jump_table(src, zfile, &Crc32c, buf, |count, fill| {
            let begin = done;
            done = done.saturating_add(count);
            fill(groups.get_mut(begin..done).unwrap_or_default())
        })?;
        Ok(Self {
            groups,
            _charge: charge,
        })
    }
}

/// The open layers of a module.
#[pin_data]
pub(crate) struct Registry {
    budget: Arc<Budget>,
    /// [`None`] when decoded blocks shall not be kept.
    cache: Option<Arc<BlockCache>>,
    #[pin]
    open: Mutex<Open>,
    #[pin]
    loaded: CondVar,
}

struct Open {
    entries: KVec<Entry>,
    /// Number of the next layer; none is given twice.
    next: u64,
}

struct Entry {
    /// [`None`] for what may change without a trace, such as a block device: never the same.
    key: Option<Key>,
    number: u64,
    users: usize,
    /// [`None`] while it is being loaded.
    table: Option<Arc<BlockTable>>,
}

impl Registry {
    /// No layer yet; decoded blocks are kept in `cache`.
    pub(crate) fn new(cache: Option<Arc<BlockCache>>) -> Result<Arc<Self>> {
        let budget = Budget::new()?;
        let open = Open {
            entries: KVec::new(),
            next: 0,
        };
        Arc::pin_init(
            pin_init!(Self {
                budget,
                cache,
                open <- new_mutex!(open, "vbd_registry"),
                loaded <- new_condvar!("vbd_registry"),
            }),
            GFP_KERNEL,
        )
    }

    /// The memory that all stacks share.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Where decoded blocks are kept, if anywhere.
    pub(crate) fn cache(&self) -> Option<&Arc<BlockCache>> {
        self.cache.as_ref()
    }

    /// Opens a layer with the table that others on the same file have, or with the one that `load` makes.
    pub(crate) fn open(
        self: &Arc<Self>,
        key: Option<Key>,
        load: impl FnOnce() -> Result<BlockTable, Fault>,
    ) -> Result<OpenLayer, Fault> {
        let (number, known) = self.enter(key)?;
        let user = User {
            registry: self.clone(),
            number,
        };
        let table = match known {
            Some(table) => table,
            None => {
                let table = Arc::new(load()?, GFP_KERNEL)?;
                let mut open = self.open.lock();
                if let Some(entry) = open.entry(number) {
                    entry.table = Some(table.clone());
                }
                drop(open);
                self.loaded.notify_all();
                table
            }
        };
        Ok(OpenLayer { user, table })
    }

    /// Becomes a user of the layer with this key: its number, and its table unless the caller is to load
    /// it.
    fn enter(&self, key: Option<Key>) -> Result<(u64, Option<Arc<BlockTable>>)> {
        let mut open = self.open.lock();
        while let Some(entry) = open.same(&key) {
            if let Some(table) = &entry.table {
                entry.users = entry.users.saturating_add(1);
                return Ok((entry.number, Some(table.clone())));
            }
            self.loaded.wait(&mut open);
        }
        let number = open.next;
        let entry = Entry {
            key,
            number,
            users: 1,
            table: None,
        };
        open.entries.push(entry, GFP_KERNEL)?;
        open.next = number.wrapping_add(1);
        Ok((number, None))
    }

    /// One user of layer `number` less; the last one takes along what was kept of it.
    fn leave(&self, number: u64) {
        let mut last = false;
        self.open.lock().entries.retain(|entry| {
            if entry.number == number {
                entry.users = entry.users.saturating_sub(1);
                last = entry.users == 0;
                return !last;
            }
            true
        });
        if last {
            // Whoever has waited for a table that could not be loaded loads it now.
            self.loaded.notify_all();
            if let Some(cache) = &self.cache {
                cache.forget(number);
            }
        }
    }
}

impl Open {
    fn same(&mut self, key: &Option<Key>) -> Option<&mut Entry> {
        key.as_ref()?;
        self.entries.iter_mut().find(|entry| entry.key == *key)
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.number == number)
    }
}

/// A user of an entry, until this is dropped.
struct User {
    registry: Arc<Registry>,
    number: u64,
}

impl Drop for User {
    fn drop(&mut self) {
        self.registry.leave(self.number);
    }
}

/// A layer that is open.
pub(crate) struct OpenLayer {
    // Dropped first, so that the table is freed after the registry is unlocked.
    user: User,
    table: Arc<BlockTable>,
}

impl OpenLayer {
    /// The number that is the layer's as long as anybody has it open.
    pub(crate) fn number(&self) -> u64 {
        self.user.number
    }

    /// Where its blocks are.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.table.groups
    }
}
