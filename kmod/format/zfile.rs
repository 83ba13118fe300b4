// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! ZFile: a file compressed in blocks that can be read one by one (`docs/format-zfile.md`).

mod block;
mod header;
mod jump;
mod lz4;

pub use self::block::{read_blocks, unpack, unpack_head, Codec, HeadCodec, Output, Run};
pub use self::header::{
    find_trailer, inspect, probe, Algorithm, Header, ZFile, FLAG_DATA_FILE, FLAG_DIGEST,
    FLAG_HEADER, FLAG_OVERWRITTEN, FLAG_SEALED, HEADER_BYTES, MAGIC0, MAGIC1,
};
pub use self::jump::{
    check_length, groups, load_jump_table, Filler, Group, JumpTable, Stored, GROUP_BLOCKS,
};
pub use self::lz4::check_lz4;
