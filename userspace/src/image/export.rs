// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Writes the disk that a stack makes to a raw image, a block device or a stream.

use super::backing::size_of;
use super::output::Output;
use super::parallel::in_order;
use super::{Disk, Stack};
use crate::error::{Error, Result};
use rustix::fs::{fallocate, FallocateFlags, OFlags};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Bytes that one task reads.
const PART: u64 = 1 << 20;

/// Zeroes of at least this many bytes, at a multiple of it, become a hole.
const PAGE: usize = 4096;

static ZEROES: [u8; PAGE] = [0; PAGE];

/// How to export.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// Bytes of the disk to write.
    pub range: Range<u64>,
    /// Reading threads.
    pub jobs: usize,
    /// Replace an existing file, or write to a block device.
    pub force: bool,
}

impl ExportOptions {
    /// The whole of `stack`.
    pub fn whole(stack: &Stack) -> Self {
        Self {
            range: 0..stack.virtual_size(),
            jobs: 1,
            force: false,
        }
    }
}

/// Writes to `path`: to the block device of this name, or to a new file, in which zeroes are holes.
///
/// `progress` is told the bytes of the range that are done.
pub fn export(
    stack: Stack,
    path: &Path,
    options: &ExportOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let len = options.range.end - options.range.start;
    let disk = Disk::Stack(stack);
    if path
        .metadata()
        .is_ok_and(|found| found.file_type().is_block_device())
    {
        let device = open_device(path, len, options.force)?;
        let place = Place::Device {
            file: &device,
            path,
        };
        to_place(&disk, &place, options, progress)?;
        return device.sync_all().map_err(Error::io(path, "cannot sync"));
    }
    let mut out = Output::create(path, options.force)?;
    out.set_len(len)?;
    to_place(&disk, &Place::File(&out), options, progress)?;
    out.commit()
}

/// Writes to `out`, from the first byte to the last; `path` is its name in messages.
pub fn export_stream(
    stack: Stack,
    out: &mut dyn Write,
    path: &Path,
    options: &ExportOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let disk = Disk::Stack(stack);
    let Range { start, end } = options.range;
    let mut at = start;
    let mut put = |at: &mut u64, bytes: &[u8]| {
        let offset = *at - start;
        *at += bytes.len() as u64;
        out.write_all(bytes)
            .map_err(Error::transfer(path, offset, "cannot write"))
    };
    let mut parts = Parts::new(&disk, options);
    in_order(
        options.jobs,
        || disk.reader(),
        |reader, range: Range<u64>| {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            reader.read_exact_at(range.start, &mut bytes)?;
            Ok((range.start, bytes))
        },
        || {
            while let Some(part) = parts.next()? {
                if part.data {
                    return Ok(Some(part.range));
                }
            }
            Ok(None)
        },
        |read: Result<(u64, Vec<u8>)>| {
            let (offset, bytes) = read?;
            while at < offset {
                let zeroes = ZEROES.len().min((offset - at) as usize);
                put(&mut at, &ZEROES[..zeroes])?;
            }
            put(&mut at, &bytes)?;
            progress(at - start);
            Ok(ControlFlow::Continue(()))
        },
    )?;
    while at < end {
        let zeroes = ZEROES.len().min((end - at) as usize);
        put(&mut at, &ZEROES[..zeroes])?;
    }
    out.flush()
        .map_err(Error::transfer(path, end - start, "cannot write"))
}

/// Opens a block device that nobody uses and that holds `len` bytes.
fn open_device(path: &Path, len: u64, force: bool) -> Result<File> {
    if !force {
        return Err(Error::unfit(
            path,
            "is a block device; --force writes to it",
        ));
    }
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::EXCL.bits() as i32)
        .open(path)
        .map_err(Error::io(path, "cannot open"))?;
    let size = size_of(&device, path)?;
    if size < len {
        let reason = format!("has {size} bytes, less than the {len} to write");
        return Err(Error::unfit(path, reason));
    }
    Ok(device)
}

