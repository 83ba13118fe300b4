// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Writes a sealed LSMT layer as its segments arrive, in the order of the disk.
//!
//! Two layouts: [`LsmtWriter::data`] and [`LsmtWriter::zeroed`] keep data at its place within a page
//! and make records as long as they can be; [`LsmtWriter::segment`] and [`LsmtWriter::store`] put data
//! without gaps and join records as upstream's commit does, so that the bytes are the same.

use super::output::Sink;
use crate::error::Result;
use std::mem::offset_of;
use twox_hash::XxHash3_128;
use vbd_format::limits::{MAX_INDEX_RECORDS, SECTOR};
use vbd_format::lsmt::{
    Header, Segment, FLAG_DATA_FILE, FLAG_HEADER, FLAG_SEALED, HEADER_BYTES, MAGIC0, MAGIC1,
    UUID_NONE,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Sectors of a page: stored data keeps its place within one, so that reading a page of the disk
/// touches one page, and one block of 4096 bytes, of the file.
const PAGE_SECTORS: u64 = 8;

/// Longest record written, in sectors: whole pages, and below upstream's own limit of 16383.
const LONGEST: u64 = 16376;

/// Sum of lengths, in sectors, from which upstream does not join two records.
const JOINED: u64 = 16383;

/// The index is filled up to a multiple of this many records, a whole number of pages.
const INDEX_UNIT: u64 = 256;

/// The value of the header's size field.
const STRUCTURE_BYTES: u32 = 390;

/// What a layer says of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Bytes of the virtual disk.
    pub virtual_size: u64,
    /// The layer's name, 36 characters and NUL; without one it is made from the contents.
    pub uuid: Option<[u8; 37]>,
    /// The name of the layer below.
    pub parent_uuid: [u8; 37],
    /// Free text, at most 256 bytes.
    pub message: String,
}

/// A layer that is being written to a [`Sink`].
pub struct LsmtWriter<S> {
    sink: S,
    identity: Identity,
    index: Vec<Segment>,
    /// Sector at which the next data is stored.
    next: u64,
    contents: XxHash3_128,
}

impl<S: Sink> LsmtWriter<S> {
    /// Begins a layer at the end of `sink`.
    pub fn new(mut sink: S, identity: Identity) -> Result<Self> {
        // A name made from the contents is not known here yet.
        let mut header = structure(&identity, identity.uuid.unwrap_or(UUID_NONE));
        header.flags.set(FLAG_HEADER | FLAG_DATA_FILE | FLAG_SEALED);
        write_page(&mut sink, &header)?;
        Ok(Self {
            sink,
            identity,
            index: Vec::new(),
            next: HEADER_BYTES / SECTOR,
            contents: XxHash3_128::default(),
        })
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.index.len() as u64
    }

    /// Stores `bytes`, a whole number of sectors, as the disk's from sector `sector`.
    pub fn data(&mut self, sector: u64, bytes: &[u8]) -> Result<()> {
        let away = sector.wrapping_sub(self.next) % PAGE_SECTORS;
        if away != 0 {
            let padding = [0; (PAGE_SECTORS * SECTOR) as usize];
            self.sink.write(&padding[..(away * SECTOR) as usize])?;
            self.next += away;
        }
        let sectors = bytes.len() as u64 / SECTOR;
        self.record(sector, sectors, false);
        self.contents.write(bytes);
        self.sink.write(bytes)?;
        self.next += sectors;
        Ok(())
    }

    /// Says that `sectors` sectors from `sector` are zero, whatever lower layers hold.
    pub fn zeroed(&mut self, sector: u64, sectors: u64) {
        self.record(sector, sectors, true);
    }

