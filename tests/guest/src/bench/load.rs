// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reads of whole devices: 4 KiB at random places and 128 KiB in a row.

use super::contender::{forget, forget_decoded, warm, Contender, Device, Kind, PLACE};
use super::decoder::Decoder;
use super::meter::{measure, tell, Label, Sample};
use super::{turn, Settings};
use anyhow::{bail, Context, Result};
use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use vbd_tests_host::rng::Rng;

const PAGE: usize = 4096;
const LARGE: usize = 128 * 1024;
/// Places at which each device is compared with the raw image before it is measured.
const COMPARED: usize = 64;

/// Everything that shows the raw image; loop is what the others are compared with.
const CONTENDERS: &[Contender] = &[
    Contender::new("loop", Kind::Loop, "raw"),
    Contender::new("loop-direct", Kind::LoopDirect, "raw"),
    Contender::new("vbd-plain", Kind::Vbd, "plain"),
    Contender::new("vbd-lz4-4k", Kind::Vbd, "lz4-4k"),
    Contender::new("vbd-lz4-4k-unverified", Kind::VbdUnverified, "lz4-4k"),
    Contender::new("vbd-lz4-4k-255", Kind::Vbd, "split-255"),
    Contender::new("vbd-lz4-64k", Kind::Vbd, "lz4-64k"),
    Contender::new("vbd-zstd-64k", Kind::Vbd, "zstd-64k"),
    Contender::new("dm-lz4-4k", Kind::Target, "lz4-4k-padded"),
    // Reads nothing: what is left is the block layer and our way through it.
    Contender::new("vbd-null", Kind::Vbd, "null"),
];

/// One way to read a device.
#[derive(Clone, Copy, Debug)]
struct Load {
    name: &'static str,
    /// Bytes of a read; the small ones go to random places.
    length: usize,
    /// Past the device's own page cache.
    direct: bool,
    /// Nothing of the backing files is cached, instead of all.
    cold: bool,
    /// The same was read just before, so that what is kept decoded is used.
    again: bool,
    threads: usize,
}

const fn load(name: &'static str, length: usize, direct: bool, cold: bool, threads: usize) -> Load {
    Load {
        name,
        length,
        direct,
        cold,
        again: false,
        threads,
    }
}

const fn again(load: Load) -> Load {
    Load {
        again: true,
        ..load
    }
}

/// The loads; those on cold caches last, since they undo what the others need.
const LOADS: &[Load] = &[
    load("rand4k-direct-hot", PAGE, true, false, 1),
    load("rand4k-direct-hot-t2", PAGE, true, false, 2),
    load("rand4k-direct-hot-t32", PAGE, true, false, 32),
    again(load("rand4k-direct-again", PAGE, true, false, 1)),
    load("rand4k-buffered-hot", PAGE, false, false, 1),
    load("seq128k-direct-hot", LARGE, true, false, 1),
    load("seq128k-direct-hot-t2", LARGE, true, false, 2),
    load("seq128k-direct-hot-t32", LARGE, true, false, 32),
    load("seq128k-buffered-hot", LARGE, false, false, 1),
    load("rand4k-direct-cold", PAGE, true, true, 1),
    load("rand4k-direct-cold-t32", PAGE, true, true, 32),
    load("seq128k-buffered-cold", LARGE, false, true, 1),
    load("seq128k-direct-cold", LARGE, true, true, 1),
];

/// The loads beside which the decoder by itself is measured, with as many threads.
const DECODED: [&str; 2] = ["seq128k-direct-hot", "seq128k-direct-hot-t2"];

impl Load {
    fn is_decoded(&self) -> bool {
        DECODED.contains(&self.name)
    }

    fn wanted(&self, settings: &Settings, phase: &str) -> bool {
        // Counted instructions do not depend on how many wait side by side.
        settings.wants(self.name)
            && !(settings.count && self.threads > 2)
            && (phase == "inline" || !self.cold)
    }
}

