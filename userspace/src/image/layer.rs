// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! One layer: a file, an optional tar wrapper, an optional ZFile, an LSMT index.

use super::backing::Backing;
use super::codec::{Crc, Decoders};
use super::jump::{Jump, Piece};
use crate::error::{ReadError, Result};
use std::cell::RefCell;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use vbd_format::lsmt::{self, Header, Lsmt, Segment};
use vbd_format::tar::{self, Wrapper};
use vbd_format::zfile::{self, Run, ZFile};
use vbd_format::{Error, ReadAt, Rule, Window};

/// Bytes of an index that are read at a time.
const METADATA_CHUNK: usize = 64 * 1024;

/// Stored bytes of adjacent blocks that are fetched with one read.
const FETCH_BYTES: usize = 512 * 1024;

/// A layer that passed every check that opening makes.
#[derive(Debug)]
pub struct Layer {
    /// Path as given.
    pub path: PathBuf,
    /// Form of the tar wrapper.
    pub wrapper: Wrapper,
    /// What the layer says of itself.
    pub lsmt: Lsmt,
    /// What its index holds.
    pub contents: Contents,
    bytes: Bytes,
}

/// Sums over the index of one layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Records, without padding and without empty ones.
    pub records: u64,
    /// Bytes of the virtual disk that the layer stores.
    pub data_bytes: u64,
    /// Bytes of the virtual disk that the layer says are zero.
    pub zeroed_bytes: u64,
}

impl Contents {
    /// Sums over `index`.
    pub fn of(index: &[Segment]) -> Self {
        let mut sums = Self::default();
        for segment in index {
            let bytes = segment.sectors() * vbd_format::limits::SECTOR;
            sums.records += 1;
            if segment.zeroed() {
                sums.zeroed_bytes += bytes;
            } else {
                sums.data_bytes += bytes;
            }
        }
        sums
    }
}

/// The file's payload, and how its blocks are found if it is compressed.
#[derive(Debug)]
struct Bytes {
    payload: Window<Backing>,
    zfile: Option<(ZFile, Jump)>,
}

impl Layer {
    /// Opens the layer file `path` and checks all of its metadata; returns it with its index.
    pub fn open(path: &Path) -> Result<(Self, Vec<Segment>)> {
        let backing = Backing::open(path)?;
        Self::open_backing(path, backing).map_err(|error| error.of(path))
    }

    /// As [`Self::open`], for a layer in the first `size` bytes of a file or block device.
    pub fn open_first(path: &Path, size: u64) -> Result<(Self, Vec<Segment>)> {
        let backing = Backing::open_first(path, size)?;
        Self::open_backing(path, backing).map_err(|error| error.of(path))
    }

    fn open_backing(path: &Path, backing: Backing) -> Result<(Self, Vec<Segment>), ReadError> {
        let mut buf = vec![0; METADATA_CHUNK];
        let (wrapper, payload) = tar::unwrap(backing)?;
        let zfile = match zfile::probe(&payload, &Crc)? {
            Some(header) => {
                let jump = Jump::load(&payload, &header)?;
                Some((header, jump))
            }
            None => None,
        };
        let bytes = Bytes { payload, zfile };
        let view = View {
            bytes: &bytes,
            scratch: RefCell::new(Scratch::new(true)),
        };
        let lsmt = lsmt::probe(&view)?;
        let mut index = Vec::new();
        lsmt::load_index(&view, &lsmt, &mut buf, |segment| {
            index.push(segment);
            Ok(())
        })?;
        let layer = Self {
            path: path.to_owned(),
            wrapper,
            lsmt,
            contents: Contents::of(&index),
            bytes,
        };
        Ok((layer, index))
    }

    /// Bytes of the file.
    pub fn file_size(&self) -> u64 {
        self.bytes.payload.inner().size()
    }

    /// Byte of the file at which the payload begins: 0 without a tar wrapper.
    pub fn payload_offset(&self) -> u64 {
        self.bytes.payload.offset()
    }

    /// Bytes of the payload: of the ZFile, or of the LSMT file if it is not compressed.
    pub fn payload_size(&self) -> u64 {
        self.bytes.payload.size()
    }

    /// Bytes of the LSMT file, after decompression.
    pub fn lsmt_size(&self) -> u64 {
        self.bytes.size()
    }

    /// The ZFile's numbers, if the layer is compressed.
    pub fn zfile(&self) -> Option<&ZFile> {
        self.bytes.zfile.as_ref().map(|(header, _)| header)
    }

    /// Device and inode of the file, if the system says.
    pub fn identity(&self) -> Option<(u64, u64)> {
        self.bytes.payload.inner().identity()
    }

    /// The name in the header; what counts is the trailer's.
    pub fn header_uuid(&self) -> Result<[u8; 37]> {
        let mut uuid = [0; 37];
        self.reader()
            .read_exact_at(offset_of!(Header, uuid) as u64, &mut uuid)?;
        Ok(uuid)
    }

