// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What a layer is put into: a file, perhaps a tar wrapper, perhaps a ZFile.

use super::output::{Output, Sink};
use super::zfile_writer::{Compression, ZFileWriter};
use crate::error::Result;
use std::path::Path;
use vbd_format::tar;

static ZEROES: [u8; 3 * tar::BLOCK] = [0; 3 * tar::BLOCK];

/// How the bytes of a layer are kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Container {
    /// Compression, or [`None`] for a plain layer.
    pub compression: Option<Compression>,
    /// Whether to wrap the layer into a tar archive, as registries want it.
    pub tar: bool,
    /// Replace an existing file.
    pub force: bool,
}

/// A container that is being filled.
pub struct Packer {
    inner: Inner,
    /// Byte of the file at which the payload begins.
    start: u64,
}

enum Inner {
    Plain(Output),
    Packed(Box<ZFileWriter>),
}

impl Container {
    /// Begins the file `path`.
    pub fn begin(&self, path: &Path) -> Result<Packer> {
        let mut out = Output::create(path, self.force)?;
        if self.tar {
            // The size is not known yet.
            out.write(tar::header(0).as_flattened())?;
        }
        let start = out.position();
        let inner = match self.compression {
            None => Inner::Plain(out),
            Some(compression) => Inner::Packed(Box::new(ZFileWriter::new(out, compression)?)),
        };
        Ok(Packer { inner, start })
    }
}

impl Packer {
    /// Completes the file and gives it its name; returns its size in bytes.
    pub fn finish(self) -> Result<u64> {
        let mut out = match self.inner {
            Inner::Plain(out) => out,
            Inner::Packed(zfile) => zfile.finish()?,
        };
        if self.start != 0 {
            let payload = out.position() - self.start;
            let end = payload.next_multiple_of(tar::BLOCK as u64) - payload;
            out.write(&ZEROES[..end as usize + 2 * tar::BLOCK])?;
            out.overwrite(0, tar::header(payload).as_flattened())?;
        }
        let size = out.position();
        out.commit()?;
        Ok(size)
    }
}

impl Sink for Packer {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.inner {
            Inner::Plain(out) => out.write(bytes),
            Inner::Packed(zfile) => zfile.write(bytes),
        }
    }

    fn position(&self) -> u64 {
        match &self.inner {
            Inner::Plain(out) => out.position() - self.start,
            Inner::Packed(zfile) => zfile.position(),
        }
    }

    fn amend(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        match &mut self.inner {
            Inner::Plain(out) => out.overwrite(self.start + offset, bytes),
            Inner::Packed(zfile) => zfile.amend(offset, bytes),
        }
    }
}
