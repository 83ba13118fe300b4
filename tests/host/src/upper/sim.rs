// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Operations on an upper, one inside another, with power cuts between any two steps.

use super::disk::{Disk, Value};
use super::map::{Regions, Tail};
use super::store::Store;
use crate::crc::RawCrc;
use crate::lsmt::{Record, Spec, PADDING};
use crate::mem::Mem;
use crate::rng::Rng;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use vbd_format::lsmt::Segment;
use vbd_format::upper::{
    flush, write, zero, Commit, Data, Full, Group, Log, Source, Space, Zeroing,
};

/// Bytes of a sector and of a header.
const SECTOR: u64 = 512;
const HEADER: u64 = 4096;

/// Records of a sector of the log.
const RECORDS: u64 = SECTOR / 16;

/// A rule that is broken on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// None is.
    Nothing,
    /// Records reach the log before the data that they point to is on disk.
    RecordsFirst,
    /// A flush does not sync the log.
    LogUnsynced,
    /// A flush does not sync data.
    DataUnsynced,
    /// The first sync fails and the next one is believed.
    FailedSyncForgotten,
    /// After a power cut the log goes on behind what was left out.
    LogNotCut,
    /// A place is given to two clusters.
    PlaceTwice,
    /// The data file goes on inside of a window that is reserved.
    TailInWindow,
    /// Data is stored after its write has ended.
    StoredLate,
}

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sectors of the disk.
    pub sectors: u64,
    /// Operations.
    pub operations: u32,
    /// Operations that run inside of one another, at most.
    pub depth: u32,
    /// Power cuts that are tried at each step.
    pub cuts: u32,
}

/// An operation on a sector, or a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A write of one sector.
    Write(u64),
    /// A discard of one sector.
    Discard(u64),
    /// Zeroes that keep their space, in one sector.
    Zeroes(u64),
    /// A flush.
    Flush,
}

/// An upper under test.
pub struct Sim {
    limits: Limits,
    broken: Break,
    rng: RefCell<Rng>,
    disk: RefCell<Disk>,
    data: RefCell<Store<Value>>,
    /// The log in sectors of 32 records, without its header.
    log: RefCell<Store<Vec<[u8; 16]>>>,
    map: RefCell<std::rc::Rc<Regions>>,
    tail: RefCell<std::rc::Rc<Tail>>,
    group: Cell<Group>,
    flushing: Cell<bool>,
    late: RefCell<Vec<(u64, Value)>>,
    depth: Cell<u32>,
    left: Cell<u32>,
    writes: Cell<Value>,
    failed: Cell<bool>,
    /// The power is away; nothing reaches the files.
    off: Cell<bool>,
    /// Whether each step tries all power cuts there can be, and nothing comes in between.
    all_cuts: Cell<bool>,
    tried: Cell<u64>,
    wrong: RefCell<Option<String>>,
}

/// What lies below the upper: a value that no write has.
fn below(sector: u64) -> Value {
    1_000_000 + sector as Value
}

/// An upper after a power cut.
struct Recovered {
    map: Regions,
    tail: Tail,
    log: Log,
}

impl Sim {
    /// A new upper over a disk of which every sector holds something.
    pub fn new(limits: Limits, seed: u64, broken: Break) -> Self {
        Self {
            limits,
            broken,
            rng: RefCell::new(Rng(seed)),
            disk: RefCell::new(Disk::new((0..limits.sectors).map(below))),
            data: RefCell::new(Store::new(HEADER)),
            log: RefCell::new(Store::new(0)),
            map: RefCell::default(),
            tail: RefCell::new(std::rc::Rc::new(Tail::new(HEADER / SECTOR))),
            group: Cell::default(),
            flushing: Cell::new(false),
            late: RefCell::default(),
            depth: Cell::new(0),
            left: Cell::new(limits.operations),
            writes: Cell::new(0),
            failed: Cell::new(false),
            off: Cell::new(false),
            all_cuts: Cell::new(false),
            tried: Cell::new(0),
            wrong: RefCell::new(None),
        }
    }