    /// Adds records of at most [`LONGEST`] sectors, the first of them to the last one if they touch.
    fn record(&mut self, mut sector: u64, mut sectors: u64, zeroed: bool) {
        let mut place = self.next;
        debug_assert!(self.index.last().is_none_or(|last| last.end() <= sector));
        while sectors != 0 {
            let (mut first, mut stored, mut room) = (sector, place, LONGEST);
            if let Some(last) = self.index.last().copied() {
                let joined = if zeroed { 0 } else { last.sectors() };
                if last.end() == sector
                    && last.zeroed() == zeroed
                    && last.moffset() + joined == place
                    && last.sectors() < LONGEST
                {
                    (first, stored) = (last.offset(), last.moffset());
                    room = LONGEST - last.sectors();
                    self.index.pop();
                }
            }
            let now = sectors.min(room);
            let longer = sector + now - first;
            // Sectors of a disk of at most 2^59 bytes, and of a file, fit their bits.
            self.index
                .extend(Segment::new(first, longer, stored, zeroed));
            sector += now;
            sectors -= now;
            place += if zeroed { 0 } else { now };
        }
    }

    /// Adds a record of `sectors` sectors from `sector`, whose data, if it has any, goes to
    /// [`Self::store`] next. It is one with the last record if they touch and have the same tag.
    pub fn segment(&mut self, sector: u64, sectors: u64, zeroed: bool, tag: u8) {
        let mut new = Segment::new(sector, sectors, self.next, zeroed);
        if let Some(last) = self.index.last().copied() {
            let stored = if zeroed { 0 } else { last.sectors() };
            if last.end() == sector
                && last.zeroed() == zeroed
                && last.tag() == tag
                && last.moffset() + stored == self.next
                && last.sectors() + sectors < JOINED
            {
                let longer = last.sectors() + sectors;
                new = Segment::new(last.offset(), longer, last.moffset(), zeroed);
                self.index.pop();
            }
        }
        // Sectors of a disk of at most 2^59 bytes, and of a file, fit their bits.
        self.index.extend(new.map(|segment| segment.with_tag(tag)));
    }

    /// Stores `bytes`, whole sectors, of the record added last.
    pub fn store(&mut self, bytes: &[u8]) -> Result<()> {
        self.contents.write(bytes);
        self.sink.write(bytes)?;
        self.next += bytes.len() as u64 / SECTOR;
        Ok(())
    }

    /// Writes index and trailer; returns the sink and the layer's name.
    ///
    /// The caller keeps [`Self::records`] at or below [`MAX_INDEX_RECORDS`].
    pub fn finish(mut self) -> Result<(S, [u8; 37])> {
        let padded = self.records().next_multiple_of(INDEX_UNIT);
        let padding = padded.min(MAX_INDEX_RECORDS.max(self.records())) - self.records();
        self.index.extend((0..padding).map(|_| Segment::PADDING));
        let mut trailer = structure(&self.identity, UUID_NONE);
        trailer.flags.set(FLAG_DATA_FILE | FLAG_SEALED);
        trailer.index_offset.set(self.next * SECTOR);
        trailer.index_size.set(self.records());
        for records in self.index.chunks(INDEX_UNIT as usize) {
            let mut page = Vec::with_capacity(4096);
            for segment in records {
                page.extend_from_slice(&segment.to_bytes());
            }
            self.contents.write(&page);
            self.sink.write(&page)?;
        }
        self.contents.write(trailer.as_bytes());
        let name = self
            .identity
            .uuid
            .unwrap_or_else(|| uuid_text(self.contents.finish_128()));
        trailer.uuid = name;
        write_page(&mut self.sink, &trailer)?;
        tie(&mut self.sink, &name)?;
        Ok((self.sink, name))
    }
}

/// Puts the trailer's name into the header of a layer, where that is not compressed: it tells the trailer
/// from one that a larger layer left behind. In a ZFile, that has done so already.
pub(super) fn tie<S: Sink>(sink: &mut S, name: &[u8; 37]) -> Result<()> {
    sink.amend(offset_of!(Header, uuid) as u64, name)
}

/// Header or trailer without flags and index.
fn structure(identity: &Identity, uuid: [u8; 37]) -> Header {
    let mut header = Header::new_zeroed();
    header.magic0 = MAGIC0;
    header.magic1 = MAGIC1;
    header.size.set(STRUCTURE_BYTES);
    header.virtual_size.set(identity.virtual_size);
    header.uuid = uuid;
    header.parent_uuid = identity.parent_uuid;
    header.version = 1;
    header.sub_version = 1;
    for (to, from) in header.user_tag.iter_mut().zip(identity.message.bytes()) {
        *to = from;
    }
    header
}

