// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Misuse of `sys` by safe code that has the wrong types. Each marked line has to be refused with that
//! error, and no other line; see xtask/src/test/misuse.rs.

use crate::sys::configfs::{Attribute, Directory, Hold, Parent, Subsystem};
use crate::sys::gen_disk::GenDisk;
use crate::sys::mq::{Operations, Request};
use crate::sys::pages::{Memory, Pages, Part, Parts};
use core::convert::Infallible;
use kernel::prelude::*;
use kernel::str::CStr;

struct Top;

impl Parent for Top {
    type Child = Infallible;

    fn make_child(&self, _name: &CStr) -> Result<Infallible> {
        Err(EPERM)
    }

    fn drop_child(&self, _child: &Infallible) {}
}

/// The top directory has no attributes: their functions take a directory that `mkdir` has made.
fn attribute_of_the_top() {
    let _ = <Top as Parent>::ATTRIBUTES; //~ E0576
    attributes_of(&Top); //~ E0277
}

fn attributes_of<D: Directory>(_directory: &D) -> &'static [Attribute<D>] {
    D::ATTRIBUTES
}

/// Only a parent can be the top.
fn top_of_anything(_: &Subsystem<u32>) {} //~ E0277

/// A part is made by who knows that there is no other one.
fn part_of_ones_own<'a, M: Memory>(io: &'a M) -> Part<'a, M> {
    Part::new(io, 0..512) //~ E0624
}

fn part_twice<M: Memory>(part: &Part<'_, M>) {
    let _ = Part::clone(part); //~ E0277
}

fn pages_twice(pages: &Pages<'_>) {
    let _ = Pages::clone(pages); //~ E0277
}

fn parts_twice<M: Memory>(parts: &Parts<'_, M>) {
    let _ = Parts::clone(parts); //~ E0277
}

/// Memory is somebody's who promises something about it.
struct Mine;

impl Memory for Mine {} //~ E0200

/// A request comes from the block layer.
fn request<T: Operations>(
    rq: core::ptr::NonNull<kernel::bindings::request>,
) -> Request<'static, T> {
    Request::new(rq) //~ E0624
}

/// A disk that was not added is none yet.
fn disk<T: Operations>(disk: crate::sys::gen_disk::NewDisk<T>) -> GenDisk<T> {
    GenDisk(disk) //~ E0423
}

/// What a directory is held by belongs to the call in which it is given.
fn hold_elsewhere() {
    fn sent<T: Send>() {}
    sent::<Hold<'static>>(); //~ E0277
}