    /// A pair that somebody else has written, record after record at the data file's end, over the same
    /// disk; some of its records are zeroed, and padding stands between them.
    pub fn continued(limits: Limits, seed: u64, broken: Break) -> Self {
        let sim = Self::new(limits, seed, broken);
        let mut values: Vec<Value> = (0..limits.sectors).map(below).collect();
        let mut records = Vec::new();
        let mut place = HEADER / SECTOR;
        for number in 0..30 {
            let sectors = sim.sectors();
            let value = 2_000_000 + number;
            let zeroed = sim.chance(4);
            if sim.chance(5) {
                records.push(PADDING);
            }
            let len = sectors.end - sectors.start;
            records.push(match zeroed {
                true => Record::zero(sectors.start, len, place).bytes(),
                false => Record::data(sectors.start, len, place).bytes(),
            });
            for sector in sectors {
                values[sector as usize] = if zeroed { 0 } else { value };
                if !zeroed {
                    let end = (place + 1) * SECTOR;
                    sim.data.borrow_mut().put(place, value, end);
                    place += 1;
                }
            }
        }
        sim.append(&records);
        sim.data.borrow_mut().sync();
        sim.log.borrow_mut().sync();
        *sim.disk.borrow_mut() = Disk::new(values);
        sim.reattach();
        sim
    }

    fn append(&self, records: &[[u8; 16]]) {
        let mut log = self.log.borrow_mut();
        for record in records {
            let at = log.size() / 16;
            let (unit, inside) = (at / RECORDS, at % RECORDS);
            let mut sector = log.get(unit);
            sector.resize(inside as usize, [0; 16]);
            sector.push(*record);
            log.put(unit, sector, (at + 1) * 16);
        }
    }

    /// Runs it; how many power cuts were tried, or the first thing that was wrong.
    pub fn run(&self) -> Result<u64, String> {
        while self.left.get() > 0 && self.wrong.borrow().is_none() {
            self.operation();
            if self.off.replace(false) {
                self.reattach();
            }
            self.look_at_all();
        }
        match self.wrong.borrow().clone() {
            None => Ok(self.tried.get()),
            Some(wrong) => Err(wrong),
        }
    }

    /// Runs `ops`, one after the other, and tries every power cut there can be at each step; how many there
    /// were.
    pub fn exhaust(&self, ops: &[Op]) -> Result<u64, String> {
        self.all_cuts.set(true);
        for &op in ops {
            match op {
                Op::Write(sector) => self.change(sector..sector + 1, None),
                Op::Discard(sector) => self.change(sector..sector + 1, Some(Zeroing::Unmap)),
                Op::Zeroes(sector) => self.change(sector..sector + 1, Some(Zeroing::Keep)),
                Op::Flush => self.flush(),
            }
            self.look_at_all();
        }
        match self.wrong.borrow().clone() {
            None => Ok(self.tried.get()),
            Some(wrong) => Err(wrong),
        }
    }

    fn chance(&self, in_so_many: u64) -> bool {
        self.rng.borrow_mut().below(in_so_many) == 0
    }

    fn complain(&self, what: String) {
        self.wrong.borrow_mut().get_or_insert(what);
    }

    /// Some sectors of the disk, in sizes and at places that matter.
    fn sectors(&self) -> Range<u64> {
        let mut rng = self.rng.borrow_mut();
        let sectors = self.limits.sectors;
        let unit = rng.pick(&[1, 1, 8, 8, 8, 128]);
        let start = rng.below(sectors.div_ceil(unit)) * unit;
        let most = rng.pick(&[1, 3, 20]);
        let len = unit * (1 + rng.below(most));
        start..(start + len).min(sectors)
    }

    /// Lets something happen before a file is touched; an error if the power is away.
    fn powered(&self) -> Result<(), Full> {
        self.step();
        if self.off.get() {
            return Err(Full);
        }
        Ok(())
    }

