// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Trees and images of repeatable content.

use anyhow::{ensure, Context, Result};
use std::fs::{self, File, FileTimes};
use std::io::{copy, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};
use vbd_tests_host::lsmt::{Record, Spec};
use vbd_tests_host::rng::Rng;

/// Files in a directory of the tree.
const FILES: u64 = 48;
/// When all files were changed: 2020-01-01.
const TIME: Duration = Duration::from_secs(1_577_836_800);
const PAGE: u64 = 4096;
/// Pages between one write and the next: a prime.
const APART: u64 = 1_000_003;

/// Bytes that LZ4 halves, about as it does with programs: words of a vocabulary, a few of them
/// often and most seldom, and numbers in between.
struct Prose {
    rng: Rng,
    words: Vec<Vec<u8>>,
}

impl Prose {
    fn new(seed: u64) -> Prose {
        let mut rng = Rng(seed);
        let words = (0..160)
            .map(|_| {
                let length = usize::try_from(4 + rng.below(24)).unwrap_or(4);
                rng.noise(length)
            })
            .collect();
        Prose { rng, words }
    }

    fn write(&mut self, length: u64, out: &mut impl Write) -> Result<()> {
        let mut buffer = Vec::with_capacity(64 * 1024 + 64);
        let mut left = length;
        while left > 0 {
            let want = usize::try_from(left.min(64 * 1024))?;
            buffer.clear();
            while buffer.len() < want {
                if self.rng.below(5) < 2 {
                    let number = self.rng.word().to_le_bytes();
                    buffer.extend_from_slice(&number[..6]);
                } else {
                    // The product of numbers below 1 is small more often than large.
                    let count = self.words.len() as u64;
                    let at = (0..4).fold(count, |at, _| at * self.rng.below(count) / count);
                    let at = usize::try_from(at)?;
                    buffer.extend_from_slice(&self.words[at]);
                }
            }
            out.write_all(&buffer[..want])?;
            left -= want as u64;
        }
        Ok(())
    }
}

/// A tree of files like those of a distribution: most are small, most bytes are in large ones.
pub(crate) fn tree(directory: &Path, bytes: u64) -> Result<()> {
    let mut prose = Prose::new(1);
    let mut left = bytes;
    let mut number = 0;
    while left > 0 {
        let (name, wanted) = match number {
            // Read by whoever measures the time to a first byte.
            0 => ("first".to_string(), PAGE),
            _ => {
                let name = format!("d{:03}/f{:02}", number / FILES, number % FILES);
                (name, size(&mut prose.rng))
            }
        };
        let length = wanted.min(left);
        let path = directory.join(name);
        let parent = path.parent().context("a file has no directory")?;
        fs::create_dir_all(parent)?;
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        let mut out = BufWriter::new(&file);
        prose.write(length, &mut out)?;
        out.flush()?;
        drop(out);
        let time = UNIX_EPOCH + TIME;
        file.set_times(FileTimes::new().set_modified(time).set_accessed(time))?;
        left -= length;
        number += 1;
    }
    Ok(())
}

fn size(rng: &mut Rng) -> u64 {
    let (least, most) = match rng.below(100) {
        0..=54 => (200, 8 << 10),
        55..=84 => (8 << 10, 64 << 10),
        85..=98 => (64 << 10, 256 << 10),
        _ => (512 << 10, 4 << 20),
    };
    least + rng.below(most - least)
}

/// Which layer a stretch of a disk belongs to, stretch by stretch: 16 KiB to `most` each.
struct Stretches {
    rng: Rng,
    at: u64,
    size: u64,
    layers: u64,
    most: u64,
}

impl Iterator for Stretches {
    type Item = (u64, u64, u64);

    /// Begin, end and layer.
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.size {
            return None;
        }
        let pages = 4 + self.rng.below(self.most / PAGE - 4);
        let begin = self.at;
        self.at = (begin + pages * PAGE).min(self.size);
        Some((begin, self.at, self.rng.below(self.layers)))
    }
}

fn stretches(size: u64, layers: u64, most: u64) -> Stretches {
    Stretches {
        rng: Rng(7),
        at: 0,
        size,
        layers,
        most,
    }
}

/// Deals an image out to sparse images `0.raw`, `1.raw` and so on, which together hold all of it.
pub(crate) fn split(raw: &Path, directory: &Path, layers: u64) -> Result<()> {
    ensure!(layers > 0, "no layers");
    let source = File::open(raw).with_context(|| raw.display().to_string())?;
    let size = source.metadata()?.len();
    let parts = (0..layers).map(|layer| {
        let part = File::create(directory.join(format!("{layer}.raw")))?;
        part.set_len(size)?;
        Ok(part)
    });
    let parts: Vec<File> = parts.collect::<Result<_>>()?;
    let mut buffer = Vec::new();
    for (begin, end, layer) in stretches(size, layers, 512 << 10) {
        buffer.resize(usize::try_from(end - begin)?, 0);
        source.read_exact_at(&mut buffer, begin)?;
        parts[usize::try_from(layer)?].write_all_at(&buffer, begin)?;
    }
    Ok(())
}

/// One of several sparse images that together fill a disk, with pages that are all different and
/// compress to almost nothing: what counts is how many there are.
pub(crate) fn part(file: &Path, bytes: u64, layers: u64, layer: u64) -> Result<()> {
    ensure!(layer < layers, "layer {layer} of {layers}");
    let part = File::create(file).with_context(|| file.display().to_string())?;
    part.set_len(bytes)?;
    let mut buffer = Vec::new();
    for (begin, end, _) in stretches(bytes, layers, 1 << 20).filter(|one| one.2 == layer) {
        buffer.clear();
        for page in begin / PAGE..end / PAGE {
            let word = Rng(page).word().to_le_bytes();
            buffer.extend(word.iter().cycle().take(PAGE as usize));
        }
        part.write_all_at(&buffer, begin)?;
    }
    Ok(())
}

/// An image several times in a row.
pub(crate) fn repeat(raw: &Path, file: &Path, times: u32) -> Result<()> {
    let mut out = File::create(file).with_context(|| file.display().to_string())?;
    for _ in 0..times {
        copy(&mut File::open(raw)?, &mut out)?;
    }
    Ok(())
}

/// An image as a writable layer, as if it had been written in pieces of a page in no order: its index is
/// as long as that of such a disk can be.
pub(crate) fn writable(raw: &Path, data: &Path, index: &Path) -> Result<()> {
    let size = fs::metadata(raw)?.len();
    let layer = Spec::new(size, Vec::new(), &[]);
    let file = |path: &Path| File::create(path).with_context(|| path.display().to_string());
    let mut out = file(data)?;
    out.write_all(&layer.structure(0x03, None))?;
    copy(&mut File::open(raw)?, &mut out)?;

    let mut out = BufWriter::new(file(index)?);
    out.write_all(&layer.structure(0x01, Some(PAGE)))?;
    let (pages, sectors) = (size / PAGE, PAGE / 512);
    for number in 0..pages {
        // A prime that does not divide the number of pages meets each of them once.
        let page = number * APART % pages;
        let first = page * sectors;
        out.write_all(&Record::data(first, sectors, sectors + first).bytes())?;
    }
    out.flush().context("the index file")
}
