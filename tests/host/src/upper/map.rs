// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Memory of an upper's map, on the host, and how it comes from the log.

use crate::crc::RawCrc;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use vbd_format::upper::{
    home_places, open_log, Cluster, Full, Log, Map, Region, RegionExt, Source, Space,
    REGION_SECTORS,
};
use vbd_format::{Error, ReadAt};

/// Clusters of a region.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    list: Vec<Cluster>,
    dirty: bool,
}

impl Region for Clusters {
    fn clusters(&self) -> &[Cluster] {
        &self.list
    }

    fn clusters_mut(&mut self) -> &mut [Cluster] {
        &mut self.list
    }

    fn insert(&mut self, index: usize, cluster: Cluster) -> Result<(), Full> {
        self.list.insert(index, cluster);
        Ok(())
    }

    fn note_dirty(&mut self) {
        self.dirty = true;
    }
}

/// All regions.
#[derive(Debug, Default)]
pub struct Regions(RefCell<BTreeMap<u64, Clusters>>);

impl Regions {
    /// What is said of a sector of the disk.
    pub fn source(&self, sector: u64) -> Source {
        let inside = sector % REGION_SECTORS;
        self.look(sector / REGION_SECTORS, |region| {
            let (source, until) = region.source(inside, REGION_SECTORS);
            assert!(until > inside && until <= REGION_SECTORS);
            source
        })
        .unwrap_or(Source::Below)
    }

    /// The map that a log describes, how the log ends, and where data goes next.
    pub fn load<S: ReadAt<Error = Error>>(
        log: &S,
        data_size: u64,
        room: usize,
    ) -> Result<(Self, Log, Tail), Error> {
        let mut regions: BTreeMap<u64, Clusters> = BTreeMap::new();
        let mut buf = vec![0; room * 16];
        let log = open_log(log, data_size, &RawCrc, &mut buf, |segment| {
            let mut at = segment.offset();
            while at < segment.end() {
                let number = at / REGION_SECTORS;
                let start = number * REGION_SECTORS;
                let stop = segment.end().min(start + REGION_SECTORS);
                let place = segment.moffset() + (at - segment.offset());
                let place = (!segment.zeroed()).then_some(place);
                let region = regions.entry(number).or_default();
                region
                    .replay(at - start..stop - start, place)
                    .expect("room");
                at = stop;
            }
            Ok(())
        })?;

        let all = || regions.values().flat_map(|region| &region.list);
        let mut windows: Vec<u64> = all().filter_map(Cluster::window).collect();
        let homes: BTreeSet<u64> = {
            let every = windows.clone();
            let is_home = home_places(&mut windows);
            every
                .into_iter()
                .filter(|&window| is_home(window))
                .collect()
        };
        let highest = homes.iter().max().map_or(0, |window| window + 128);
        for region in regions.values_mut() {
            region.dirty = false;
            for cluster in &mut region.list {
                if cluster
                    .window()
                    .is_some_and(|window| homes.contains(&window))
                {
                    cluster.set_home();
                }
            }
        }
        let tail = Tail::new((data_size.div_ceil(4096) * 8).max(highest.next_multiple_of(8)));
        Ok((Self(RefCell::new(regions)), log, tail))
    }
}

impl Map for Regions {
    type Region = Clusters;
    type Error = Full;

    fn look<T>(&self, region: u64, f: impl FnOnce(&Clusters) -> T) -> Option<T> {
        self.0.borrow().get(&region).map(f)
    }

    fn change<T>(
        &self,
        region: u64,
        _room: usize,
        f: impl FnOnce(&mut Clusters) -> T,
    ) -> Result<T, Full> {
        Ok(f(self.0.borrow_mut().entry(region).or_default()))
    }

    fn take_dirty(&self, after: Option<u64>) -> Option<u64> {
        let mut regions = self.0.borrow_mut();
        let from = after.map_or(0, |number| number + 1);
        let (&number, region) = regions.range_mut(from..).find(|(_, region)| region.dirty)?;
        region.dirty = false;
        Some(number)
    }
}

/// Where the data file ends, in sectors.
#[derive(Debug)]
pub struct Tail(Cell<u64>);

impl Tail {
    /// A file that ends at sector `sector`.
    pub fn new(sector: u64) -> Self {
        Self(Cell::new(sector))
    }
}

impl Space for Tail {
    fn reserve(&self, sectors: u64) -> Option<u64> {
        let place = self.0.get();
        self.0.set(place.checked_add(sectors)?);
        Some(place)
    }
}
