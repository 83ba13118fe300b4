// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Misuse of `sys` by safe code that makes values of its own. Each marked line has to be refused with
//! that error, and no other line; see xtask/src/test/misuse.rs.

use crate::sys::mq::{Completion, Operations, Request};
use crate::sys::pages::{Memory, Part, Parts};

/// A part is made by who knows that there is no other one.
fn part_of_ones_own<M: Memory>(io: &M) -> Part<'_, M> {
    Part { io, range: 0..512 } //~ E0451
}

fn parts_of_others<'a, M: Memory>(io: &'a M, others: Parts<'a, M>) -> Parts<'a, M> {
    Parts { io, ..others } //~ E0451
}

/// A request is ended by the last one who is at it.
fn end<T: Operations>(request: Request<'_, T>) -> Completion<'_, T> {
    Completion { request } //~ E0451
}
