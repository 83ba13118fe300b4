// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reads of files: the same tree in ext4 on each block device, and in compressed file systems.

use super::contender::{forget, forget_decoded, warm, Contender, Device, Kind, PLACE};
use super::meter::{measure, tell, Label};
use super::{turn, Settings};
use anyhow::{bail, Context, Result};
use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where the file system under test is mounted.
const POINT: &str = "/mnt/bench";

/// A file system that shows the tree.
struct Shown {
    name: &'static str,
    kind: &'static str,
    /// A device that has to be made first, or a file that the file system reads itself.
    below: Below,
}

enum Below {
    Device(Contender),
    File(&'static str),
}

const fn on(name: &'static str, kind: &'static str, how: Kind, file: &'static str) -> Shown {
    let below = Below::Device(Contender::new(name, how, file));
    Shown { name, kind, below }
}

const fn from(name: &'static str, kind: &'static str, file: &'static str) -> Shown {
    let below = Below::File(file);
    Shown { name, kind, below }
}

const SHOWN: &[Shown] = &[
    on("ext4-on-loop", "ext4", Kind::Loop, "raw"),
    on("ext4-on-loop-direct", "ext4", Kind::LoopDirect, "raw"),
    on("ext4-on-vbd-plain", "ext4", Kind::Vbd, "plain"),
    on("ext4-on-vbd-lz4-4k", "ext4", Kind::Vbd, "lz4-4k"),
    on("ext4-on-vbd-lz4-64k", "ext4", Kind::Vbd, "lz4-64k"),
    on("ext4-on-vbd-zstd-64k", "ext4", Kind::Vbd, "zstd-64k"),
    on("ext4-on-dm-lz4-4k", "ext4", Kind::Target, "lz4-4k-padded"),
    on("erofs-lz4-on-loop", "erofs", Kind::Loop, "erofs-lz4"),
    from("erofs-lz4-from-file", "erofs", "erofs-lz4"),
    from("erofs-lz4hc-64k-from-file", "erofs", "erofs-lz4hc-64k"),
    on(
        "squashfs-lz4-on-loop",
        "squashfs",
        Kind::Loop,
        "squashfs-lz4",
    ),
];

/// What is done with the tree.
#[derive(Clone, Copy, Eq, PartialEq)]
enum What {
    /// Every file is read.
    Cat,
    /// Every file is looked at.
    Stat,
    /// Mount, and one byte of one file.
    FirstByte,
}

const LOADS: &[(&str, What, bool)] = &[
    ("tree-cat-hot", What::Cat, false),
    ("tree-stat-hot", What::Stat, false),
    ("mount-first-byte-hot", What::FirstByte, false),
    ("tree-cat-cold", What::Cat, true),
    ("tree-stat-cold", What::Stat, true),
    ("mount-first-byte-cold", What::FirstByte, true),
];

/// A file system together with what it lies on.
struct Live<'a> {
    shown: &'a Shown,
    source: PathBuf,
    /// What has to be read for everything below to be cached.
    files: Vec<PathBuf>,
    _device: Option<Device>,
}

/// Measures every load on every file system in every round.
pub(super) fn run(settings: &Settings) -> Result<()> {
    let loads: Vec<_> = LOADS.iter().filter(|load| settings.wants(load.0)).collect();
    if loads.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(POINT)?;
    let live: Vec<Live<'_>> = SHOWN.iter().map(ready).collect::<Result<_>>()?;
    // What the first one shows is what all have to show.
    let mut expected = None;
    for round in 0..settings.rounds {
        for live in &live {
            warm(&live.files)?;
        }
        for (load, what, cold) in &loads {
            for number in 0..live.len() {
                let Some(live) = turn(&live, round, number) else {
                    continue;
                };
                if *cold {
                    forget()?;
                } else {
                    forget_decoded()?;
                }
                let (sample, found) = measure_one(live, *what)?;
                if *what == What::Cat && *expected.get_or_insert(found) != found {
                    bail!("{} shows other files than the others", live.shown.name);
                }
                let label = Label {
                    phase: "inline",
                    load,
                    contender: live.shown.name,
                    round,
                };
                tell(label, &sample);
            }
        }
    }
    Ok(())
}

fn ready(shown: &Shown) -> Result<Live<'_>> {
    Ok(match &shown.below {
        Below::Device(contender) => {
            let device = contender.attach()?;
            Live {
                shown,
                source: device.path.clone(),
                files: device.warmth(),
                _device: Some(device),
            }
        }
        Below::File(file) => {
            let file = Path::new(PLACE).join(file);
            Live {
                shown,
                source: file.clone(),
                files: vec![file],
                _device: None,
            }
        }
    })
}

/// Files, and bytes in them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Found {
    files: u64,
    bytes: u64,
}

fn measure_one(live: &Live<'_>, what: What) -> Result<(super::meter::Sample, Found)> {
    let mut found = Found::default();
    if what == What::FirstByte {
        let sample = measure(|| {
            show(live)?;
            let mut byte = [0];
            let path = Path::new(POINT).join("first");
            let mut file = File::open(&path).context("the file named first")?;
            file.read_exact(&mut byte)?;
            Ok(1)
        });
        hide()?;
        return Ok((sample?, found));
    }
    show(live)?;
    let mut buffer = vec![0; 128 * 1024];
    let sample = measure(|| {
        let read = (what == What::Cat).then_some(&mut buffer);
        walk(Path::new(POINT), read, &mut found)?;
        Ok(found.bytes)
    });
    hide()?;
    Ok((sample?, found))
}

fn show(live: &Live<'_>) -> Result<()> {
    let context = || format!("mount of {}", live.shown.name);
    let flags = MountFlags::RDONLY | MountFlags::NOATIME;
    mount(&live.source, POINT, live.shown.kind, flags, None).with_context(context)
}

fn hide() -> Result<()> {
    unmount(POINT, UnmountFlags::empty()).context("umount")
}

/// Goes through a tree in the order of its names; every file is read if there is a buffer.
fn walk(place: &Path, mut buffer: Option<&mut Vec<u8>>, found: &mut Found) -> Result<()> {
    let context = || place.display().to_string();
    let entries = fs::read_dir(place).with_context(context)?;
    let mut entries: Vec<_> = entries
        .collect::<std::io::Result<_>>()
        .with_context(context)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            // What mkfs.ext4 makes by itself is in no other file system.
            if entry.file_name() != "lost+found" {
                walk(&path, buffer.as_deref_mut(), found)?;
            }
            continue;
        }
        found.files += 1;
        match buffer.as_deref_mut() {
            Some(buffer) => found.bytes += cat(&path, buffer)?,
            None => found.bytes += metadata.len(),
        }
    }
    Ok(())
}

fn cat(path: &Path, buffer: &mut [u8]) -> Result<u64> {
    let context = || path.display().to_string();
    let mut file = File::open(path).with_context(context)?;
    let mut bytes = 0;
    loop {
        match file.read(buffer).with_context(context)? {
            0 => return Ok(bytes),
            count => bytes += count as u64,
        }
    }
}