    fn operation(&self) {
        self.left.set(self.left.get().saturating_sub(1));
        let kind = self.rng.borrow_mut().below(10);
        let sectors = self.sectors();
        match kind {
            0..=5 => self.change(sectors, None),
            6 => self.change(sectors, Some(Zeroing::Unmap)),
            7 => self.change(sectors, Some(Zeroing::Keep)),
            _ => self.flush(),
        }
    }

    /// A write, or zeroes.
    fn change(&self, sectors: Range<u64>, zeroing: Option<Zeroing>) {
        let number = self.writes.get() + 1;
        self.writes.set(number);
        let value = move |_sector: u64| if zeroing.is_some() { 0 } else { number };
        let under = self.disk.borrow_mut().begin(sectors.clone(), value);
        let (map, tail) = (self.map.borrow().clone(), self.tail.borrow().clone());
        let mut io = Io {
            sim: self,
            value: number,
        };
        let space = Growing {
            sim: self,
            tail: &tail,
        };
        let done = match zeroing {
            Some(zeroing) => zero(&*map, &space, &mut io, sectors.clone(), zeroing),
            None => write(&*map, &space, &mut io, sectors.clone()),
        };
        if done.is_ok() && !self.off.get() {
            self.disk.borrow_mut().end(sectors, under);
        }
        let late = self.late.take();
        if self.off.get() {
            return;
        }
        for (place, value) in late {
            self.data
                .borrow_mut()
                .put(place, value, (place + 1) * SECTOR);
        }
        self.step();
    }

    /// A flush, of which one is under way at most, as with one hardware queue.
    fn flush(&self) {
        if self.flushing.replace(true) {
            return;
        }
        let under = self.disk.borrow_mut().begin_flush();
        let map = self.map.borrow().clone();
        let mut io = Io {
            sim: self,
            value: 0,
        };
        let mut buffer = vec![Segment::default(); 128 + self.rng.borrow_mut().below(64) as usize];
        let mut group = self.group.get();
        let done = flush(&*map, &mut io, &mut group, &RawCrc, &mut buffer);
        self.group.set(group);
        if done.is_ok() && !self.off.get() {
            self.disk.borrow_mut().end_flush(under);
        }
        self.flushing.set(false);
        self.step();
    }

    /// Something has happened: another operation may come in between, or the power may go.
    fn step(&self) {
        if self.wrong.borrow().is_some() || self.off.get() {
            return;
        }
        if self.all_cuts.get() {
            return self.every_cut();
        }
        if self.chance(150) {
            return self.off.set(true);
        }
        for _ in 0..self.limits.cuts {
            self.cut();
        }
        if self.left.get() > 0 && self.depth.get() < self.limits.depth && self.chance(6) {
            self.depth.set(self.depth.get() + 1);
            self.operation();
            self.depth.set(self.depth.get() - 1);
        }
    }

    /// One bit of the log is wrong, in a group that was on disk before another: what attaching says.
    pub fn damaged(&self) -> Option<Result<u64, String>> {
        let mut log = self.log.borrow().clone();
        log.sync();
        let records = log.size() / 16;
        let marker = |at: u64| {
            let record = log.get(at / RECORDS)[(at % RECORDS) as usize];
            record[..8] == PADDING[..8] && record[8..12] != [0; 4]
        };
        let markers: Vec<u64> = (0..records).filter(|&at| marker(at)).collect();
        let [.., older, _] = markers[..] else {
            return None;
        };
        let mut rng = self.rng.borrow_mut();
        let at = rng.below(older + 1);
        let mut sector = log.get(at / RECORDS);
        sector[(at % RECORDS) as usize][rng.below(16) as usize] ^= 1 << rng.below(8);
        log.put(at / RECORDS, sector, 0);
        let recovered = self.recover(&self.data.borrow(), &log);
        Some(recovered.map(|recovered| recovered.log.end))
    }

