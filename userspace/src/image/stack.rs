// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A stack of layers, read as one disk.

use super::layer::{Contents, Layer, Scratch};
use super::{config, layer};
use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use vbd_format::limits;
use vbd_format::lsmt::{self, Cursor, Merge, PieceKind, Pieces, Segment};

/// An open stack: its layers, bottom first, and their merged index.
#[derive(Debug)]
pub struct Stack {
    layers: Vec<Layer>,
    index: Vec<Segment>,
    virtual_size: u64,
}

impl Stack {
    /// Opens layer files, bottom first, and checks all of their metadata.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        let stack = Self::open_part(paths)?;
        let sizes = stack.layers.iter().map(|layer| layer.lsmt.virtual_size);
        lsmt::virtual_size(sizes).map_err(Error::Stack)?;
        Ok(stack)
    }

    /// As [`Self::open`], of layers that may be part of a stack: if none of them states a virtual
    /// size, it is 0.
    pub fn open_part<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        if paths.len() > limits::MAX_LAYERS {
            let rule = vbd_format::Rule::StackLayers;
            return Err(Error::Stack(vbd_format::Error::new(
                rule,
                0,
                paths.len() as u64,
            )));
        }
        let mut layers = Vec::with_capacity(paths.len());
        let mut indexes = Vec::with_capacity(paths.len());
        for path in paths {
            let (layer, index) = Layer::open(path.as_ref())?;
            layers.push(layer);
            indexes.push(index);
        }
        let sizes = layers.iter().map(|layer| layer.lsmt.virtual_size);
        let index = merge(&indexes)?;
        Ok(Self {
            virtual_size: lsmt::virtual_size(sizes).unwrap_or(0),
            index,
            layers,
        })
    }

    /// Opens a stack as it stands on a command line: layer files, bottom first, in which an
    /// overlaybd `config.v1.json` stands for all of its layers.
    pub fn open_arguments<P: AsRef<Path>>(arguments: &[P]) -> Result<Self> {
        Self::open(&Self::resolve(arguments)?)
    }

    /// The files that one argument names: itself if there is such a file, or several, separated by commas.
    pub fn split(argument: &Path) -> Vec<PathBuf> {
        let bytes = argument.as_os_str().as_bytes();
        if !bytes.contains(&b',') || argument.symlink_metadata().is_ok() {
            return vec![argument.to_owned()];
        }
        let names = bytes.split(|&byte| byte == b',');
        names.map(|name| OsStr::from_bytes(name).into()).collect()
    }

    /// The layer files that a stack on a command line stands for, bottom first.
    pub fn resolve<P: AsRef<Path>>(arguments: &[P]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for argument in arguments {
            let path = argument.as_ref();
            if config::is_config(path)? {
                files.extend(config::lowers(path)?);
            } else {
                files.push(path.to_owned());
            }
        }
        Ok(files)
    }

    /// The layers, bottom first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The merged index; each segment's tag is its layer, 0 = bottom.
    pub fn index(&self) -> &[Segment] {
        &self.index
    }

    /// Bytes of the disk: what the topmost layer says that says anything.
    pub fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// What is mapped inside the virtual size, as merged.
    pub fn mapped(&self) -> Contents {
        let mut sums = Contents {
            records: self.index.len() as u64,
            ..Contents::default()
        };
        for piece in Pieces::new(self.index().into(), 0, self.virtual_size, self.virtual_size) {
            match piece.kind {
                PieceKind::Hole => {}
                PieceKind::Zeroed => sums.zeroed_bytes += piece.len,
                PieceKind::Data { .. } => sums.data_bytes += piece.len,
            }
        }
        sums
    }

    /// A reader of the disk; each thread needs its own.
    pub fn reader(&self) -> Reader<'_> {
        self.reader_of_size(self.virtual_size)
    }

    /// A reader of the disk as if its virtual size were `virtual_size` bytes.
    ///
    /// A larger one can bring back what a lower layer stores past the end of a smaller top layer.
    pub fn reader_of_size(&self, virtual_size: u64) -> Reader<'_> {
        Reader {
            stack: self,
            virtual_size,
            scratch: Scratch::new(true),
        }
    }
}

/// Reads a stack's disk, with every check on every block.
pub struct Reader<'a> {
    stack: &'a Stack,
    virtual_size: u64,
    scratch: layer::Scratch,
}

impl Reader<'_> {
    /// Leaves out the blocks' checksums if `verify` is false; the other checks stay.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.scratch = Scratch::new(verify);
        self
    }

    /// Fills `buf` from byte `offset` of the LSMT file of layer `number`.
    pub(super) fn read_layer(&mut self, number: usize, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.stack.layers[number].read(number, offset, buf, &mut self.scratch)
    }

    /// Fills `buf` with the disk's bytes from byte `offset`; zeroes past the virtual size.
    ///
    /// Offset and length may be any number of bytes.
    pub fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        let pieces = Pieces::new(self.stack.index().into(), offset, end, self.virtual_size);
        let mut rest = buf;

        for piece in pieces {
            let (part, after) = rest.split_at_mut(piece.len as usize);
            rest = after;
            match piece.kind {
                PieceKind::Hole | PieceKind::Zeroed => part.fill(0),
                PieceKind::Data { layer, offset } => {
                    let number = usize::from(layer);
                    self.stack.layers[number].read(number, offset, part, &mut self.scratch)?;
                }
            }
        }
        // Only a range that ends past the last possible byte has bytes without a piece.
        rest.fill(0);
        Ok(())
    }
}

/// The merged index of layers' indexes, bottom first.
fn merge(indexes: &[Vec<Segment>]) -> Result<Vec<Segment>> {
    let mut cursors = vec![Cursor::default(); indexes.len()];
    let mut merged = Vec::new();
    for segment in Merge::new(indexes, &mut cursors).map_err(Error::Stack)? {
        merged.push(segment);
        lsmt::check_records(merged.len()).map_err(Error::Stack)?;
    }
    Ok(merged)
}
