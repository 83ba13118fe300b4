// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! LSMT: one layer's log-structured map from virtual sectors to stored sectors
//! (`docs/format-lsmt.md`, and `docs/format-writable.md` for layers that are not sealed).

mod directory;
mod header;
mod index;
mod lookup;
mod merge;
mod segment;
mod writable;

pub use self::directory::{Directory, Grid};
pub use self::header::{
    inspect, probe, read_header, Header, Lsmt, FLAG_DATA_FILE, FLAG_HEADER, FLAG_SEALED,
    FLAG_SPARSE, HEADER_BYTES, MAGIC0, MAGIC1, UUID_NONE,
};
pub use self::index::{check_order, check_range, load_index};
pub use self::lookup::{part_end, Index, Piece, PieceKind, Pieces};
pub use self::merge::{check_records, virtual_size, Cursor, Merge};
pub use self::segment::{Segment, MAX_SEGMENT_SECTORS, PADDING_OFFSET, RECORD_BYTES};
pub use self::writable::{load_log, probe_data, probe_log, LogEnd, Writable};
