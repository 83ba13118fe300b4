// SPDX-License-Identifier: GPL-2.0

//! From the block layer's request to a transfer, and back to its end.

use crate::pool::Pools;
use crate::stack::Stack;
use crate::sys::job::{Verdict, Worker};
use crate::sys::mq::{Completion, Operations, Request};
use crate::sys::pages::{Part, Parts};
use crate::transfer::{Progress, Transfer};
use kernel::prelude::*;
use kernel::sync::Arc;

/// The driver of a disk.
pub(crate) struct Queue {
    transfer: Transfer,
}

impl Queue {
    /// A queue that serves `stack`.
    pub(crate) fn new(stack: Arc<Stack>, pools: Arc<Pools>) -> Result<Self> {
        Ok(Self {
            transfer: Transfer::new(stack, pools)?,
        })
    }
}

impl Operations for Queue {
    type RequestData = Progress;

    fn queue_rq(
        &self,
        rq: &Request<'_, Self>,
        all: Part<'_, Request<'_, Self>>,
    ) -> Result<Verdict> {
        if !rq.is_read() {
            return Err(EROFS);
        }
        Ok(self.transfer.begin(rq.data(), all))
    }

    fn serve(
        &self,
        rq: &Request<'_, Self>,
        parts: &Parts<'_, Request<'_, Self>>,
        worker: &Worker<'_>,
    ) {
        self.transfer.serve(rq.data(), parts, worker);
    }

    fn complete(&self, rq: Completion<'_, Self>) {
        self.transfer.end(rq.data(), &rq.range());
        if rq.data().failed() {
            self.transfer.stack().stats().errors.inc();
            // The request may join reads of several readers: only those with bad data fail.
            rq.end_failed(|part| self.transfer.read(part));
        } else {
            rq.end_ok();
        }
    }
}
