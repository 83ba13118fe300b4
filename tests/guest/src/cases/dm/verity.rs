// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Hash trees of dm-verity, as `veritysetup format --no-superblock` makes them.

use sha2::{Digest, Sha256};

/// Bytes of a data block and of a hash block.
pub(super) const BLOCK: usize = 4096;
const DIGEST: usize = 32;
const SALT: [u8; 8] = *b"a salt!!";

/// The tree over some data.
pub(super) struct Tree {
    /// Hash blocks, the top level first.
    pub(super) blocks: Vec<u8>,
    /// Bytes of `blocks` before the lowest level, which holds the digests of data blocks in order.
    lowest: usize,
    root: String,
}

impl Tree {
    /// Over data in whole blocks, more than one.
    pub(super) fn new(data: &[u8]) -> Tree {
        let mut levels: Vec<Vec<u8>> = Vec::new();
        let mut level = hashes(data);
        while level.len() > BLOCK {
            let above = hashes(&level);
            levels.push(level);
            level = above;
        }
        let root = digests(&level).concat();
        levels.push(level);
        let lowest = levels.iter().skip(1).map(Vec::len).sum();
        Tree {
            blocks: levels.into_iter().rev().flatten().collect(),
            lowest,
            root: root.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// Makes the digest of a data block wrong.
    pub(super) fn spoil(&mut self, block: usize) {
        self.blocks[self.lowest + block * DIGEST] ^= 1;
    }

    /// The table for data and tree on devices.
    pub(super) fn table(&self, bytes: usize, data: &str, hash: &str) -> String {
        let salt: String = SALT.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "0 {} verity 1 {data} {hash} {BLOCK} {BLOCK} {} 0 sha256 {} {salt}",
            bytes / 512,
            bytes / BLOCK,
            self.root,
        )
    }
}

fn digests(data: &[u8]) -> Vec<[u8; DIGEST]> {
    let blocks = data.chunks(BLOCK);
    blocks
        .map(|block| {
            Sha256::new()
                .chain_update(SALT)
                .chain_update(block)
                .finalize()
                .into()
        })
        .collect()
}

/// One level: the digests of blocks, in blocks of their own filled up with zeroes.
fn hashes(data: &[u8]) -> Vec<u8> {
    let mut level = digests(data).concat();
    level.resize(level.len().next_multiple_of(BLOCK), 0);
    level
}