    /// What the upper says of each sector now.
    fn look_at_all(&self) {
        let (map, data, disk) = (self.map.borrow(), self.data.borrow(), self.disk.borrow());
        for sector in 0..self.limits.sectors {
            let value = value_of(map.source(sector), sector, &data);
            if !disk.may_read(sector, value) {
                let may = disk.describe(sector);
                self.complain(format!("sector {sector} reads {value}: {may}"));
            }
        }
    }

    fn every_cut(&self) {
        let (data, logs) = (self.data.borrow().crashes(), self.log.borrow().crashes());
        for data in &data {
            for log in &logs {
                self.tried.set(self.tried.get() + 1);
                match self.recover(data, log) {
                    Err(error) => self.complain(format!("not attached: {error}")),
                    Ok(recovered) => self.compare(&recovered, data),
                }
            }
        }
    }

    /// The power goes and comes back; the run does not notice.
    fn cut(&self) {
        self.tried.set(self.tried.get() + 1);
        let (data, log) = self.cut_files();
        match self.recover(&data, &log) {
            Err(error) => self.complain(format!("not attached: {error}")),
            Ok(recovered) => self.compare(&recovered, &data),
        }
    }

    fn cut_files(&self) -> (Store<Value>, Store<Vec<[u8; 16]>>) {
        let mut rng = self.rng.borrow_mut();
        let kind = rng.word();
        let data = self.data.borrow().crash(&mut rng, kind);
        let log = self.log.borrow().crash(&mut rng, kind >> 8);
        (data, log)
    }

    fn compare(&self, recovered: &Recovered, data: &Store<Value>) {
        let disk = self.disk.borrow();
        for sector in 0..self.limits.sectors {
            let value = value_of(recovered.map.source(sector), sector, data);
            if !disk.may_survive(sector, value) {
                let may = disk.describe(sector);
                let end = recovered.log.how;
                self.complain(format!(
                    "sector {sector} is {value} after a power cut ({end:?}): {may}"
                ));
            }
        }
    }

    /// Attaches what a power cut left, as the driver does.
    fn recover(
        &self,
        data: &Store<Value>,
        log: &Store<Vec<[u8; 16]>>,
    ) -> Result<Recovered, String> {
        let mut spec = Spec::new(self.limits.sectors * SECTOR, Vec::new(), &[]);
        spec.records.clear();
        let mut file = spec.structure(0x01, Some(HEADER));
        for unit in 0..log.size().div_ceil(SECTOR) {
            let mut sector = log.get(unit);
            sector.resize(RECORDS as usize, [0; 16]);
            file.extend(sector.iter().flatten());
        }
        file.truncate((HEADER + log.size()) as usize);
        let file = Mem(file);
        let (map, log, tail) =
            Regions::load(&file, data.size(), 7).map_err(|error| error.to_string())?;
        let tail = match self.broken {
            Break::TailInWindow => Tail::new(data.size().div_ceil(HEADER) * 8),
            _ => tail,
        };
        Ok(Recovered { map, tail, log })
    }

    /// The power goes, and the run goes on with what is left.
    fn reattach(&self) {
        let (data, mut log) = self.cut_files();
        let recovered = match self.recover(&data, &log) {
            Ok(recovered) => recovered,
            Err(error) => return self.complain(format!("not attached: {error}")),
        };
        self.compare(&recovered, &data);
        if self.broken != Break::LogNotCut {
            cut_log(&mut log, (recovered.log.end - HEADER) / 16);
        }
        let values = (0..self.limits.sectors)
            .map(|sector| value_of(recovered.map.source(sector), sector, &data));
        *self.disk.borrow_mut() = Disk::new(values);
        *self.data.borrow_mut() = data;
        *self.log.borrow_mut() = log;
        *self.map.borrow_mut() = recovered.map.into();
        *self.tail.borrow_mut() = recovered.tail.into();
        self.group.set(recovered.log.group);
        self.failed.set(false);
    }
}

