// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The map of an upper: regions of the disk, each with the clusters that were touched.
//!
//! Sectors are counted from the region's begin here, and ranges do not leave it.

use super::super::limits::SECTOR;
use super::super::lsmt::{Segment, HEADER_BYTES};
use super::cluster::{Cluster, Source, CLUSTER_SECTORS};
use core::ops::Range;

/// Clusters of a region.
pub const REGION_CLUSTERS: u64 = 32;

/// Sectors of a region: 2 MiB.
pub const REGION_SECTORS: u64 = REGION_CLUSTERS * CLUSTER_SECTORS;

/// Sector of the data file that a zeroed record names: nothing is read there, but readers check it.
const NO_PLACE: u64 = HEADER_BYTES / SECTOR;

/// There is no room for another cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// First sector of the data file.
    pub place: u64,
    /// Whether the sectors are data there already, so that nothing is to be noted when they are written.
    pub owned: bool,
    /// Sector of the region up to which that holds.
    pub until: u64,
}

/// What a run of sectors was before it became zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where data lay that nothing shows any more, as sectors of the data file.
    pub freed: Option<(u64, u64)>,
    /// Sector of the region up to which the run goes.
    pub until: u64,
}

/// The clusters of a region, sorted by number.
///
/// Memory is the implementer's, and so are locks: who has a region by `&mut` is alone with it.
pub trait Region {
    /// All clusters.
    fn clusters(&self) -> &[Cluster];

    /// All clusters, to be changed but not to be put in another order.
    fn clusters_mut(&mut self) -> &mut [Cluster];

    /// Puts a cluster before the one at `index`; allocates nothing.
    fn insert(&mut self, index: usize, cluster: Cluster) -> Result<(), Full>;

    /// A cluster's state is not in the log any more.
    fn note_dirty(&mut self);
}

/// What can be asked of every region and done to it.
pub trait RegionExt: Region {
    /// Indexes of the places of cluster `number`.
    fn places(&self, number: u64) -> Range<usize> {
        let clusters = self.clusters();
        let begin = clusters.partition_point(|cluster| cluster.number() < number);
        let count = clusters
            .iter()
            .skip(begin)
            .take_while(|cluster| cluster.number() == number)
            .count();
        begin..begin.saturating_add(count)
    }

    /// What is said of sector `sector`, and up to which sector that is so, at most `end`.
    fn source(&self, sector: u64, end: u64) -> (Source, u64) {
        let number = sector / CLUSTER_SECTORS;
        let places = self.places(number);
        let next = self.clusters().get(places.end);
        let here = self.clusters().get(places).unwrap_or_default();
        if here.is_empty() {
            let next = next.map_or(end, |cluster| begin_of(cluster.number()));
            return (Source::Below, next.min(end));
        }
        let begin = begin_of(number);
        let mut until = end;
        for cluster in here {
            let inside = sector.saturating_sub(begin)..end.saturating_sub(begin);
            let (source, stop) = cluster.source(inside.start, inside.end);
            until = until.min(begin.saturating_add(stop));
            if source != Source::Below {
                return (source, begin.saturating_add(stop));
            }
        }
        (Source::Below, until)
    }

    /// Where to write sector `sector` and those after it up to `end`; `reserve` gives the window of a
    /// cluster that has none yet, or nothing if the file cannot grow.
    fn target(
        &mut self,
        sector: u64,
        end: u64,
        reserve: impl FnOnce() -> Option<u64>,
    ) -> Result<Target, Full> {
        let number = sector / CLUSTER_SECTORS;
        let begin = begin_of(number);
        let end = end.min(begin.saturating_add(CLUSTER_SECTORS));
        let (source, mut until) = self.source(sector, end);
        if let Source::Data(place) = source {
            return Ok(Target {
                place,
                owned: true,
                until,
            });
        }
        while until < end {
            match self.source(until, end) {
                (Source::Data(_), _) => break,
                (_, stop) => until = stop,
            }
        }
        let home = self.home(number, reserve)?;
        let place = home.place_of(sector.saturating_sub(begin)).ok_or(Full)?;
        Ok(Target {
            place,
            owned: false,
            until,
        })
    }

