// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Sources in memory that notice a read outside of them.

use std::cell::Cell;
use vbd_format::{Error, ReadAt};

/// A file in memory. A read that leaves it is a bug of the code under test and panics.
#[derive(Clone, Debug, Default)]
pub struct Mem(pub Vec<u8>);

impl ReadAt for Mem {
    type Error = Error;

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(buf.len() as u64);
        assert!(
            end.is_some_and(|end| end <= self.size()),
            "read of {} bytes at {offset} leaves a file of {}",
            buf.len(),
            self.size()
        );
        let start = offset as usize;
        buf.copy_from_slice(&self.0[start..start + buf.len()]);
        Ok(())
    }
}

/// A file of any claimed size that is zero but for a few pieces.
#[derive(Clone, Debug, Default)]
pub struct Sparse {
    /// Bytes.
    pub size: u64,
    /// Contents and where they begin; later ones win.
    pub pieces: Vec<(u64, Vec<u8>)>,
}

impl ReadAt for Sparse {
    type Error = Error;

    fn size(&self) -> u64 {
        self.size
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(buf.len() as u64);
        assert!(
            end.is_some_and(|end| end <= self.size),
            "read of {} bytes at {offset} leaves a file of {}",
            buf.len(),
            self.size
        );
        let end = offset + buf.len() as u64;
        buf.fill(0);
        for (at, bytes) in &self.pieces {
            let from = offset.max(*at);
            let to = end.min(at + bytes.len() as u64);
            if from < to {
                buf[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
            }
        }
        Ok(())
    }
}

/// A block device: what lies at its end may be left from something else.
#[derive(Clone, Debug, Default)]
pub struct Device(pub Mem);

impl ReadAt for Device {
    type Error = Error;

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn is_exact(&self) -> bool {
        false
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.0.read_exact_at(offset, buf)
    }
}

/// A source that fails at its `n`th read with an error of its own.
#[derive(Debug)]
pub struct Failing<S> {
    /// The source behind.
    pub inner: S,
    /// Reads that still succeed.
    pub left: Cell<u32>,
}

/// What [`Failing`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The read failed.
    Io,
    /// The format core refused.
    Format(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Format(error)
    }
}

impl<S: ReadAt<Error = Error>> ReadAt for Failing<S> {
    type Error = Failure;

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn is_exact(&self) -> bool {
        self.inner.is_exact()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Failure> {
        match self.left.get().checked_sub(1) {
            None => Err(Failure::Io),
            Some(left) => {
                self.left.set(left);
                Ok(self.inner.read_exact_at(offset, buf)?)
            }
        }
    }
}
