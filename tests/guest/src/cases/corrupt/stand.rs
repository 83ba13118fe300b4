// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! One device, to which one damaged stack after the other is attached.

use crate::cases::support::device::Module;
use crate::cases::support::dir::Dir;
use crate::cases::support::kmsg::{Log, Message};
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use rustix::io::Errno;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vbd_format::Class;
use vbd_tests_host::compare::sectors;
use vbd_tests_host::damage::Case;
use vbd_tests_host::decoder::{self, Outcome, Refusal, Sector};

/// Bytes of an index that the driver takes at a time.
const METADATA_CHUNK: usize = 64 * 1024;
/// Bytes of a read; those that fail are tried again sector by sector.
const READ: usize = 32 * 1024;
/// Sectors that are read of a disk at most.
const SECTORS: u64 = 2048;
/// Lines that the kernel may say about one stack whose blocks are bad: ten of the driver's, and of
/// each kind of the block layer's, in the time of the limit.
const LINES: usize = 40;
/// Longest time that one stack may take: an emulated machine is slow, and one that hangs is slower.
const LONGEST: Duration = Duration::from_secs(20);
/// Wrong outcomes that are told before a case gives up.
const WRONG: usize = 10;

/// The device.
pub(super) struct Stand {
    dir: Dir,
    /// Layer directories that there are.
    layers: usize,
    log: Log,
    tally: Tally,
    wrong: Vec<String>,
    // Dropped in this order.
    _module: Module,
    scratch: Scratch,
    _hurry: Hurry,
}

/// Has the kernel hurry where it waits for all processors, as it does when a disk goes: thousands
/// of times here, and of no interest. As before when this goes.
struct Hurry(Option<String>);

const HURRY: &str = "/sys/kernel/rcu_expedited";

impl Hurry {
    fn begin() -> Hurry {
        let before = fs::read_to_string(HURRY).ok();
        if before.is_some() {
            fs::write(HURRY, "1").expect("a setting of the kernel");
        }
        Hurry(before)
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = fs::write(HURRY, before.trim());
        }
    }
}

/// What became of the images.
#[derive(Default)]
pub(super) struct Tally {
    refused: usize,
    whole: usize,
    in_part: usize,
    undefined: usize,
    /// Most lines that the kernel said about one.
    lines: usize,
}

impl Tally {
    pub(super) fn images(&self) -> usize {
        self.refused + self.whole + self.in_part + self.undefined
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} images: {} refused, {} read, {} read in part, {} undefined; at most {} lines",
            self.images(),
            self.refused,
            self.whole,
            self.in_part,
            self.undefined,
            self.lines
        )
    }
}

/// How it went wrong.
type Verdict = Result<(), String>;

impl Stand {
    /// Loads the module and makes a device without layers.
    pub(super) fn new() -> Stand {
        let module = Module::load("");
        Stand {
            dir: Dir::new("corrupt"),
            layers: 0,
            log: Log::mark(),
            tally: Tally::default(),
            wrong: Vec::new(),
            _module: module,
            scratch: Scratch::in_memory(),
            _hurry: Hurry::begin(),
        }
    }

    /// Attaches a stack, reads it if that goes, and detaches it.
    pub(super) fn show(&mut self, case: &Case) {
        let begin = Instant::now();
        self.log.lines();
        if let Err(how) = self.try_show(case) {
            self.wrong.push(format!("{}: {how}", case.name));
        }
        let time = begin.elapsed();
        if time > LONGEST {
            self.wrong.push(format!("{}: took {time:?}", case.name));
        }
        assert!(self.wrong.len() < WRONG, "{:#?}", self.wrong);
    }

    fn try_show(&mut self, case: &Case) -> Verdict {
        let paths = self.lay(&case.files);
        let wanted = decoder::open(&case.files, METADATA_CHUNK);
        let attached = self.dir.set("power", "1");
        let verdict = match (&wanted, attached) {
            (Outcome::Undefined, _) => {
                self.tally.undefined += 1;
                Ok(())
            }
            (Outcome::Refused(refusal), Err(errno)) => self.refused(refusal, &paths, errno),
            (Outcome::Refused(refusal), Ok(())) => Err(format!("attached, for {refusal:?}")),
            (Outcome::Open(stack), Err(errno)) => {
                let doubts = Refusal {
                    layer: Some(0),
                    errors: stack.doubts.clone(),
                };
                self.refused(&doubts, &paths, errno)
            }
            (Outcome::Open(stack), Ok(())) => self.read(stack),
        };
        // Also where nothing is known of the outcome there is an end to it.
        let off = self.dir.set("power", "0");
        verdict?;
        off.map_err(|errno| format!("power off: {errno:?}"))
    }

    /// Writes the files and makes them the device's layers.
    fn lay(&mut self, files: &[Vec<u8>]) -> Vec<PathBuf> {
        while self.layers > files.len() {
            self.layers -= 1;
            let name = self.layers.to_string();
            self.dir.remove_below(&name).expect("a layer's directory");
        }
        let mut paths = Vec::new();
        for (number, bytes) in files.iter().enumerate() {
            let name = number.to_string();
            if number == self.layers {
                self.dir.make_below(&name).expect("a layer's directory");
                self.layers += 1;
            }
            let path = self.scratch.file(&name, bytes);
            let text = path.display().to_string();
            let set = self.dir.set(&format!("{number}/path"), &text);
            set.unwrap_or_else(|errno| panic!("{text}: {errno:?}"));
            paths.push(path);
        }
        paths
    }