    /// The place of cluster `number` for sectors that it does not own yet.
    fn home(
        &mut self,
        number: u64,
        reserve: impl FnOnce() -> Option<u64>,
    ) -> Result<Cluster, Full> {
        let places = self.places(number);
        let here = self
            .clusters_mut()
            .get_mut(places.clone())
            .unwrap_or_default();
        if let Some(home) = here.iter().find(|cluster| cluster.is_home()) {
            return Ok(*home);
        }
        if let Some(empty) = here.iter_mut().find(|cluster| !cluster.has_place()) {
            empty.settle(reserve().ok_or(Full)?);
            return Ok(*empty);
        }
        let home = Cluster::home(number, reserve().ok_or(Full)?);
        self.insert(places.end, home)?;
        Ok(home)
    }

    /// The sectors, which lie in one cluster, are data from now on, the first one at `place`.
    ///
    /// False if the cluster has no such place.
    fn own_data(&mut self, sectors: &Range<u64>, place: u64) -> bool {
        let (number, inside) = in_cluster(sectors);
        let places = self.places(number);
        let here = self.clusters_mut().get_mut(places).unwrap_or_default();
        let is_place = |cluster: &Cluster| cluster.place_of(inside.start) == Some(place);
        let Some(owner) = here.iter().position(is_place) else {
            return false;
        };
        self.own(number, owner, |cluster| cluster.own_data(&inside), &inside);
        true
    }

    /// Makes `sector` and those after it zeroes, as far as they have been the same so far and lie in one
    /// cluster, at most up to `end`.
    fn own_zeroes(&mut self, sector: u64, end: u64) -> Result<Span, Full> {
        let number = sector / CLUSTER_SECTORS;
        let begin = begin_of(number);
        let end = end.min(begin.saturating_add(CLUSTER_SECTORS));
        let (source, until) = self.source(sector, end);
        let freed = match source {
            Source::Zeroed => return Ok(Span { freed: None, until }),
            Source::Data(place) => Some((place, until.saturating_sub(sector))),
            Source::Below => None,
        };
        let places = self.places(number);
        if places.is_empty() {
            self.insert(places.start, Cluster::empty(number))?;
        }
        let (_, inside) = in_cluster(&(sector..until));
        self.own(number, 0, |cluster| cluster.own_zeroes(&inside), &inside);
        Ok(Span { freed, until })
    }

    /// Changes the `owner`th place of cluster `number`, and takes the sectors from the others.
    fn own(
        &mut self,
        number: u64,
        owner: usize,
        change: impl FnOnce(&mut Cluster),
        inside: &Range<u64>,
    ) {
        let places = self.places(number);
        let here = self.clusters_mut().get_mut(places).unwrap_or_default();
        let mut dirty = false;
        let mut change = Some(change);
        for (index, cluster) in here.iter_mut().enumerate() {
            if index != owner {
                cluster.disown(inside);
            } else if let Some(change) = change.take() {
                change(cluster);
                dirty = cluster.is_dirty();
            }
        }
        if dirty {
            self.note_dirty();
        }
    }

    /// Hands the records of all dirty clusters to `sink`, which says whether it has taken one; they are
    /// clean then. `start` is the region's first sector on the disk.
    ///
    /// False if `sink` did not take all; a cluster of which it took a part stays dirty.
    fn records(&mut self, start: u64, mut sink: impl FnMut(Segment) -> bool) -> bool {
        for cluster in self.clusters_mut() {
            if cluster.is_dirty() {
                if !all_records(cluster, start, &mut sink) {
                    return false;
                }
                cluster.set_clean();
            }
        }
        true
    }

    /// Takes a record of the log up: `sectors` are data from `place` on, or zeroes without one. The log has
    /// the state, so nothing is dirty afterwards.
    ///
    /// Needs room for a cluster for each that the sectors touch.
    fn replay(&mut self, mut sectors: Range<u64>, mut place: Option<u64>) -> Result<(), Full> {
        while sectors.start < sectors.end {
            let number = sectors.start / CLUSTER_SECTORS;
            let stop = begin_of(number)
                .saturating_add(CLUSTER_SECTORS)
                .min(sectors.end);
            let part = sectors.start..stop;
            match place {
                Some(at) => {
                    if !self.own_data(&part, at) {
                        let (_, inside) = in_cluster(&part);
                        let index = self.places(number).end;
                        self.insert(index, Cluster::placed(number, inside.start, at))?;
                        self.own_data(&part, at);
                    }
                    place = Some(at.saturating_add(stop.saturating_sub(part.start)));
                }
                None => {
                    let mut at = part.start;
                    while at < part.end {
                        at = self.own_zeroes(at, part.end)?.until;
                    }
                }
            }
            sectors.start = stop;
        }
        for cluster in self.clusters_mut() {
            cluster.set_clean();
        }
        Ok(())
    }
}

