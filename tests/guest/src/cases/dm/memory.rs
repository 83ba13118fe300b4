// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Targets without memory: a table is refused with a fitting errno or works, and a read is exact or
//! fails.

use super::mapper::{self, Disk, Mapped, Targets, MODULE};
use super::model::{self, MIXED};
use crate::case::Case;
use crate::cases::support::injection::everywhere;
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use rustix::io::Errno;

pub(in crate::cases) const CASES: &[Case] =
    crate::cases::cases![tables_without_memory, reads_without_memory];

const BYTES: usize = 256 << 10;

fn tables_without_memory() {
    let targets = Targets::begin();
    let scratch = Scratch::in_memory();
    let stack = model::stack(110, BYTES, &MIXED);
    let disks = Disk::all(&scratch, &stack.files);
    let table = mapper::lsmt(BYTES as u64, &mapper::parts(&disks));
    // The module is there from the first table on.
    drop(Mapped::new("dm", &table));
    let (mut good, mut refused) = (0, 0);
    everywhere(MODULE, |point| {
        let mapped = match Mapped::with_mode("dm", "ro", &table) {
            Ok(mapped) => {
                good += 1;
                mapped
            }
            Err(said) => {
                assert!(said.tool.contains("Cannot allocate memory"), "{said:?}");
                refused += 1;
                point.over();
                Mapped::new("dm", &table)
            }
        };
        point.over();
        read::check_all(&mapped.path(), &stack.disk);
    });
    println!("note tables without memory: {good} good, {refused} ENOMEM");
    assert!(good > 0 && refused > 0);
    drop((disks, targets));
}

fn reads_without_memory() {
    let targets = Targets::begin();
    let scratch = Scratch::new();
    let stack = model::stack(111, BYTES, &MIXED);
    let disks = Disk::all(&scratch, &stack.files);
    let table = mapper::lsmt(BYTES as u64, &mapper::parts(&disks));
    let mapped = Mapped::new("dm", &table);
    let file = read::direct(&mapped.path());
    let (mut exact, mut failed) = (0, 0);
    everywhere(MODULE, |point| {
        read::drop_caches();
        match read::pread(&file, 0, BYTES) {
            Ok(got) => {
                read::same(&got, &stack.disk, 0);
                exact += 1;
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
                failed += 1;
            }
        }
        point.over();
        read::check(&file, &stack.disk, 0, BYTES);
    });
    println!("note reads without memory by targets: {exact} exact, {failed} EIO");
    assert!(exact > 0);
    drop(file);
    drop(mapped);
    drop((disks, targets));
}
