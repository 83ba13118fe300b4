// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reading a device in every way there is, into memory that shows what was not written.

use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// What memory holds before a read.
const POISON: u8 = 0xa5;

/// Opens for ordinary, cached reads.
pub(crate) fn buffered(path: &str) -> File {
    File::open(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Opens for reads that go past the page cache.
pub(crate) fn direct(path: &str) -> File {
    let flag = i32::try_from(OFlags::DIRECT.bits()).unwrap();
    let file = OpenOptions::new().read(true).custom_flags(flag).open(path);
    file.unwrap_or_else(|error| panic!("{path} with O_DIRECT: {error}"))
}

/// Memory that begins at a multiple of 4096 bytes, or a given number of bytes after one.
pub(crate) struct Memory {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Memory {
    pub(crate) fn new(length: usize, after: usize) -> Memory {
        let bytes = vec![POISON; length + after + 4096];
        let start = bytes.as_ptr().align_offset(4096) + after;
        Memory {
            bytes,
            start,
            length,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// One read call; the bytes that it brought.
pub(crate) fn pread(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    pread_into(file, offset, length, 0)
}

/// One read call into memory that begins `after` bytes after a multiple of 4096.
pub(crate) fn pread_into(
    file: &File,
    offset: u64,
    length: usize,
    after: usize,
) -> io::Result<Vec<u8>> {
    let mut memory = Memory::new(length, after);
    let count = file.read_at(memory.bytes_mut(), offset)?;
    let rest = &memory.bytes()[count..];
    // A direct read may have been under way for more than it reports.
    if count == 0 {
        assert!(
            rest.iter().all(|&byte| byte == POISON),
            "a read of nothing at {offset} wrote something"
        );
    }
    Ok(memory.bytes()[..count].to_vec())
}

/// Reads `length` bytes, which have to be those of `disk`, in one call.
#[track_caller]
pub(crate) fn check(file: &File, disk: &[u8], offset: u64, length: usize) {
    match pread(file, offset, length) {
        Ok(got) => same(&got, expected(disk, offset, length), offset),
        Err(error) => panic!("read of {length} bytes at {offset}: {error}"),
    }
}

/// How much a disk, such as `vbd0`, is read ahead, in KiB, by files that are opened from now on.
///
/// Linux reads ahead into folios of several pages, and one in which anything is bad is of no use to
/// anybody, on every kind of disk. With 0, each page is read for itself.
pub(crate) fn read_ahead(disk: &str, kib: u32) {
    let path = format!("/sys/block/{disk}/queue/read_ahead_kb");
    std::fs::write(&path, kib.to_string()).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Reads a range, which has to fail with `EIO` as a whole.
#[track_caller]
pub(crate) fn check_eio(file: &File, offset: u64, length: usize) {
    match pread(file, offset, length) {
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {}
        Err(error) => panic!("read of {length} bytes at {offset}: {error}, not EIO"),
        Ok(got) => panic!("read of {length} bytes at {offset} brought {}", got.len()),
    }
}

/// The part of a disk that a read brings: shorter at the end, nothing past it.
pub(crate) fn expected(disk: &[u8], offset: u64, length: usize) -> &[u8] {
    let start = usize::try_from(offset).unwrap().min(disk.len());
    &disk[start..(start + length).min(disk.len())]
}

/// Compares what a read at `offset` brought with what it should have.
#[track_caller]
pub(crate) fn same(got: &[u8], want: &[u8], offset: u64) {
    if got == want {
        return;
    }
    let at = got.iter().zip(want).position(|(a, b)| a != b);
    let at = at.unwrap_or(got.len().min(want.len()));
    let show = |bytes: &[u8]| bytes[at..(at + 16).min(bytes.len())].to_vec();
    panic!(
        "read at {offset}: {} bytes for {}, different from byte {at} (disk byte {}, sector {}) on: \
         {:02x?} for {:02x?}",
        got.len(),
        want.len(),
        offset + at as u64,
        (offset + at as u64) / 512,
        show(got),
        show(want),
    );
}

/// Reads all of a device in large pieces and compares it with a disk.
#[track_caller]
pub(crate) fn check_all(path: &str, disk: &[u8]) {
    let file = buffered(path);
    let size = super::device::size(path);
    assert_eq!(size, disk.len() as u64, "size of {path}");
    for (number, want) in disk.chunks(1 << 20).enumerate() {
        check(&file, disk, (number as u64) << 20, want.len());
    }
}

/// Has the kernel forget all clean cached pages.
pub(crate) fn drop_caches() {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "1").expect("drop_caches");
}