/// Where bytes go that may be written in any order.
enum Place<'a> {
    File(&'a Output),
    Device { file: &'a File, path: &'a Path },
}

impl Place<'_> {
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self {
            Self::File(out) => out.write_at(offset, bytes),
            Self::Device { file, path } => file
                .write_all_at(bytes, offset)
                .map_err(Error::transfer(path, offset, "cannot write")),
        }
    }

    /// Writes what is not zero; in a new file there is a hole where nothing is written.
    fn write_sparse(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let Self::File(out) = self else {
            return self.write(offset, bytes);
        };
        // Pages of the file: the first one may begin before the bytes.
        let next = |at: usize| {
            let page = PAGE - (offset as usize + at) % PAGE;
            bytes.len().min(at + page)
        };
        let is_zero = |at: usize| bytes[at..next(at)] == ZEROES[..next(at) - at];
        let mut start = 0;
        while start < bytes.len() {
            let zero = is_zero(start);
            let mut end = next(start);
            while end < bytes.len() && is_zero(end) == zero {
                end = next(end);
            }
            if !zero {
                out.write_at(offset + start as u64, &bytes[start..end])?;
            }
            start = end;
        }
        Ok(())
    }

    /// Makes a range zero; a new file is that already.
    fn zero(&self, range: Range<u64>) -> Result<()> {
        let Self::Device { file, path } = self else {
            return Ok(());
        };
        let len = range.end - range.start;
        // Unmapping that reads as zeroes afterwards, else writing by the device itself.
        for way in [
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        ] {
            match fallocate(file, way, range.start, len) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {}
                Err(error) => {
                    let failed = Error::transfer(path, range.start, "cannot write zeroes");
                    return Err(failed(error.into()));
                }
            }
        }
        let zeroes = vec![0; PART.min(len) as usize];
        let mut at = range.start;
        while at < range.end {
            let now = (range.end - at).min(zeroes.len() as u64);
            self.write(at, &zeroes[..now as usize])?;
            at += now;
        }
        Ok(())
    }
}

fn to_place(
    disk: &Disk,
    place: &Place<'_>,
    options: &ExportOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let start = options.range.start;
    let mut parts = Parts::new(disk, options);
    in_order(
        options.jobs,
        || (disk.reader(), Vec::new()),
        |(reader, buf), part: Part| {
            let Range { start: at, end } = part.range;
            if part.data {
                buf.resize((end - at) as usize, 0);
                reader.read_exact_at(at, buf)?;
                place.write_sparse(at - start, buf)?;
            } else {
                place.zero(at - start..end - start)?;
            }
            Ok(end)
        },
        || parts.next(),
        |end: Result<u64>| {
            progress(end? - start);
            Ok(ControlFlow::Continue(()))
        },
    )
}

/// A range of the disk: data, or zeroes.
struct Part {
    range: Range<u64>,
    data: bool,
}

/// The parts of a range, without gaps.
struct Parts<'a> {
    disk: &'a Disk,
    at: u64,
    end: u64,
    data: Range<u64>,
}

impl<'a> Parts<'a> {
    fn new(disk: &'a Disk, options: &ExportOptions) -> Self {
        let Range { start, end } = options.range;
        Self {
            disk,
            at: start,
            end,
            data: start..start,
        }
    }

    fn next(&mut self) -> Result<Option<Part>> {
        let at = self.at;
        if at >= self.end {
            return Ok(None);
        }
        if at >= self.data.end {
            let found = self.disk.next_data(at)?;
            self.data = found.unwrap_or(self.end..self.end);
            self.data.end = self.data.end.min(self.end);
        }
        let data = at >= self.data.start;
        self.at = if data {
            // Parts end at multiples of their length, so that few blocks are decoded twice.
            (at + PART - at % PART).min(self.data.end)
        } else {
            self.data.start.min(self.end)
        };
        let range = at..self.at;
        Ok(Some(Part { range, data }))
    }
}
