// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Where bytes come from: the interface that the kernel, the tool and the tests implement.

use super::error::{Error, Rule};

/// A byte source of known size, read at any offset.
pub trait ReadAt {
    /// What a failed read gives; format errors convert into it.
    type Error: From<Error>;

    /// Size in bytes.
    fn size(&self) -> u64;

    /// Whether [`Self::size`] is the size of what was written, and not of the place it was written to.
    ///
    /// It is not for a whole block device: what lies at its end may be left from a larger layer.
    fn is_exact(&self) -> bool;

    /// Fills all of `buf` from byte `offset`, or fails; never short.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error>;
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    type Error = S::Error;

    fn size(&self) -> u64 {
        (**self).size()
    }

    fn is_exact(&self) -> bool {
        (**self).is_exact()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read_exact_at(offset, buf)
    }
}

/// Part of a source, such as the payload of a tar wrapper.
#[derive(Clone, Copy, Debug)]
pub struct Window<S> {
    inner: S,
    offset: u64,
    size: u64,
    exact: bool,
}

impl<S: ReadAt> Window<S> {
    /// All of `inner`.
    pub fn whole(inner: S) -> Self {
        Self {
            offset: 0,
            size: inner.size(),
            exact: inner.is_exact(),
            inner,
        }
    }

    /// `size` bytes of `inner` from byte `offset`, as something says that is right; they must lie
    /// inside it.
    pub fn new(inner: S, offset: u64, size: u64) -> Result<Self, Error> {
        match offset.checked_add(size) {
            Some(end) if end <= inner.size() => Ok(Self {
                inner,
                offset,
                size,
                exact: true,
            }),
            _ => Err(Error::new(Rule::WindowBounds, offset, size)),
        }
    }

    /// Byte of the inner source at which this one begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The inner source.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: ReadAt> ReadAt for Window<S> {
    type Error = S::Error;

    fn size(&self) -> u64 {
        self.size
    }

    fn is_exact(&self) -> bool {
        self.exact
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error> {
        let len = buf.len() as u64;
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.size);
        match (inside, self.offset.checked_add(offset)) {
            (true, Some(at)) => self.inner.read_exact_at(at, buf),
            _ => Err(Error::new(Rule::WindowBounds, offset, len).into()),
        }
    }
}