    /// A reader of the LSMT file's bytes; each thread needs its own.
    pub fn reader(&self) -> LayerReader<'_> {
        LayerReader {
            layer: self,
            scratch: Scratch::new(true),
        }
    }

    /// Reads LSMT bytes from `offset`; `number` tells the layers that share `scratch` apart.
    pub(super) fn read(
        &self,
        number: usize,
        offset: u64,
        buf: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.bytes
            .read(number, offset, buf, scratch)
            .map_err(|error| error.of(&self.path))
    }
}

/// Reads a layer's LSMT file, with every check on every block.
pub struct LayerReader<'a> {
    layer: &'a Layer,
    scratch: Scratch,
}

impl LayerReader<'_> {
    /// Fills `buf` from byte `offset` of the LSMT file.
    pub fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.layer.read(0, offset, buf, &mut self.scratch)
    }
}

/// Memory of a reader: decoders, a fetch buffer and the last block that was not used up.
pub(super) struct Scratch {
    verify: bool,
    decoders: Decoders,
    /// The part of a long jump table that was used last.
    piece: Option<Piece>,
    /// The layer and the stored blocks that `fetched` holds.
    run: Option<(usize, Run)>,
    fetched: Vec<u8>,
    bounce: Vec<u8>,
    /// The layer and the block that `kept` holds, decoded.
    kept_block: Option<(usize, u64)>,
    kept: Vec<u8>,
}

impl Scratch {
    /// Empty memory; `verify` = false leaves out the blocks' checksums.
    pub(super) fn new(verify: bool) -> Self {
        Self {
            verify,
            decoders: Decoders::default(),
            piece: None,
            run: None,
            fetched: Vec::new(),
            bounce: Vec::new(),
            kept_block: None,
            kept: Vec::new(),
        }
    }
}

impl Bytes {
    fn size(&self) -> u64 {
        match &self.zfile {
            Some((header, _)) => header.original_size,
            None => self.payload.size(),
        }
    }

    fn read(
        &self,
        number: usize,
        offset: u64,
        buf: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<(), ReadError> {
        let Some((header, jump)) = &self.zfile else {
            return self.payload.read_exact_at(offset, buf);
        };
        let bounds = Error::new(Rule::ZFileReadBounds, offset, buf.len() as u64);
        let end = offset.checked_add(buf.len() as u64).ok_or(bounds)?;
        if end > header.original_size {
            return Err(bounds.into());
        }
        let block_size = u64::from(header.block_size);
        let first = offset / block_size;
        let last = end.saturating_sub(1) / block_size;
        let Scratch {
            verify,
            decoders,
            piece,
            run,
            fetched,
            bounce,
            kept_block,
            kept,
        } = scratch;

        bounce.resize(bounce.len().max(header.block_size as usize), 0);
        zfile::read_blocks(header, offset, buf, bounce, |block, dst| {
            if *kept_block == Some((number, block)) {
                dst.copy_from_slice(kept);
                return Ok(());
            }
            let (table, base) = jump.around(&self.payload, header, piece, number, block)?;
            let stored = table.stored(block - base).ok_or(bounds)?;
            let here = match *run {
                Some((owner, run)) if owner == number && run.contains(block) => run,
                _ => {
                    let room = FETCH_BYTES.max(header.max_stored());
                    let next = Run::new(&table, block - base, last - base, room).ok_or(bounds)?;
                    let next = Run {
                        first: block,
                        ..next
                    };
                    *run = None;
                    fetched.resize(fetched.len().max(next.len), 0);
                    self.payload
                        .read_exact_at(next.offset, &mut fetched[..next.len])?;
                    *run = Some((number, next));
                    next
                }
            };
            // The run's bytes were read above, and the block lies among them.
            let at = (stored.offset - here.offset) as usize;
            let packed = &fetched[at..at + stored.len];
            zfile::unpack(header, &Crc, decoders, *verify, packed, dst)
                .map_err(|rule| Error::new(rule, stored.offset, block))?;
            // Only the ends of a read can be used again by the next one.
            if block == first || block == last {
                *kept_block = None;
                kept.clear();
                kept.extend_from_slice(dst);
                *kept_block = Some((number, block));
            }
            Ok(())
        })
    }
}

/// The LSMT bytes of a layer that is being opened.
struct View<'a> {
    bytes: &'a Bytes,
    scratch: RefCell<Scratch>,
}

impl ReadAt for View<'_> {
    type Error = ReadError;

    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn is_exact(&self) -> bool {
        self.bytes.zfile.is_some() || self.bytes.payload.is_exact()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.bytes
            .read(0, offset, buf, &mut self.scratch.borrow_mut())
    }
}
