// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Misuse of `sys` by safe code whose types are right: what is used twice, at once, or too late, and
//! unsafe functions. Each marked line has to be refused with that error, and no other line; see
//! xtask/src/test/misuse.rs.

use crate::sys::configfs::{Hold, Parent, Subsystem};
use crate::sys::gen_disk::NewDisk;
use crate::sys::mq::{Completion, Operations, Request};
use crate::sys::pages::{Memory, Pages, Part, SegmentList};
use kernel::str::CStr;

/// Who has the memory of a part has all of it.
fn pages_twice<M: Memory>(mut part: Part<'_, M>, one: &mut SegmentList, two: &mut SegmentList) {
    let mut first = part.pages(one);
    let mut second = part.pages(two); //~ E0499
    first.zero(1);
    second.zero(1);
}

/// One list serves one part at a time.
fn list_twice<M: Memory>(mut one: Part<'_, M>, mut two: Part<'_, M>, list: &mut SegmentList) {
    let mut first = one.pages(list);
    let mut second = two.pages(list); //~ E0499
    first.zero(1);
    second.zero(1);
}

fn pieces_at_once(pages: &mut Pages<'_>) {
    let first = pages.chunk(512);
    let second = pages.chunk(512); //~ E0499
    drop((first, second));
}

fn attempts_at_once(pages: &mut Pages<'_>) {
    let mut attempt = pages.again();
    pages.zero(1); //~ E0499
    attempt.zero(1);
}

/// A part does not outlive the call that it is given to.
fn part_kept<T: Operations>(
    part: Part<'_, Request<'static, T>>,
) -> Part<'static, Request<'static, T>> {
    part //~ lifetime
}

/// A request ends once.
fn ended_twice<T: Operations>(request: Completion<'_, T>) {
    request.end_ok();
    request.end_ok(); //~ E0382
}

/// A disk is added once.
fn added_twice<T: Operations>(disk: NewDisk<T>) {
    let _ = disk.add();
    let _ = disk.add(); //~ E0382
}

/// What is told of by name for ever has a name for ever.
fn named<D: Parent>(name: &CStr, directory: D) {
    let _ = Subsystem::new(name, directory); //~ E0521
}

/// A directory is held for the call in which it is written to.
fn hold_kept(hold: Hold<'_>) -> Hold<'static> {
    hold //~ lifetime
}

/// Memory is listed by who knows that nobody else gets at it.
fn listed<M: Memory>(io: &M, list: &mut SegmentList) {
    let _ = io.list(&(0..512), list); //~ E0133
}
