// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A reader of stacks that calls the format core in the order that the driver does.

use crate::codec::Real;
use crate::crc::RawCrc;
use crate::mem::Mem;
use vbd_format::lsmt::{
    self, Cursor, Directory, Grid, Index, Lsmt, Merge, PieceKind, Pieces, Segment,
};
use vbd_format::tar::{self, Wrapper};
use vbd_format::zfile::{self, Filler, Group, JumpTable, ZFile};
use vbd_format::{Error, ReadAt, Rule, Window};

/// The LSMT bytes of a layer, compressed or not.
#[derive(Debug)]
pub enum Payload<S> {
    /// Stored as they are.
    Plain(Window<S>),
    /// In a ZFile.
    Packed(Window<S>, ZFile, Vec<Group>),
}

impl<S: ReadAt> ReadAt for Payload<S> {
    type Error = S::Error;

    fn size(&self) -> u64 {
        match self {
            Self::Plain(window) => window.size(),
            Self::Packed(_, zfile, _) => zfile.original_size,
        }
    }

    fn is_exact(&self) -> bool {
        match self {
            Self::Plain(window) => window.is_exact(),
            Self::Packed(..) => true,
        }
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), S::Error> {
        let (window, zfile, groups) = match self {
            Self::Plain(window) => return window.read_exact_at(offset, buf),
            Self::Packed(window, zfile, groups) => (window, zfile, groups),
        };
        let table = JumpTable::new(zfile, groups);
        let mut fetch = vec![0u8; zfile.max_stored()];
        let mut bounce = vec![0u8; zfile.block_size as usize];
        zfile::read_blocks(zfile, offset, buf, &mut bounce, |block, dst| {
            let stored =
                table
                    .stored(block)
                    .ok_or(Error::new(Rule::ZFileReadBounds, offset, block))?;
            let fetch = &mut fetch[..stored.len];
            window.read_exact_at(stored.offset, fetch)?;
            zfile::unpack(zfile, &RawCrc, &mut Real, true, fetch, dst)
                .map_err(|rule| Error::new(rule, stored.offset, block).into())
        })
    }
}

/// One opened layer.
#[derive(Debug)]
pub struct Layer<S> {
    /// Its wrapper.
    pub wrapper: Wrapper,
    /// Its bytes.
    pub payload: Payload<S>,
    /// What its trailer says.
    pub lsmt: Lsmt,
    /// Its records.
    pub segments: Vec<Segment>,
}

impl<S> AsRef<[Segment]> for Layer<S> {
    fn as_ref(&self) -> &[Segment] {
        &self.segments
    }
}

/// What `load_jump_table` needs to put all groups into a vector.
pub fn groups_into<E>(
    groups: &mut Vec<Group>,
) -> impl FnMut(usize, &mut Filler<'_, E>) -> Result<(), E> + '_ {
    |count, fill| {
        let begin = groups.len();
        groups.resize(begin + count, Group::default());
        fill(&mut groups[begin..])
    }
}

/// Opens a layer; `room` is the size of the buffer that index and jump table go through.
pub fn layer_with<S: ReadAt>(src: S, room: usize) -> Result<Layer<S>, S::Error> {
    let mut buf = vec![0u8; room];
    let (wrapper, window) = tar::unwrap(src)?;
    let payload = match zfile::probe(&window, &RawCrc)? {
        None => Payload::Plain(window),
        Some(zfile) => {
            let mut groups = Vec::new();
            let more = groups_into(&mut groups);
            zfile::load_jump_table(&window, &zfile, &RawCrc, &mut buf, more)?;
            Payload::Packed(window, zfile, groups)
        }
    };
    let lsmt = lsmt::probe(&payload)?;
    let mut segments = Vec::new();
    lsmt::load_index(&payload, &lsmt, &mut buf, |segment| {
        segments.push(segment);
        Ok(())
    })?;
    Ok(Layer {
        wrapper,
        payload,
        lsmt,
        segments,
    })
}

/// Opens a layer through a page.
pub fn layer<S: ReadAt>(src: S) -> Result<Layer<S>, S::Error> {
    layer_with(src, 4096)
}

/// Merges layers, twice with the same memory for it, and checks that both agree.
pub fn merge<L: AsRef<[Segment]>>(layers: &[L]) -> Result<Vec<Segment>, Error> {
    let mut cursors = vec![Cursor::default(); layers.len()];
    let count = Merge::new(layers, &mut cursors)?.count();
    let index: Vec<Segment> = Merge::new(layers, &mut cursors)?.collect();
    assert_eq!(count, index.len(), "the two passes of a merge differ");
    Ok(index)
}

/// The directory of a merged index.
pub fn directory(index: &[Segment]) -> (Grid, Vec<u32>) {
    let grid = Grid::new(index);
    let mut starts = vec![u32::MAX; grid.places()];
    grid.fill(index, &mut starts);
    (grid, starts)
}

/// An opened stack.
#[derive(Debug)]
pub struct Stack<S> {
    /// Layers, bottom first.
    pub layers: Vec<Layer<S>>,
    /// The merged index.
    pub index: Vec<Segment>,
    /// Its directory.
    pub starts: Vec<u32>,
    /// How that cuts the disk.
    pub grid: Grid,
    /// Bytes of the disk.
    pub virtual_size: u64,
}

impl<S: ReadAt<Error = Error>> Stack<S> {
    /// Opens a stack, bottom first.
    pub fn open(sources: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let layers = sources
            .into_iter()
            .enumerate()
            .map(|(i, src)| layer(src).map_err(|e| e.in_layer(i as u8)))
            .collect::<Result<Vec<_>, _>>()?;
        let index = merge(&layers)?;
        let (grid, starts) = directory(&index);
        Ok(Self {
            index,
            starts,
            grid,
            virtual_size: lsmt::virtual_size(layers.iter().map(|l| l.lsmt.virtual_size))?,
            layers,
        })
    }

    /// The index as the driver asks it.
    pub fn index(&self) -> Index<'_> {
        Index::with(&self.index, Directory::new(self.grid, &self.starts))
    }

    /// Reads `buf` from byte `start` of the disk.
    pub fn read(&self, start: u64, buf: &mut [u8]) -> Result<(), Error> {
        let end = start + buf.len() as u64;
        let mut at = start;
        for piece in Pieces::new(self.index(), start, end, self.virtual_size) {
            assert_eq!(piece.start, at, "pieces leave a gap");
            let from = (at - start) as usize;
            let part = &mut buf[from..from + piece.len as usize];
            match piece.kind {
                PieceKind::Hole | PieceKind::Zeroed => part.fill(0),
                PieceKind::Data { layer, offset } => self.layers[usize::from(layer)]
                    .payload
                    .read_exact_at(offset, part)
                    .map_err(|e| e.in_layer(layer))?,
            }
            at += piece.len;
        }
        assert_eq!(at, end, "pieces end early");
        Ok(())
    }
}

/// Reads the disk of a one-layer stack whose sectors hold one value each: those values.
pub fn sectors(file: Vec<u8>) -> Vec<u8> {
    let stack = Stack::open([Mem(file)]).expect("a legal layer");
    let mut disk = vec![0xee; stack.virtual_size as usize];
    stack.read(0, &mut disk).expect("a readable layer");
    disk.chunks(512)
        .map(|sector| {
            assert!(sector.iter().all(|&b| b == sector[0]), "a mixed sector");
            sector[0]
        })
        .collect()
}
