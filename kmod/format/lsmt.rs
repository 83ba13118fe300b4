// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! LSMT: one layer's log-structured map from virtual sectors to stored sectors
//! (`docs/format-lsmt.md`).

mod header;
mod index;
mod lookup;
mod merge;
mod segment;

pub use self::header::{
    probe, Header, Lsmt, FLAG_DATA_FILE, FLAG_HEADER, FLAG_SEALED, FLAG_SPARSE, HEADER_BYTES,
    MAGIC0, MAGIC1, UUID_NONE,
};
pub use self::index::load_index;
pub use self::lookup::{find, part_end, Piece, PieceKind, Pieces};
pub use self::merge::{virtual_size, Cursor, Merge};
pub use self::segment::{Segment, MAX_SEGMENT_SECTORS, PADDING_OFFSET, RECORD_BYTES};
