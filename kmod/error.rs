// SPDX-License-Identifier: GPL-2.0

//! What can go wrong, and the one place that makes an errno of it.

use crate::format;
use kernel::alloc::AllocError;
use kernel::bindings;
use kernel::fmt;
use kernel::prelude::*;

/// A failure while a layer is opened or read.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// The image breaks a rule of the format.
    Format(format::Error),
    /// The backing file cannot be read at a byte offset.
    Read { offset: u64, errno: Error },
    /// The backing file ends before what should be there.
    Short { offset: u64 },
    /// Going on would mean waiting, or more work than may be done here; not an error of anything.
    WouldWait,
    /// A compressed file was wanted, and this is none.
    #[allow(dead_code, reason = "only device-mapper asks for one")]
    NotCompressed,
    /// Direct reads were wanted, and the file's file system has none.
    NoDirect,
    /// Jump tables and indexes of the stack would take more memory than a stack may have, in bytes.
    StackMemory { wanted: u64, limit: u64 },
    /// Those of all stacks would take more memory than they may have together, in bytes.
    StacksMemory { wanted: u64, limit: u64 },
    /// Anything else the kernel says no to.
    Kernel(Error),
}

/// A fault, and the layer of the stack that it lies in, 0 = bottom, if it lies in one.
pub(crate) struct LayerFault {
    pub(crate) layer: Option<usize>,
    pub(crate) fault: Fault,
}

impl<F: Into<Fault>> From<F> for LayerFault {
    fn from(fault: F) -> Self {
        Self {
            layer: None,
            fault: fault.into(),
        }
    }
}

impl Fault {
    /// The same fault, said of layer `number`.
    pub(crate) fn in_layer(self, number: usize) -> LayerFault {
        LayerFault {
            layer: Some(number),
            fault: self,
        }
    }

    /// Where in its layer the fault lies, in bytes, and what it is in a few words.
    pub(crate) fn place(&self) -> (u64, &'static str) {
        match self {
            Self::Format(error) => (error.offset, error.rule.text()),
            Self::Read { offset, .. } => (*offset, "read failed"),
            Self::Short { offset } => (*offset, "the file ends early (truncated)"),
            Self::WouldWait => (0, "would have to wait"),
            Self::NotCompressed => (0, "not a compressed file"),
            Self::NoDirect => (0, "no direct reads"),
            Self::StackMemory { .. } => (0, "too much memory for a stack"),
            Self::StacksMemory { .. } => (0, "too much memory for all stacks"),
            Self::Kernel(_) => (0, "the kernel says no"),
        }
    }

    /// The errno for user space.
    pub(crate) fn errno(&self) -> Error {
        match self {
            Self::Format(error) => match error.rule.class() {
                format::Class::NotALayer => EINVAL,
                // What file systems say of a damaged image and of a bad checksum.
                format::Class::Corrupt => errno(bindings::EUCLEAN),
                format::Class::Checksum => errno(bindings::EBADMSG),
                format::Class::Unsupported => errno(bindings::EOPNOTSUPP),
                format::Class::TooLarge => EFBIG,
            },
            Self::Read { errno, .. } | Self::Kernel(errno) => *errno,
            Self::Short { .. } => EIO,
            Self::WouldWait => EAGAIN,
            Self::NotCompressed => EINVAL,
            Self::NoDirect => errno(bindings::EOPNOTSUPP),
            Self::StackMemory { .. } => EFBIG,
            Self::StacksMemory { .. } => ENOMEM,
        }
    }
}

/// An errno that the prelude has no name for.
fn errno(code: u32) -> Error {
    Error::from_errno(-(code as i32))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(error) => write!(f, "{error}"),
            Self::Read { offset, errno } => {
                write!(f, "file offset {offset}: read failed ({errno:?})")
            }
            Self::Short { offset } => {
                write!(f, "file offset {offset}: the file ends early (truncated)")
            }
            Self::WouldWait => write!(f, "would have to wait"),
            Self::NotCompressed => write!(f, "zfile offset 0: no magic: not a compressed file"),
            Self::NoDirect => write!(
                f,
                "its file system has no direct reads, or tells no alignment"
            ),
            Self::StackMemory { wanted, limit } => write!(
                f,
                "jump tables and indexes of the stack would take {wanted} bytes of memory so far; \
                 a stack may have {limit} on this machine"
            ),
            Self::StacksMemory { wanted, limit } => write!(
                f,
                "jump tables and indexes of all devices would take {wanted} bytes of memory; \
                 they may have {limit} together on this machine"
            ),
            Self::Kernel(errno) => write!(f, "{errno:?}"),
        }
    }
}

impl From<format::Error> for Fault {
    fn from(error: format::Error) -> Self {
        Self::Format(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Kernel(error)
    }
}

impl From<AllocError> for Fault {
    fn from(_: AllocError) -> Self {
        Self::Kernel(ENOMEM)
    }
}