impl<R: Region + ?Sized> RegionExt for R {}

/// All regions of an upper.
pub trait Map {
    /// A region.
    type Region: Region;

    /// Why there is no memory.
    type Error;

    /// Shows a region; [`None`] if nothing in it was ever touched.
    fn look<T>(&self, region: u64, f: impl FnOnce(&Self::Region) -> T) -> Option<T>;

    /// Changes a region, alone, after seeing to it that there is room for `room` more clusters.
    fn change<T>(
        &self,
        region: u64,
        room: usize,
        f: impl FnOnce(&mut Self::Region) -> T,
    ) -> Result<T, Self::Error>;

    /// The dirty region that comes after region `after`, or first, in an order of the implementer's; it is
    /// not dirty any more, unless it becomes so again.
    fn take_dirty(&self, after: Option<u64>) -> Option<u64>;
}

/// Which windows of the data file belong to one cluster alone, so that sectors which it does not own
/// yet can be written there. `windows` has that of each place there is, as [`Cluster::window`] says.
pub fn home_places(windows: &mut [u64]) -> impl Fn(u64) -> bool + '_ {
    sort(windows);
    let windows = &*windows;
    move |window| {
        let first =
            windows.partition_point(|&other| other.saturating_add(CLUSTER_SECTORS) <= window);
        let near = windows
            .iter()
            .skip(first)
            .take_while(|&&other| other < window.saturating_add(CLUSTER_SECTORS));
        window >= NO_PLACE && near.count() == 1
    }
}

/// Sorts in place, as a heap: what `core` has panics in ways that the kernel's checker of machine code does
/// not know.
fn sort(list: &mut [u64]) {
    for root in (0..list.len() / 2).rev() {
        sift(list, root);
    }
    let mut rest = list;
    while let Some(last) = rest.len().checked_sub(1) {
        rest.swap(0, last);
        rest = rest.get_mut(..last).unwrap_or_default();
        sift(rest, 0);
    }
}

/// Moves the element at `root` down until none below it is larger.
fn sift(heap: &mut [u64], mut root: usize) {
    loop {
        let child = root.saturating_mul(2).saturating_add(1);
        let other = child.saturating_add(1);
        let largest = if heap.get(other) > heap.get(child) {
            other
        } else {
            child
        };
        if heap.get(largest) <= heap.get(root) {
            return;
        }
        heap.swap(root, largest);
        root = largest;
    }
}

/// First sector of cluster `number`.
fn begin_of(number: u64) -> u64 {
    number.saturating_mul(CLUSTER_SECTORS)
}

/// The cluster in which sectors lie, and the same sectors counted from its begin.
fn in_cluster(sectors: &Range<u64>) -> (u64, Range<u64>) {
    let number = sectors.start / CLUSTER_SECTORS;
    let begin = begin_of(number);
    let inside = sectors.start.saturating_sub(begin)..sectors.end.saturating_sub(begin);
    (number, inside)
}

fn all_records(cluster: &Cluster, start: u64, sink: &mut impl FnMut(Segment) -> bool) -> bool {
    let begin = start.saturating_add(begin_of(cluster.number()));
    let mut at = 0;
    while at < CLUSTER_SECTORS {
        let (source, until) = cluster.source(at, CLUSTER_SECTORS);
        let (place, zeroed) = match source {
            Source::Below => (None, false),
            Source::Zeroed => (Some(NO_PLACE), true),
            Source::Data(place) => (Some(place), false),
        };
        if let Some(place) = place {
            let offset = begin.saturating_add(at);
            let taken = Segment::new(offset, until.saturating_sub(at), place, zeroed)
                .is_some_and(&mut *sink);
            if !taken {
                return false;
            }
        }
        at = until;
    }
    true
}
