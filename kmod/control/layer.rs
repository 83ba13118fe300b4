// SPDX-License-Identifier: GPL-2.0

//! The directory of a layer.

use super::{number, Slot};
use crate::attach::{AttachError, Source};
use crate::sys::configfs::{Attribute, Directory, Parent, Text};
use core::convert::Infallible;
use kernel::fmt;
use kernel::fmt::Write as _;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;

/// `vbd/<name>/<n>`: layer n of a device, 0 = bottom.
///
/// A device that is on keeps its layers open by itself, so removing their directories is no harm.
pub(crate) struct LayerDirectory {
    pub(super) slot: Arc<Slot>,
    pub(super) number: u8,
}

impl LayerDirectory {
    fn set(&self, source: Result<Source>, label: &[u8]) -> Result {
        let mut inner = self.slot.inner.lock();
        let number = self.number;
        let settings = inner.settings()?;
        match source {
            Ok(source) => {
                let source = Arc::new(source, GFP_KERNEL)?;
                let entry = settings.layers.iter_mut().find(|(n, _)| *n == number);
                entry.ok_or(ENOENT)?.1 = Some(source);
                Ok(())
            }
            Err(errno) => {
                let error = AttachError::unopened(usize::from(number), label, errno);
                settings.error = Some(error);
                Err(errno)
            }
        }
    }

    /// Shows a property of the file; nothing if there is none yet.
    fn show(
        &self,
        text: &mut Text<'_>,
        property: impl FnOnce(&Source, &mut Text<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let inner = self.slot.inner.lock();
        let entry = inner.layers.iter().find(|(n, _)| *n == self.number);
        match entry {
            Some((_, Some(source))) => property(source, text),
            _ => Ok(()),
        }
    }
}

fn show_label(source: &Source, text: &mut Text<'_>) -> fmt::Result {
    text.push(source.label())?;
    text.push(b"\n")
}

impl Directory for LayerDirectory {
    const ATTRIBUTES: &'static [Attribute<Self>] = &[
        Attribute {
            name: c"path",
            show: |this, text| this.show(text, show_label),
            store: Some(|this, _, bytes| {
                // Only the line's end is not the path's: spaces may well be.
                let path = bytes.strip_suffix(b"\n").unwrap_or(bytes);
                this.set(Source::from_path(path), path)
            }),
        },
        Attribute {
            name: c"fd",
            show: |this, text| this.show(text, show_label),
            store: Some(|this, _, bytes| {
                let fd = u32::try_from(number(bytes)?).map_err(|_| EBADF)?;
                this.set(Source::from_fd(fd), bytes.trim_ascii())
            }),
        },
        Attribute {
            name: c"inode",
            show: |this, text| {
                this.show(text, |source, text| {
                    text.write_fmt(fmt!("{}\n", source.identity()))
                })
            },
            store: None,
        },
    ];
}

impl Parent for LayerDirectory {
    type Child = Infallible;

    fn make_child(&self, _name: &CStr) -> Result<Infallible> {
        Err(EPERM)
    }

    fn drop_child(&self, child: &Infallible) {
        match *child {}
    }
}
