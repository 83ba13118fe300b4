// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A second reader of stacks, written from `docs/format-*.md` alone: slow, plain, and without a line
//! of the format core.
//!
//! It says of any bytes what a reader has to make of them: which rule refuses them, where and with
//! which value shown, or what each sector of the disk is. [`Error`] and [`Rule`] serve as words for
//! that; whether a rule holds is worked out here.
//!
//! Two things it leaves open, because decoders of LZ4 do: whether a stream is taken that breaks the
//! rules for the end of a block, and what comes out of a match of distance 0.

mod lsmt;
mod lz4;
mod tar;
mod writable;
mod zfile;

pub use self::lsmt::{record, Layer, Sector, Stack};
pub use self::lz4::{Decoded, Head};
pub use self::tar::payload;
pub use self::writable::{data_header, log, log_header, Log};
pub use self::zfile::{Block, ZFile};

use vbd_format::{Error, Rule};

/// Why a stack is refused: the errors of which a reader has to report one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Layer in the stack, if the error is one of a layer.
    pub layer: Option<u8>,
    /// Usually one; several where decoders may differ.
    pub errors: Vec<Error>,
}

impl Refusal {
    /// Whether an error, of whatever layer, is one of these.
    pub fn has(&self, error: Error) -> bool {
        let plain = Error {
            layer: None,
            ..error
        };
        self.errors.contains(&plain)
    }
}

/// What has to become of a stack.
#[derive(Debug)]
pub enum Outcome {
    /// It is refused.
    Refused(Refusal),
    /// It is opened; or, where decoders may differ about a block of metadata, refused for one of
    /// the errors in [`Stack::doubts`].
    Open(Stack),
    /// Its metadata are not defined by its bytes: anything but harm.
    Undefined,
}

/// A stop on the way: refused, or not defined.
enum Stop {
    Refused(Vec<Error>),
    Undefined,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(vec![error])
    }
}

/// Opens a stack, bottom first.
///
/// `chunk` is the number of bytes of an index that the reader under test takes at a time: where an
/// index is wrong and the block behind it cannot be read, that decides what is seen first.
pub fn open<F: AsRef<[u8]>>(files: &[F], chunk: usize) -> Outcome {
    let refused = |layer, errors| Outcome::Refused(Refusal { layer, errors });
    if files.is_empty() {
        return refused(None, vec![Error::new(Rule::StackEmpty, 0, 0)]);
    }
    if files.len() > 255 {
        let error = Error::new(Rule::StackLayers, 0, files.len() as u64);
        return refused(None, vec![error]);
    }
    let mut layers = Vec::new();
    let mut doubts = Vec::new();
    for (number, file) in files.iter().enumerate() {
        match Layer::open(file.as_ref(), chunk, &mut doubts) {
            Ok(layer) => layers.push(layer),
            Err(Stop::Undefined) => return Outcome::Undefined,
            Err(Stop::Refused(mut errors)) => {
                // A doubt that came first may as well have ended it.
                errors.append(&mut doubts);
                return refused(Some(number as u8), errors);
            }
        }
    }
    match layers
        .iter()
        .rev()
        .map(|l| l.virtual_size)
        .find(|&s| s != 0)
    {
        Some(virtual_size) => Outcome::Open(Stack {
            layers,
            virtual_size,
            doubts,
        }),
        None => refused(None, vec![Error::new(Rule::StackNoSize, 0, 0)]),
    }
}

/// Bytes that are looked at together in the search for a trailer, from the end on, and for zeroes behind it.
/// Where blocks cannot be read, that decides what is seen first.
const LOOK: usize = 256;

/// Bytes of a trailer that mean something, at most: those of LSMT.
const USED: usize = 390;

/// Where the trailer of `len` bytes stands in the `size` bytes that `read` reads: at the end, or before up to
/// 4095 zeroes. If nothing with that magic does, at the end.
fn trailer(
    size: usize,
    len: usize,
    magic: &[u8],
    mut read: impl FnMut(usize, usize) -> Result<Vec<u8>, Stop>,
) -> Result<usize, Stop> {
    let last = size - len;
    // All of it that means something is read before it is looked at.
    if read(last, len.min(USED))?[..magic.len()] == *magic {
        return Ok(last);
    }
    // The first eight bytes tell where; whether the rest of the magic is right is told then.
    let first = last.saturating_sub(4095).max(len);
    let mut end = last;
    while end > first {
        let start = end.saturating_sub(LOOK).max(first);
        let bytes = read(start, end - start + 7)?;
        if let Some(place) = bytes.windows(8).rposition(|window| window == &magic[..8]) {
            let mut at = start + place + len;
            while at < size {
                let bytes = read(at, LOOK.min(size - at))?;
                if bytes.iter().any(|&byte| byte != 0) {
                    return Ok(last);
                }
                at += bytes.len();
            }
            return Ok(start + place);
        }
        end = start;
    }
    Ok(last)
}

/// The u32 at byte `at`.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// The u64 at byte `at`.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
