// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The flat model: what each sector of a disk is, one by one.

use crate::lsmt::Record;

/// What a sector reads as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cell {
    /// No layer has it.
    #[default]
    Hole,
    /// This layer says zeroes.
    Zero(u8),
    /// This layer stores it, at this sector of its LSMT bytes.
    Data(u8, u64),
}

/// Some sectors of a disk, from `base` on.
#[derive(Clone, Debug)]
pub struct Flat {
    /// First sector.
    pub base: u64,
    /// One cell a sector.
    pub cells: Vec<Cell>,
}

impl Flat {
    /// A disk of holes.
    pub fn new(base: u64, sectors: usize) -> Self {
        Self {
            base,
            cells: vec![Cell::Hole; sectors],
        }
    }

    /// Puts the records of `layer` over what is there; sectors outside the model are left out.
    pub fn apply(&mut self, layer: u8, records: &[Record]) {
        for record in records {
            for i in 0..record.len {
                let sector = record.offset + i;
                let Some(slot) = sector.checked_sub(self.base) else {
                    continue;
                };
                if let Some(cell) = self.cells.get_mut(slot as usize) {
                    *cell = if record.zeroed {
                        Cell::Zero(layer)
                    } else {
                        Cell::Data(layer, record.moffset + i)
                    };
                }
            }
        }
    }

    /// The cell of a sector; past the model there are holes.
    pub fn at(&self, sector: u64) -> Cell {
        sector
            .checked_sub(self.base)
            .and_then(|slot| self.cells.get(slot as usize))
            .copied()
            .unwrap_or_default()
    }
}
