// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the tests share: content made by rule, and a flat model's comparison with a stack.

// Each test program uses its own part of this.
#![allow(dead_code)]

use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use vbdctl::image::{create, Created, Options, Source, Stack};

/// Numbers that look random and are the same every time (xorshift64*).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Bytes that do not compress.
    pub(crate) fn noise(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// Bytes that compress well and are not all the same.
    pub(crate) fn text(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 16);
        while bytes.len() < len {
            bytes.extend_from_slice(format!("line {:04}\n", self.below(1000)).as_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// Runs vbdctl in `dir` with `arguments`, split at spaces.
pub(crate) fn vbdctl(dir: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vbdctl"))
        .current_dir(dir)
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

/// Compares with a text in `golden/`, or rewrites that.
#[track_caller]
pub(crate) fn assert_golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(found, expected, "{}", path.display());
}

/// Writes `bytes` to a file in which long runs of zeroes are holes.
pub(crate) fn write_sparse(path: &Path, bytes: &[u8]) {
    let file = File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (number, chunk) in bytes.chunks(4096).enumerate() {
        if chunk.iter().any(|&b| b != 0) {
            file.write_all_at(chunk, number as u64 * 4096).unwrap();
        }
    }
}

/// A directory for a test, in memory where there is one: layers are synced to disk when complete.
pub(crate) fn temp_dir() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap_or_else(|_| TempDir::new().unwrap())
}

/// Makes the layer `name` in `dir` from `bytes`, on top of `base`.
pub(crate) fn make(
    dir: &Path,
    name: &str,
    bytes: &[u8],
    base: Option<&Stack>,
    options: &Options,
) -> (PathBuf, Created) {
    let image = dir.join(format!("{name}.img"));
    write_sparse(&image, bytes);
    let layer = dir.join(name);
    let options = Options {
        force: true,
        ..options.clone()
    };
    let source = Source::open(&image).unwrap();
    let created = create(&source, base, &layer, &options, &mut |_| {}).unwrap();
    let on_disk = std::fs::metadata(&layer).unwrap().len();
    assert_eq!(created.file_size, on_disk);
    (layer, created)
}

/// Asserts that the disk of `stack` is `model` and zeroes after it, read whole and in odd pieces.
#[track_caller]
pub(crate) fn assert_reads_as(stack: &Stack, model: &[u8], seed: u64) {
    let size = stack.virtual_size() as usize;
    let mut model = model.to_vec();
    model.resize(size, 0);

    let mut disk = vec![0xaa; size];
    let mut reader = stack.reader();
    reader.read_exact_at(0, &mut disk).unwrap();
    assert_same(&disk, &model, 0);

    let mut rng = Rng::new(seed);
    for _ in 0..20 {
        let start = rng.below(size as u64) as usize;
        let len = rng.below(100_000) as usize;
        let end = size.min(start + len);
        let mut piece = vec![0xaa; end - start];
        reader.read_exact_at(start as u64, &mut piece).unwrap();
        assert_same(&piece, &model[start..end], start);
    }

    // Past the end there are zeroes.
    let mut past = [0xaa; 1024];
    reader.read_exact_at(size as u64 - 512, &mut past).unwrap();
    assert_same(&past[..512], &model[size - 512..], size - 512);
    assert_same(&past[512..], &[0; 512], size);
}

#[track_caller]
fn assert_same(found: &[u8], expected: &[u8], offset: usize) {
    assert_eq!(found.len(), expected.len());
    if found != expected {
        let differs = found.iter().zip(expected).position(|(a, b)| a != b);
        let at = differs.unwrap();
        panic!(
            "byte {} is {:#x}, not {:#x}",
            offset + at,
            found[at],
            expected[at]
        );
    }
}

/// SHA-256 of `len` bytes of the disk from `offset`, in lower-case hexadecimal digits.
pub(crate) fn sha256(stack: &Stack, mut offset: u64, mut len: u64) -> vbdctl::Result<String> {
    let mut reader = stack.reader();
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    while len != 0 {
        let now = len.min(chunk.len() as u64);
        let part = &mut chunk[..now as usize];
        part.fill(0xaa);
        reader.read_exact_at(offset, part)?;
        hash.update(&*part);
        offset += now;
        len -= now;
    }
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
