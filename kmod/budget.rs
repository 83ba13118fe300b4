// SPDX-License-Identifier: GPL-2.0

//! Memory that images claim: what a stack may have of the machine's, and all stacks together.
//!
//! Asked before anything is allocated whose size an image decides and that stays: jump tables and indexes.

use crate::error::Fault;
use crate::format::limits;
use crate::sys::machine;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::Arc;

/// What all stacks of a module may have together, and have.
pub(crate) struct Budget {
    machine: u64,
    used: Atomic<u64>,
}

impl Budget {
    /// Nothing is used yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let budget = Self {
            machine: machine::memory(),
            used: Atomic::new(0),
        };
        Ok(Arc::new(budget, GFP_KERNEL)?)
    }

    /// Takes `bytes` for whichever stack.
    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge, Fault> {
        let limit = limits::stacks_memory(self.machine);
        let mut used = self.used.load(Relaxed);
        loop {
            let wanted = used.saturating_add(bytes);
            if wanted > limit {
                return Err(Fault::StacksMemory { wanted, limit });
            }
            match self.used.cmpxchg(used, wanted, Relaxed) {
                Ok(_) => break,
                Err(now) => used = now,
            }
        }
        Ok(Charge {
            budget: self.clone(),
            bytes,
        })
    }
}

/// A part of the budget, given back when this is dropped.
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

/// What one stack has while it is being opened.
pub(crate) struct Claim {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Claim {
    /// A stack without anything.
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Counts `bytes` that others may have as well.
    pub(crate) fn count(&mut self, bytes: u64) -> Result<(), Fault> {
        let limit = limits::stack_memory(self.budget.machine);
        let wanted = self.bytes.saturating_add(bytes);
        if wanted > limit {
            return Err(Fault::StackMemory { wanted, limit });
        }
        self.bytes = wanted;
        Ok(())
    }

    /// Takes `bytes` for this stack alone.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<Charge, Fault> {
        self.count(bytes)?;
        self.budget.charge(bytes)
    }

    /// Gives back what was taken.
    pub(crate) fn give(&mut self, charge: Charge) {
        self.bytes = self.bytes.saturating_sub(charge.bytes);
    }
}