    /// A refusal has its errno, its words in `error`, and these in one line of the log.
    fn refused(&mut self, refusal: &Refusal, paths: &[PathBuf], errno: Errno) -> Verdict {
        self.tally.refused += 1;
        let said = self.dir.get("error");
        let known = refusal.errors.iter().find(|error| {
            let rule = error.to_string();
            words(refusal.layer, paths, &rule) == said
        });
        let Some(error) = known else {
            return Err(format!("{said:?} ({errno:?}), and not one of {refusal:?}"));
        };
        let wanted = match error.rule.class() {
            Class::NotALayer => Errno::INVAL,
            Class::Corrupt => Errno::UCLEAN,
            Class::Checksum => Errno::BADMSG,
            Class::Unsupported => Errno::OPNOTSUPP,
            Class::TooLarge => Errno::FBIG,
        };
        if errno != wanted {
            return Err(format!("{errno:?} for {said:?}"));
        }
        let lines = self.lines();
        match lines.as_slice() {
            [line] if line.level == 3 && line.text == format!("vbd: {said}") => Ok(()),
            _ => Err(format!("{said:?}, and in the log {lines:?}")),
        }
    }

    fn lines(&mut self) -> Vec<Message> {
        let lines = self.log.lines();
        self.tally.lines = self.tally.lines.max(lines.len());
        lines
    }

    /// Reads a disk: every sector is what it has to be, or cannot be read and may not be.
    fn read(&mut self, stack: &decoder::Stack) -> Verdict {
        let disk = self.dir.disk();
        let bytes = crate::cases::support::device::size(&disk);
        if bytes != stack.virtual_size.div_ceil(512) * 512 {
            return Err(format!("{bytes} bytes, not {}", stack.virtual_size));
        }
        let sectors = sectors(stack, SECTORS);
        let (mut in_part, mut at) = (false, 0);
        let file = read::direct(&disk);
        while let Some(&first) = sectors.get(at) {
            let run = sectors[at..].iter().zip(first..);
            let run = run.take_while(|(sector, next)| *sector == next).count();
            let run = run.min(READ / 512) as u64;
            at += run as usize;
            match read::pread(&file, first * 512, run as usize * 512) {
                Ok(got) => compare(stack, first, &got)?,
                Err(error) => {
                    is_eio(&error)?;
                    in_part = true;
                    self.sectors(stack, &file, first..first + run)?;
                }
            }
        }
        drop(file);
        if !in_part && sectors.len() <= 64 {
            // The other way in, which sees the same.
            let first = sectors.iter().zip(0..).take_while(|(s, n)| *s == n).count();
            let file = read::buffered(&disk);
            let got = read::pread(&file, 0, first * 512).map_err(|error| error.to_string())?;
            compare(stack, 0, &got)?;
        }
        let lines = self.lines();
        let errors = lines.iter().filter(|line| line.level <= 3).count();
        match in_part {
            false => self.tally.whole += 1,
            true => self.tally.in_part += 1,
        }
        if lines.len() > LINES || (!in_part && errors != 0) {
            return Err(format!("{} lines: {lines:#?}", lines.len()));
        }
        Ok(())
    }

    /// Reads sectors one by one, after a read of all of them has failed.
    fn sectors(
        &self,
        stack: &decoder::Stack,
        file: &std::fs::File,
        range: std::ops::Range<u64>,
    ) -> Verdict {
        let (mut failed, mut heads) = (0, false);
        for sector in range.clone() {
            heads |= matches!(stack.sector(sector), Sector::Head { .. });
            match read::pread(file, sector * 512, 512) {
                Ok(got) => compare(stack, sector, &got)?,
                Err(error) => {
                    is_eio(&error)?;
                    failed += 1;
                    if let Sector::Exact(_) = stack.sector(sector) {
                        return Err(format!("sector {sector} cannot be read"));
                    }
                }
            }
        }
        // A large part of a block that ends too early is all of it; small ones need not be.
        if failed == 0 && !heads {
            return Err(format!("sectors {range:?} fail together, and none alone"));
        }
        Ok(())
    }

    /// Takes everything down, and says what became of the images; fails if any went wrong.
    pub(super) fn finish(self) -> Tally {
        self.dir.clear().expect("the directories go");
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        self.tally
    }
}

/// What `error` may say: blocks that are read as metadata name their layer once more.
fn words(layer: Option<u8>, paths: &[PathBuf], rule: &str) -> String {
    let Some(layer) = layer else {
        return rule.to_string();
    };
    let path = paths.get(usize::from(layer)).map(PathBuf::as_path);
    let path = path.unwrap_or(Path::new("")).display();
    format!("layer {layer} ({path}): {rule}")
}

/// Compares sectors from `first` on that could be read.
fn compare(stack: &decoder::Stack, first: u64, got: &[u8]) -> Verdict {
    // A bad block of which something has been read, and how many sectors in a row: nobody gets more of
    // it than a small part at a time.
    let mut head = (0, 0);
    for (sector, got) in (first..).zip(got.chunks(512)) {
        let wanted = stack.sector(sector);
        head = match wanted {
            Sector::Head { block, .. } if block == head.0 => (block, head.1 + 1),
            Sector::Head { block, .. } => (block, 1),
            _ => (0, 0),
        };
        let good = match &wanted {
            Sector::Exact(want) | Sector::Perhaps(want) => got == want,
            Sector::Head { bytes, most, .. } => {
                head.1 <= *most && bytes.as_ref().is_none_or(|want| got == want)
            }
            Sector::Undefined => true,
            Sector::Bad => false,
        };
        if !good {
            return Err(format!("sector {sector}: {got:02x?} for {wanted:02x?}"));
        }
    }
    Ok(())
}

fn is_eio(error: &std::io::Error) -> Verdict {
    match error.raw_os_error() {
        Some(code) if code == Errno::IO.raw_os_error() => Ok(()),
        _ => Err(format!("a read fails with {error}")),
    }
}
