// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! SHA-256, in the form of the manifests.

use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// Digest of bytes.
pub(crate) fn of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Digest of a whole file or device, and its length.
///
/// One thread reads while another one computes, since an emulated processor is slow at both.
pub(crate) fn of_file(path: impl AsRef<Path>) -> (String, u64) {
    let path = path.as_ref();
    let file = File::open(path);
    let mut file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (full, pieces) = sync_channel::<Vec<u8>>(4);
    let hasher = thread::spawn(move || {
        let mut hash = Sha256::new();
        let mut length = 0;
        for piece in pieces {
            hash.update(&piece);
            length += piece.len() as u64;
        }
        (hex(&hash.finalize()), length)
    });
    loop {
        let mut piece = vec![0; PIECE];
        let length = file.read(&mut piece);
        let length = length.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if length == 0 {
            break;
        }
        piece.truncate(length);
        full.send(piece).expect("the hashing thread");
    }
    drop(full);
    hasher.join().expect("the hashing thread")
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
