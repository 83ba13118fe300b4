// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The order in which a writable layer's map and files are touched.
//!
//! * A write reserves its place, stores the data, and only then shows them; a write that fails
//!   shows nothing.
//! * A record of the log is written only after what it points to is on disk.
//! * What a flush makes durable is what the map showed when the flush came by.

use super::super::checksum::Checksum;
use super::super::lsmt::{Segment, MAX_SEGMENT_SECTORS};
use super::cluster::CLUSTER_SECTORS;
use super::log::Group;
use super::map::{Full, Map, RegionExt, REGION_SECTORS};
use core::ops::Range;

/// The data file of a writable layer, and the memory of the request that is served. Sectors of the
/// file are counted from its begin.
pub trait Data {
    /// What failed.
    type Error;

    /// Stores the sectors `sectors` of the disk at sector `place` of the file and later ones: all of
    /// them, or an error.
    fn store(&mut self, place: u64, sectors: Range<u64>) -> Result<(), Self::Error>;

    /// Has `count` sectors from `place` on read as zeroes and keep their space.
    fn zero(&mut self, place: u64, count: u64) -> Result<(), Self::Error>;

    /// Gives the space of `count` sectors from `place` on back, if that can be had. They show through
    /// nothing.
    fn punch(&mut self, place: u64, count: u64);
}

/// How a writable layer's files become durable.
pub trait Commit {
    /// What failed.
    type Error;

    /// Makes all that has been stored in the data file durable.
    fn sync_data(&mut self) -> Result<(), Self::Error>;

    /// Appends records to the log.
    fn append(&mut self, records: &[Segment]) -> Result<(), Self::Error>;

    /// Makes all records durable.
    fn sync_log(&mut self) -> Result<(), Self::Error>;
}

/// Where the data file grows.
pub trait Space {
    /// Reserves `sectors` sectors of the data file that nobody else has or will have, a multiple of
    /// 4096 bytes from its begin; [`None`] if it cannot grow so far.
    fn reserve(&self, sectors: u64) -> Option<u64>;
}

/// Whether zeroes are to keep their space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroing {
    /// They are not: discards, and write-zeroes that may unmap.
    Unmap,
    /// Writing there later must not need any.
    Keep,
}

/// Writes `sectors` of the disk.
pub fn write<M, D, E>(
    map: &M,
    space: &impl Space,
    data: &mut D,
    sectors: Range<u64>,
) -> Result<(), E>
where
    M: Map<Error = E>,
    D: Data<Error = E>,
    E: From<Full>,
{
    fill(map, space, sectors, |place, part| data.store(place, part))
}

/// Makes `sectors` of the disk zeroes.
pub fn zero<M, D, E>(
    map: &M,
    space: &impl Space,
    data: &mut D,
    sectors: Range<u64>,
    zeroing: Zeroing,
) -> Result<(), E>
where
    M: Map<Error = E>,
    D: Data<Error = E>,
    E: From<Full>,
{
    if zeroing == Zeroing::Keep {
        return fill(map, space, sectors, |place, part| {
            data.zero(place, part.end.saturating_sub(part.start))
        });
    }
    let mut at = sectors.start;
    while at < sectors.end {
        let (region, start, end) = region_of(at, sectors.end);
        let span = map.change(region, 1, |region| {
            region.own_zeroes(at.saturating_sub(start), end.saturating_sub(start))
        })??;
        // Zeroes already, whatever becomes of the file's space.
        if let Some((place, count)) = span.freed {
            data.punch(place, count);
        }
        at = start.saturating_add(span.until);
    }
    Ok(())
}