/// Leaves the log's first `records` records.
fn cut_log(log: &mut Store<Vec<[u8; 16]>>, records: u64) {
    log.truncate(records * 16, SECTOR);
    let (unit, rest) = (records / RECORDS, records % RECORDS);
    if rest != 0 {
        let mut sector = log.get(unit);
        sector.resize(rest as usize, [0; 16]);
        log.put(unit, sector, records * 16);
    }
    log.sync();
}

fn value_of(source: Source, sector: u64, data: &Store<Value>) -> Value {
    match source {
        Source::Below => below(sector),
        Source::Zeroed => 0,
        Source::Data(place) if (place + 1) * SECTOR <= data.size() => data.get(place),
        // Past the end of the file; reading there would fail.
        Source::Data(place) => panic!("sector {sector} at {place}, past {}", data.size()),
    }
}

/// The files as one operation has them.
struct Io<'a> {
    sim: &'a Sim,
    value: Value,
}

impl Data for Io<'_> {
    type Error = Full;

    fn store(&mut self, place: u64, sectors: Range<u64>) -> Result<(), Full> {
        let sim = self.sim;
        sim.powered()?;
        // Sectors arrive one by one.
        for number in 0..sectors.end - sectors.start {
            let at = place + number;
            if sim.broken == Break::StoredLate {
                sim.late.borrow_mut().push((at, self.value));
                let end = (at + 1) * SECTOR;
                let old = sim.data.borrow().get(at);
                sim.data.borrow_mut().put(at, old, end);
            } else {
                let end = (at + 1) * SECTOR;
                sim.data.borrow_mut().put(at, self.value, end);
            }
        }
        sim.step();
        Ok(())
    }

    fn zero(&mut self, place: u64, count: u64) -> Result<(), Full> {
        self.sim.powered()?;
        for at in place..place + count {
            let end = (at + 1) * SECTOR;
            self.sim.data.borrow_mut().put(at, 0, end);
        }
        self.sim.step();
        Ok(())
    }

    fn punch(&mut self, place: u64, count: u64) {
        if self.sim.powered().is_err() {
            return;
        }
        for at in place..place + count {
            self.sim.data.borrow_mut().put(at, 0, 0);
        }
        self.sim.step();
    }
}

impl Commit for Io<'_> {
    type Error = Full;

    fn sync_data(&mut self) -> Result<(), Full> {
        let sim = self.sim;
        sim.powered()?;
        match sim.broken {
            Break::DataUnsynced | Break::RecordsFirst => {}
            Break::FailedSyncForgotten if !sim.failed.replace(true) => {}
            _ => sim.data.borrow_mut().sync(),
        }
        sim.step();
        Ok(())
    }

    fn append(&mut self, records: &[Segment]) -> Result<(), Full> {
        let sim = self.sim;
        sim.powered()?;
        let records: Vec<_> = records.iter().map(|record| record.to_bytes()).collect();
        sim.append(&records);
        sim.step();
        if sim.broken == Break::RecordsFirst {
            sim.data.borrow_mut().sync();
        }
        Ok(())
    }

    fn sync_log(&mut self) -> Result<(), Full> {
        let sim = self.sim;
        sim.powered()?;
        if sim.broken != Break::LogUnsynced {
            sim.log.borrow_mut().sync();
        }
        sim.step();
        Ok(())
    }
}

/// The end of the data file as one operation has it.
struct Growing<'a> {
    sim: &'a Sim,
    tail: &'a Tail,
}

impl Space for Growing<'_> {
    fn reserve(&self, sectors: u64) -> Option<u64> {
        match self.sim.broken {
            Break::PlaceTwice if self.sim.chance(3) => {
                let place = self.tail.reserve(0)?;
                Some(place.saturating_sub(sectors).max(HEADER / SECTOR))
            }
            _ => self.tail.reserve(sectors),
        }
    }
}
