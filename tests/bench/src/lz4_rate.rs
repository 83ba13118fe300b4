// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the LZ4 library does by itself: one thread, blocks in memory, nothing written.

use anyhow::{ensure, Context, Result};
use std::path::Path;
use std::time::Instant;

/// Compresses a file block by block and prints bytes, compressed bytes and nanoseconds.
pub(crate) fn run(file: &Path, block: usize) -> Result<()> {
    ensure!(block > 0, "blocks of no bytes");
    let content = std::fs::read(file).with_context(|| file.display().to_string())?;
    let mut out = vec![0; lz4::block::compress_bound(block)?];
    let mut compressed = 0;
    let begin = Instant::now();
    for block in content.chunks(block) {
        compressed += lz4::block::compress_to_buffer(block, None, false, &mut out)?;
    }
    let time = begin.elapsed();
    println!("{} {compressed} {}", content.len(), time.as_nanos());
    Ok(())
}