/// Finds the place of all `sectors`, has `store` fill it, and shows what is there.
fn fill<M, E>(
    map: &M,
    space: &impl Space,
    sectors: Range<u64>,
    mut store: impl FnMut(u64, Range<u64>) -> Result<(), E>,
) -> Result<(), E>
where
    M: Map<Error = E>,
    E: From<Full>,
{
    let mut at = sectors.start;
    while at < sectors.end {
        let (region, start, end) = region_of(at, sectors.end);
        let target = map.change(region, 1, |region| {
            region.target(at.saturating_sub(start), end.saturating_sub(start), || {
                space.reserve(CLUSTER_SECTORS)
            })
        })??;
        let until = start.saturating_add(target.until);
        store(target.place, at..until)?;
        // Sectors that were data there are left to who has made something else of them meanwhile: what was
        // stored may be gone by now, and is older.
        if !target.owned {
            let shown = at.saturating_sub(start)..target.until;
            map.change(region, 0, |region| region.own_data(&shown, target.place))?
                .then_some(())
                .ok_or(Full)?;
        }
        at = until;
    }
    Ok(())
}

/// Makes everything durable that the map shows: data first, then the records that point to them.
///
/// What is appended is a group of the log, `group`. `buffer` holds records on their way; it has room for
/// those of a cluster at least, 128. With less, [`Full`].
pub fn flush<M, C, E>(
    map: &M,
    files: &mut C,
    group: &mut Group,
    checksum: &impl Checksum,
    buffer: &mut [Segment],
) -> Result<(), E>
where
    M: Map<Error = E>,
    C: Commit<Error = E>,
    E: From<Full>,
{
    if (buffer.len() as u64) < CLUSTER_SECTORS {
        return Err(Full.into());
    }
    let mut records = Records { buffer, len: 0 };
    let mut appended = false;
    let mut last = None;
    while let Some(number) = map.take_dirty(last) {
        last = Some(number);
        let start = number.saturating_mul(REGION_SECTORS);
        while !map.change(number, 0, |region| {
            region.records(start, |segment| records.push(segment))
        })? {
            files.sync_data()?;
            let some = records.take();
            count(group, checksum, some);
            files.append(some)?;
            appended = true;
        }
    }
    files.sync_data()?;
    let rest = records.take();
    if appended || !rest.is_empty() {
        count(group, checksum, rest);
        files.append(rest)?;
        files.append(&[group.close()])?;
        files.sync_log()?;
    }
    Ok(())
}

fn count(group: &mut Group, checksum: &impl Checksum, records: &[Segment]) {
    for record in records {
        group.add(checksum, &record.to_bytes());
    }
}

/// Records that wait for their data.
struct Records<'a> {
    buffer: &'a mut [Segment],
    len: usize,
}

impl Records<'_> {
    /// Takes a record, joined with the one before it where both are one run.
    fn push(&mut self, segment: Segment) -> bool {
        let last = self
            .len
            .checked_sub(1)
            .and_then(|at| self.buffer.get_mut(at));
        if let Some(last) = last {
            if let Some(joined) = join(*last, segment) {
                *last = joined;
                return true;
            }
        }
        match self.buffer.get_mut(self.len) {
            Some(free) => {
                *free = segment;
                self.len = self.len.saturating_add(1);
                true
            }
            None => false,
        }
    }

    fn take(&mut self) -> &[Segment] {
        let len = core::mem::take(&mut self.len);
        self.buffer.get(..len).unwrap_or_default()
    }
}

/// Two records as one, if the second goes on where the first ends.
fn join(first: Segment, second: Segment) -> Option<Segment> {
    let sectors = first.sectors().saturating_add(second.sectors());
    let data_goes_on = first.moffset().saturating_add(first.sectors()) == second.moffset();
    let goes_on = first.end() == second.offset()
        && first.zeroed() == second.zeroed()
        && (first.zeroed() || data_goes_on);
    if !goes_on || sectors > MAX_SEGMENT_SECTORS {
        return None;
    }
    Segment::new(first.offset(), sectors, first.moffset(), first.zeroed())
}

/// The region in which `sector` lies, its first sector, and where it or the range up to `end` ends.
fn region_of(sector: u64, end: u64) -> (u64, u64, u64) {
    let number = sector / REGION_SECTORS;
    let start = number.saturating_mul(REGION_SECTORS);
    (number, start, end.min(start.saturating_add(REGION_SECTORS)))
}