fn write_page<S: Sink>(sink: &mut S, header: &Header) -> Result<()> {
    let mut page = [0; HEADER_BYTES as usize];
    page[..header.as_bytes().len()].copy_from_slice(header.as_bytes());
    sink.write(&page)
}

/// A uuid of version 8 (made its own way) from 128 bits, upper case as upstream writes it.
fn uuid_text(bits: u128) -> [u8; 37] {
    let version = 8 << 76;
    let variant = 2 << 62;
    let bits = bits & !(0xf << 76) & !(3 << 62) | version | variant;
    let hex = format!("{bits:032X}");
    let text = format!(
        "{}-{}-{}-{}-{}\0",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    );
    let mut uuid = UUID_NONE;
    uuid.copy_from_slice(text.as_bytes());
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(write: impl FnOnce(&mut LsmtWriter<Vec<u8>>)) -> (Vec<Segment>, Vec<u8>) {
        let identity = Identity {
            virtual_size: 1 << 30,
            uuid: None,
            parent_uuid: UUID_NONE,
            message: "message".to_owned(),
        };
        let mut layer = LsmtWriter::new(Vec::new(), identity).unwrap();
        write(&mut layer);
        let index = layer.index.clone();
        let (bytes, _) = layer.finish().unwrap();
        (index, bytes)
    }

    fn segment(offset: u64, sectors: u64, moffset: u64, zeroed: bool) -> Segment {
        Segment::new(offset, sectors, moffset, zeroed).unwrap()
    }

    #[test]
    fn neighbours_become_one_record() {
        let (index, _) = records(|layer| {
            layer.data(8, &[1; 1024]).unwrap();
            layer.data(10, &[1; 512]).unwrap();
            layer.zeroed(11, 5);
            layer.zeroed(16, 1);
            layer.data(24, &[1; 512]).unwrap();
        });
        assert_eq!(
            index,
            [
                segment(8, 3, 8, false),
                segment(11, 6, 11, true),
                // The place within the page is kept.
                segment(24, 1, 16, false),
            ]
        );
    }

    #[test]
    fn long_runs_are_cut() {
        let (index, _) = records(|layer| {
            layer.zeroed(0, 10);
            layer.zeroed(10, 2 * LONGEST);
        });
        assert_eq!(
            index,
            [
                segment(0, LONGEST, 8, true),
                segment(LONGEST, LONGEST, 8, true),
                segment(2 * LONGEST, 10, 8, true),
            ]
        );
    }

    #[test]
    fn the_index_is_padded_and_the_ends_are_as_upstream_writes_them() {
        let (_, bytes) = records(|layer| layer.data(0, &[1; 512]).unwrap());
        assert_eq!(bytes.len(), 4096 + 512 + 4096 + 4096);
        let (header, trailer) = (&bytes[..4096], &bytes[bytes.len() - 4096..]);
        for (part, flags, index_offset, index_size) in
            [(header, 7u32, 0u64, 0u64), (trailer, 6, 4608, 256)]
        {
            assert_eq!(part[..8], MAGIC0);
            assert_eq!(part[24..28], 390u32.to_le_bytes());
            assert_eq!(part[28..32], flags.to_le_bytes());
            assert_eq!(part[32..40], index_offset.to_le_bytes());
            assert_eq!(part[40..48], index_size.to_le_bytes());
            assert_eq!(part[48..56], (1u64 << 30).to_le_bytes());
            assert_eq!(part[93..130], UUID_NONE);
            assert_eq!(part[132..141], *b"\x01\x01message");
            assert!(part[141..].iter().all(|&b| b == 0));
        }
        let padding = &bytes[4608 + 16..4608 + 32];
        assert_eq!(padding[..8], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 3, 0]);
        assert_eq!(padding[8..], [0; 8]);
    }
}
