// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What a disk may say: of each sector, the values that operations in progress, ended and flushed
//! leave possible.

/// What a sector holds: 0 for zeroes, else the number of the write that it is from.
pub type Value = u32;

/// A moment.
type Time = u64;

/// The end of what has not ended.
const NEVER: Time = Time::MAX;

/// A value that was put into a sector, and when.
#[derive(Clone, Copy, Debug)]
struct Put {
    value: Value,
    began: Time,
    ended: Time,
}

/// The disk that is promised.
#[derive(Clone, Debug)]
pub struct Disk {
    sectors: Vec<Vec<Put>>,
    now: Time,
}

/// An operation on the disk under way.
#[derive(Clone, Copy, Debug)]
pub struct Under {
    began: Time,
}

impl Disk {
    /// A disk that holds `values`, all of them durable.
    pub fn new(values: impl IntoIterator<Item = Value>) -> Self {
        let durable = |value| {
            vec![Put {
                value,
                began: 0,
                ended: 1,
            }]
        };
        Self {
            sectors: values.into_iter().map(durable).collect(),
            now: 1,
        }
    }

    /// Number of sectors.
    pub fn len(&self) -> u64 {
        self.sectors.len() as u64
    }

    /// Whether there are no sectors.
    pub fn is_empty(&self) -> bool {
        self.sectors.is_empty()
    }

    fn tick(&mut self) -> Time {
        self.now += 1;
        self.now
    }

    /// `sectors` begin to become what `value` says of each.
    pub fn begin(&mut self, sectors: std::ops::Range<u64>, value: impl Fn(u64) -> Value) -> Under {
        let began = self.tick();
        for sector in sectors {
            self.sectors[sector as usize].push(Put {
                value: value(sector),
                began,
                ended: NEVER,
            });
        }
        Under { began }
    }

    /// The operation has ended well.
    pub fn end(&mut self, sectors: std::ops::Range<u64>, under: Under) {
        let now = self.tick();
        for sector in sectors {
            for put in &mut self.sectors[sector as usize] {
                if put.began == under.began {
                    put.ended = now;
                }
            }
        }
    }

    /// A flush begins.
    pub fn begin_flush(&mut self) -> Under {
        Under { began: self.tick() }
    }

    /// A flush has ended well: what had ended when it began, and what is younger, is all that can be there
    /// from now on.
    pub fn end_flush(&mut self, flush: Under) {
        for puts in &mut self.sectors {
            let all = puts.clone();
            puts.retain(|put| !superseded(put, &all, flush.began));
        }
    }

    /// Whether a reader may find `value` in the sector now.
    pub fn may_read(&self, sector: u64, value: Value) -> bool {
        let puts = &self.sectors[sector as usize];
        puts.iter()
            .any(|put| put.value == value && !superseded(put, puts, self.now))
    }

    /// Whether a power cut now may leave `value` in the sector.
    pub fn may_survive(&self, sector: u64, value: Value) -> bool {
        self.sectors[sector as usize]
            .iter()
            .any(|put| put.value == value)
    }

    /// All that may be found in the sector, for messages.
    pub fn describe(&self, sector: u64) -> String {
        format!("{:?}", self.sectors[sector as usize])
    }
}

/// Whether something that ended until `time` began after `put` had ended.
fn superseded(put: &Put, puts: &[Put], time: Time) -> bool {
    puts.iter()
        .any(|other| other.ended <= time && other.ended != NEVER && put.ended <= other.began)
}