/// Measures every load on every contender in every round.
pub(super) fn run(settings: &Settings, phase: &str) -> Result<()> {
    let loads: Vec<&Load> = LOADS.iter().filter(|l| l.wanted(settings, phase)).collect();
    if loads.is_empty() {
        return Ok(());
    }
    let wanted = |contender: &&Contender| {
        phase == "inline" || matches!(contender.kind, Kind::Loop | Kind::Vbd)
    };
    let devices = CONTENDERS.iter().filter(wanted).map(Contender::attach);
    let devices: Vec<Device> = devices.collect::<Result<_>>()?;
    let size = fs::metadata(Path::new(PLACE).join("raw"))?.len();
    for device in &devices {
        compare(device, size)?;
    }
    let decoded = phase == "inline" && loads.iter().any(|load| load.is_decoded());
    let decoder = decoded.then(Decoder::load).transpose()?;
    for round in 0..settings.rounds {
        for device in &devices {
            warm(&device.warmth())?;
        }
        let places = places(size, settings.reads, u64::from(round));
        for load in &loads {
            for number in 0..devices.len() {
                let Some(device) = turn(&devices, round, number) else {
                    continue;
                };
                if load.cold {
                    forget()?;
                } else {
                    forget_decoded()?;
                }
                if load.again {
                    measure_one(load, device, &places, size)?;
                }
                let sample = measure_one(load, device, &places, size)?;
                let label = Label {
                    phase,
                    load: load.name,
                    contender: device.contender.name,
                    round,
                };
                tell(label, &sample);
            }
            if let Some(decoder) = decoder.as_ref().filter(|_| load.is_decoded()) {
                let label = Label {
                    phase,
                    load: load.name,
                    contender: Decoder::NAME,
                    round,
                };
                tell(label, &decoder.measure(load.threads)?);
            }
        }
    }
    Ok(())
}

/// Blocks of the disk, each at most once, in random order.
fn places(size: u64, count: usize, seed: u64) -> Vec<u64> {
    let mut blocks: Vec<u64> = (0..size / PAGE as u64).collect();
    let mut rng = Rng(seed);
    let count = count.min(blocks.len());
    for at in 0..count {
        let left = (blocks.len() - at) as u64;
        let other = at + usize::try_from(rng.below(left)).unwrap_or_default();
        blocks.swap(at, other);
    }
    blocks.truncate(count);
    blocks.iter().map(|block| block * PAGE as u64).collect()
}

fn open(path: &Path, direct: bool) -> Result<File> {
    let flags = if direct {
        OFlags::DIRECT
    } else {
        OFlags::empty()
    };
    let flags = i32::try_from(flags.bits())?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    file.with_context(|| path.display().to_string())
}

/// Makes sure that a device shows what the raw image holds, before it is said to be fast.
fn compare(device: &Device, size: u64) -> Result<()> {
    if device.contender.name == "vbd-null" {
        return Ok(());
    }
    let (device_file, raw) = (
        open(&device.path, true)?,
        open(&Path::new(PLACE).join("raw"), false)?,
    );
    let mut want = vec![0; PAGE];
    let mut got = Memory::new(PAGE);
    for at in places(size, COMPARED, 1 << 32) {
        raw.read_exact_at(&mut want, at)?;
        let device = &device.path;
        let context = || format!("read of {} at {at}", device.display());
        device_file
            .read_exact_at(got.bytes(), at)
            .with_context(context)?;
        if got.bytes() != want.as_slice() {
            bail!("{} differs from the raw image at {at}", device.display());
        }
    }
    Ok(())
}

fn measure_one(load: &Load, device: &Device, places: &[u64], size: u64) -> Result<Sample> {
    let in_a_row: Vec<u64>;
    let places = if load.length == PAGE {
        places
    } else {
        let count = size / load.length as u64;
        in_a_row = (0..count)
            .map(|number| number * load.length as u64)
            .collect();
        &in_a_row
    };
    // The device's own pages went when it was closed the last time.
    let part = places.len().div_ceil(load.threads);
    let readers = places.chunks(part).map(|part| {
        let file = open(&device.path, load.direct)?;
        Ok((file, Memory::new(load.length), part))
    });
    let mut readers: Vec<(File, Memory, &[u64])> = readers.collect::<Result<_>>()?;
    let bytes = (places.len() * load.length) as u64;
    if let [(file, memory, part)] = readers.as_mut_slice() {
        return measure(|| read(file, memory, part).map(|()| bytes));
    }
    measure(|| {
        thread::scope(|scope| {
            let running: Vec<_> = readers
                .iter_mut()
                .map(|(file, memory, part)| scope.spawn(|| read(file, memory, part)))
                .collect();
            for reader in running {
                match reader.join() {
                    Ok(done) => done?,
                    Err(_) => bail!("a reader has panicked"),
                }
            }
            Ok(bytes)
        })
    })
}

fn read(file: &File, memory: &mut Memory, places: &[u64]) -> Result<()> {
    for &at in places {
        file.read_exact_at(memory.bytes(), at)
            .with_context(|| format!("read at {at}"))?;
    }
    Ok(())
}

/// Memory for direct reads: it begins at a multiple of a page.
struct Memory {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Memory {
    fn new(length: usize) -> Memory {
        // Touched here, so that no page fault falls into a measurement.
        let bytes = vec![1; length + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        Memory {
            bytes,
            start,
            length,
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// Opens a device or file and reads its first page.
pub(super) fn first_page(path: &Path) -> Result<()> {
    let file = open(path, false)?;
    file.read_exact_at(&mut [0; PAGE], 0)
        .with_context(|| path.display().to_string())
}
