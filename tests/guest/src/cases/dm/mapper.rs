// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Devices of device-mapper, what lies under them, and the module of our targets.

use crate::cases::support::kmsg::Log;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool::{self, Loop};
use crate::modules;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

/// Longest time that the kernel may take to let go of what was closed.
const RELEASE: Duration = Duration::from_secs(10);

/// The module's name.
pub(super) const MODULE: &str = "vbd_dm";

/// The time of a case in which the module may be there: it comes by itself with the first table,
/// and goes with this value. No device may outlive this value.
pub(super) struct Targets(());

impl Targets {
    pub(super) fn begin() -> Targets {
        assert!(
            !modules::is_loaded(MODULE),
            "another case has left the module loaded"
        );
        Targets(())
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        let good = !thread::panicking();
        let left = names();
        if left.is_empty() {
            match unload() {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) if good => panic!("rmmod {MODULE}: {errno:?}"),
                Err(errno) => eprintln!("rmmod {MODULE}: {errno:?}"),
            }
        } else if good {
            panic!("devices left: {left:?}");
        } else {
            // The next case shall find the machine clean all the same.
            let _ = tool::output("dmsetup", &["remove_all", "--force"]);
            let _ = unload();
        }
    }
}

/// Unloads the module; a table that is gone may be freed a moment later.
pub(super) fn unload() -> Result<(), Errno> {
    let end = Instant::now() + RELEASE;
    loop {
        match modules::unload(MODULE) {
            Err(Errno::WOULDBLOCK | Errno::BUSY) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// The names of all mapped devices.
pub(super) fn names() -> Vec<String> {
    let list = tool::run("dmsetup", &["ls"]);
    let lines = list.lines().filter(|line| *line != "No devices found");
    lines
        .map(|line| line.split('\t').next().unwrap_or_default().to_string())
        .collect()
}

/// A block device with a layer at its beginning: device and bytes in a table.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) device: String,
    pub(super) bytes: u64,
}

/// A file behind a loop device, padded to whole sectors: what is cut off is not there.
pub(super) struct Disk {
    device: Loop,
    bytes: u64,
}

impl Disk {
    /// With `padding` further bytes after the content.
    pub(super) fn padded(scratch: &Scratch, name: &str, content: &[u8], padding: usize) -> Disk {
        let mut padded = content.to_vec();
        padded.resize((content.len() + padding).next_multiple_of(512), 0xee);
        Disk {
            device: Loop::new(&scratch.file(name, &padded)),
            bytes: content.len() as u64,
        }
    }

    /// With as little padding as there can be.
    pub(super) fn new(scratch: &Scratch, name: &str, content: &[u8]) -> Disk {
        Disk::padded(scratch, name, content, 0)
    }

    /// One for each file.
    pub(super) fn all(scratch: &Scratch, files: &[Vec<u8>]) -> Vec<Disk> {
        let files = files.iter().enumerate();
        files
            .map(|(number, file)| Disk::new(scratch, &format!("disk{number}"), file))
            .collect()
    }

    /// With a layer that ends before the content does.
    pub(super) fn with_bytes(self, bytes: u64) -> Disk {
        Disk { bytes, ..self }
    }

    pub(super) fn path(&self) -> String {
        self.device.path().display().to_string()
    }

    pub(super) fn part(&self) -> Part {
        Part {
            device: self.path(),
            bytes: self.bytes,
        }
    }
}

pub(super) fn parts(disks: &[Disk]) -> Vec<Part> {
    disks.iter().map(Disk::part).collect()
}

/// A line of a table from byte `start` on, `bytes` long, rounded up to sectors.
pub(super) fn line(start: u64, bytes: u64, target: &str, parts: &[Part]) -> String {
    let mut line = format!("{} {} {target}", start / 512, bytes.div_ceil(512));
    for Part { device, bytes } in parts {
        line += &format!(" {device} {bytes}");
    }
    line
}

/// A table of one `lsmt_target` for a disk of so many bytes.
pub(super) fn lsmt(bytes: u64, parts: &[Part]) -> String {
    line(0, bytes, "lsmt_target", parts)
}

/// A mapped device, removed with this value.
pub(super) struct Mapped {
    name: String,
}

/// What was said when something was refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// By `dmsetup`.
    pub(super) tool: String,
    /// By the kernel, as errors.
    pub(super) kernel: Vec<String>,
}

impl Refused {
    /// Checks what was said: the words of the errno, our line in the log unless it is empty, and the
    /// reason that device-mapper's line ends with.
    pub(super) fn check(&self, errno: &str, ours: &str, reason: &str) {
        assert!(self.tool.contains(errno), "not {errno}: {self:?}");
        let said = self.kernel.iter().any(|line| line == ours);
        assert!(ours.is_empty() || said, "not \"{ours}\": {self:?}");
        let told = self
            .kernel
            .iter()
            .any(|line| line.starts_with("device-mapper: table: ") && line.contains(reason));
        assert!(told, "not \"{reason}\": {self:?}");
    }
}

impl Mapped {
    /// Makes a read-only device with a table: lines separated by commas.
    pub(super) fn new(name: &str, table: &str) -> Mapped {
        Mapped::with_mode(name, "ro", table).unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// Makes a device with mode `ro` or `rw`.
    pub(super) fn with_mode(name: &str, mode: &str, table: &str) -> Result<Mapped, Refused> {
        let log = Log::mark();
        let concise = format!("{name},,,{mode},{table}");
        let output = tool::output("dmsetup", &["create", "--concise", &concise]);
        accept(&output, &log).map(|()| Mapped {
            name: name.to_string(),
        })
    }

    /// Tries to make a read-only device, which has to be refused and leaves nothing.
    pub(super) fn refuse(name: &str, table: &str) -> Refused {
        match Mapped::with_mode(name, "ro", table) {
            Ok(_) => panic!("{table} is not refused"),
            Err(refused) => {
                assert!(!names().contains(&name.to_string()), "{name} is left");
                refused
            }
        }
    }

    /// Many devices at a time, named `<prefix><number>`, each with a table of one line.
    pub(super) fn many(prefix: &str, tables: &[String]) -> Vec<Mapped> {
        let tables = tables.iter().enumerate();
        let devices: Vec<String> = tables
            .clone()
            .map(|(number, table)| format!("{prefix}{number},,,ro,{table}"))
            .collect();
        tool::run("dmsetup", &["create", "--concise", &devices.join(";")]);
        tables
            .map(|(number, _)| Mapped {
                name: format!("{prefix}{number}"),
            })
            .collect()
    }

    /// Removes many devices with one command.
    pub(super) fn remove_all(devices: Vec<Mapped>) {
        let mut words = vec!["remove".to_string(), "--retry".to_string()];
        words.extend(devices.iter().map(|device| device.name.clone()));
        tool::run("dmsetup", &words);
        devices.into_iter().for_each(std::mem::forget);
    }

    pub(super) fn path(&self) -> String {
        format!("/dev/mapper/{}", self.name)
    }

    /// The kernel's name of the disk.
    pub(super) fn disk(&self) -> String {
        let words = ["-c", "--noheadings", "-o", "blkdevname"];
        self.dmsetup("info", &words)
    }

    pub(super) fn part(&self, bytes: u64) -> Part {
        Part {
            device: self.path(),
            bytes,
        }
    }

    /// Runs a verb of `dmsetup` on the device, with words after its name.
    pub(super) fn dmsetup(&self, verb: &str, words: &[&str]) -> String {
        let mut all = vec![verb, self.name.as_str()];
        all.extend_from_slice(words);
        tool::run("dmsetup", &all)
    }

    /// Loads a table beside the active one.
    pub(super) fn load(&self, table: &str) {
        self.try_load(table)
            .unwrap_or_else(|refused| panic!("{refused:?}"));
    }

    pub(super) fn try_load(&self, table: &str) -> Result<(), Refused> {
        let log = Log::mark();
        let words = ["load", "--readonly", &self.name, "--table", table];
        accept(&tool::output("dmsetup", &words), &log)
    }

    /// Makes the loaded table the active one.
    pub(super) fn swap(&self) {
        self.dmsetup("suspend", &[]);
        self.dmsetup("resume", &[]);
    }

    /// The counters of the target at sector 0, in their order.
    pub(super) fn counters(&self) -> Vec<(String, u64)> {
        let said = self.dmsetup("message", &["0", "stats"]);
        said.lines()
            .map(|line| {
                let (name, value) = line.split_once(' ').expect("a counter and its value");
                (name.to_string(), value.parse().expect("a number"))
            })
            .collect()
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        let counters: BTreeMap<String, u64> = self.counters().into_iter().collect();
        *counters
            .get(name)
            .unwrap_or_else(|| panic!("no counter {name} in {counters:?}"))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let output = tool::output("dmsetup", &["remove", "--retry", &self.name]);
        if !output.status.success() && !thread::panicking() {
            panic!(
                "dmsetup remove {}: {}",
                self.name,
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

fn accept(output: &Output, log: &Log) -> Result<(), Refused> {
    if output.status.success() {
        return Ok(());
    }
    Err(Refused {
        tool: String::from_utf8_lossy(&output.stderr).trim().to_string(),
        kernel: log.errors(),
    })
}

/// The number of a block device as tables show it.
pub(super) fn number(device: &str) -> String {
    let name = Path::new(device).canonicalize().expect("a device");
    let name = name.file_name().and_then(|name| name.to_str());
    let path = format!("/sys/class/block/{}/dev", name.unwrap_or_default());
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
    text.trim().to_string()
}
