// SPDX-License-Identifier: GPL-2.0

//! What a device and its layers are called in messages.

use crate::error::LayerFault;
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::{BStr, CStr, CString};
use kernel::sync::Arc;

/// What a layer's file is called: its path, as given or as found for a descriptor.
pub(crate) type Label = Arc<KVec<u8>>;

/// The names of a device and of its layers, bottom first.
pub(crate) struct Names {
    device: CString,
    layers: KVec<Label>,
}

impl Names {
    /// Disk `device`, made of files with these names.
    pub(crate) fn new(device: CString, layers: KVec<Label>) -> Self {
        Self { device, layers }
    }

    /// The disk's name in `/dev`.
    pub(crate) fn device(&self) -> &CStr {
        &self.device
    }

    /// A fault in words: its layer by number and name, and what is wrong there.
    pub(crate) fn tell<'a>(&'a self, fault: &'a LayerFault) -> impl fmt::Display + 'a {
        Told { names: self, fault }
    }
}

struct Told<'a> {
    names: &'a Names,
    fault: &'a LayerFault,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = self.fault.layer {
            let label = self.names.layers.get(number);
            let label = label.map_or(&[][..], |label| label.as_slice());
            f.write_fmt(fmt!("{}: ", LayerName { number, label }))?;
        }
        f.write_fmt(fmt!("{}", self.fault.fault))
    }
}

/// A layer as messages name it: `layer <n> (<path>)`.
pub(crate) struct LayerName<'a> {
    pub(crate) number: usize,
    pub(crate) label: &'a [u8],
}

impl fmt::Display for LayerName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("layer {} ({})", self.number, Shortened(self.label)))
    }
}

/// Characters of a path that a message shows at most. What is wrong comes after the path, and a
/// message has to fit one record of the log, 1024 bytes.
const SHOWN: usize = 512;

/// What stands for the middle of a longer one.
const GAP: &str = "...";

/// Characters before it: some directories. What tells files apart is mostly at the end.
const SHOWN_BEFORE: usize = 128;
const SHOWN_BEHIND: usize = SHOWN - SHOWN_BEFORE - GAP.len();

/// A path, without its middle if it is a long one, and with what is not printable escaped.
struct Shortened<'a>(&'a [u8]);

/// Characters that a byte is shown as, by [`BStr`].
fn width(byte: &u8) -> usize {
    match byte {
        b' '..=b'~' => 1,
        b'\t' | b'\n' | b'\r' => 2,
        _ => 4,
    }
}

/// How many of these bytes take at most `room` characters.
fn fitting<'a>(bytes: impl Iterator<Item = &'a u8>, room: usize) -> usize {
    bytes
        .scan(0usize, |sum, byte| {
            *sum = sum.saturating_add(width(byte));
            Some(*sum)
        })
        .take_while(|sum| *sum <= room)
        .count()
}

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0;
        if fitting(path.iter(), SHOWN) == path.len() {
            return f.write_fmt(fmt!("{}", BStr::from_bytes(path)));
        }
        let before = fitting(path.iter(), SHOWN_BEFORE);
        let behind = path
            .len()
            .saturating_sub(fitting(path.iter().rev(), SHOWN_BEHIND));
        f.write_fmt(fmt!(
            "{}{GAP}{}",
            BStr::from_bytes(path.get(..before).unwrap_or_default()),
            BStr::from_bytes(path.get(behind..).unwrap_or_default())
        ))
    }
}
