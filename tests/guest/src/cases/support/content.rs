// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Disks of repeatable content, as flat models.

use vbd_tests_host::rng::Rng;

/// Text-like bytes: they compress well and no two places are alike.
pub(crate) fn text(rng: &mut Rng, length: usize) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "layer", "block", "stack", "segment", "the", "reads", "of", "a", "device", "zeroed",
        "hole", "index",
    ];
    let mut out = Vec::with_capacity(length + 32);
    while out.len() < length {
        out.extend_from_slice(rng.pick(&WORDS).as_bytes());
        if rng.below(9) == 0 {
            out.extend_from_slice(format!(" {}.\n", rng.below(100_000)).as_bytes());
        } else {
            out.push(b' ');
        }
    }
    out.truncate(length);
    out
}

/// A disk with stretches of text, noise, half-compressible bytes and zeroes, of odd lengths.
pub(crate) fn disk(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng(seed);
    let mut out = Vec::with_capacity(length + 70_000);
    while out.len() < length {
        let run = 512 * (1 + rng.below(128) as usize);
        match rng.below(5) {
            0 => out.extend(rng.noise(run)),
            1 => out.extend(text(&mut rng, run)),
            2 | 3 => out.extend(rng.texture(run)),
            _ => out.resize(out.len() + run, 0),
        }
    }
    out.truncate(length);
    out
}

/// Changes `count` places of a disk, by whole sectors: new content, or zeroes.
///
/// Returns where the changes begin and end.
pub(crate) fn change(disk: &mut [u8], seed: u64, count: usize, most_sectors: u64) -> Vec<u64> {
    let mut rng = Rng(seed);
    let mut edges = Vec::new();
    let sectors = (disk.len() / 512) as u64;
    for _ in 0..count {
        let run = (1 + rng.below(most_sectors)).min(sectors);
        let at = rng.below(sectors - run + 1) as usize * 512;
        let run = run as usize * 512;
        let new = match rng.below(4) {
            0 => vec![0; run],
            1 => rng.noise(run),
            2 => text(&mut rng, run),
            _ => rng.texture(run),
        };
        disk[at..at + run].copy_from_slice(&new);
        edges.extend([at as u64, (at + run) as u64]);
    }
    edges
}

/// A partition by its first sector and its length in sectors.
pub(crate) type Extent = (usize, usize);

/// Writes an MBR with up to four partitions into the first sector of a disk.
pub(crate) fn put_mbr(disk: &mut [u8], partitions: &[Extent]) {
    for (number, (start, sectors)) in partitions.iter().enumerate() {
        let entry = &mut disk[446 + number * 16..446 + number * 16 + 16];
        entry.fill(0);
        // Type 83, Linux.
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&u32::try_from(*start).unwrap().to_le_bytes());
        entry[12..16].copy_from_slice(&u32::try_from(*sectors).unwrap().to_le_bytes());
    }
    let unused = 446 + partitions.len() * 16..510;
    disk[unused].fill(0);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
}
