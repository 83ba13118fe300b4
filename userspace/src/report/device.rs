// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What devices are, for people and as stable JSON.
//!
//! `vbdctl list --json` is an object whose field `devices` holds a [`DeviceSummary`] for each device:
//!
//! | field | meaning |
//! |---|---|
//! | `name` | name of the device; `null` of one that the module's parameters made |
//! | `state` | `off`, `attaching`, `on` or `detaching`; `unknown` where the driver does not say |
//! | `device` | path of the device, or `null` while it is not on |
//! | `size` | bytes of the disk, or `null` |
//! | `layers` | number of layers |
//! | `file_bytes` | bytes of all layer files |
//! | `present_bytes` | bytes of them that are stored here: a sparse file has fewer than its size |
//! | `error` | why the last attach failed, or `null` |
//! | `problem` | what the driver does not say, and why, or `null`; such a field has the value of a device that is off |
//!
//! `vbdctl status --json` is a [`DeviceReport`]: the same, with a list for `layers` and in addition
//!
//! | field | meaning |
//! |---|---|
//! | `requested_size` | virtual size that was asked for; 0 = what the layers say |
//! | `verify` | whether blocks' checksums are verified |
//! | `direct` | whether layers that are not compressed are read past the page cache |
//! | `partscan` | whether the kernel looks for partitions |
//! | `sector_size` | bytes of a logical block of the disk |
//! | `read_only` | whether the disk is |
//! | `counters` | the driver's counters by name; more may come |
//! | `holders` | who uses the disk: a [`Holder`] each |
//!
//! and of a layer, a [`LayerState`]:
//!
//! | field | meaning |
//! |---|---|
//! | `number` | 0 = bottom |
//! | `path` | path of the file when it was attached |
//! | `file_size`, `present_bytes` | of the file; `null` if it cannot be seen from here |
//! | `format` | `plain`, `lz4` or `zstd`, or `null` |
//! | `wrapper` | `ustar` or `pax`, or `null` |
//! | `virtual_size` | bytes of the disk as the layer says it, or `null` |
//! | `problem` | why something of this is not known, or `null` |

mod text;

use crate::control::holder::{self, Holder};
use crate::control::identity::{Change, Identity};
use crate::control::{disk, is_gone, Control, LayerEntry, Slot};
use crate::error::{Error, Result};
use crate::image::{input, Layer};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use vbd_format::tar::Wrapper;

/// All devices.
#[derive(Clone, Debug, Serialize)]
pub struct List {
    /// By name.
    pub devices: Vec<DeviceSummary>,
}

/// A device, in short.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the table above describes the fields")]
pub struct DeviceSummary {
    pub name: Option<String>,
    pub state: String,
    pub device: Option<String>,
    pub size: Option<u64>,
    pub layers: u64,
    pub file_bytes: u64,
    pub present_bytes: u64,
    pub error: Option<String>,
    pub problem: Option<String>,
}

/// A device, at length.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the tables above describe the fields")]
pub struct DeviceReport {
    pub name: String,
    pub state: String,
    pub device: Option<String>,
    pub size: Option<u64>,
    pub requested_size: u64,
    pub verify: bool,
    pub direct: bool,
    pub partscan: bool,
    pub sector_size: u32,
    pub read_only: bool,
    pub layers: Vec<LayerState>,
    pub file_bytes: u64,
    pub present_bytes: u64,
    pub counters: BTreeMap<String, u64>,
    pub error: Option<String>,
    pub problem: Option<String>,
    pub holders: Vec<Holder>,
}

/// A layer of a device.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the table above describes the fields")]
pub struct LayerState {
    pub number: u8,
    pub path: String,
    pub file_size: Option<u64>,
    pub present_bytes: Option<u64>,
    pub format: Option<&'static str>,
    pub wrapper: Option<&'static str>,
    pub virtual_size: Option<u64>,
    pub problem: Option<String>,
}

impl List {
    /// Describes all devices there are.
    pub fn of(control: &Control) -> Result<Self> {
        let mut devices = Vec::new();
        for name in control.names()? {
            let slot = control.slot(&name);
            // Or it was removed while it was looked at; one of the name may be there again.
            if let Ok(summary) = DeviceSummary::of(&slot) {
                devices.push(summary);
            }
        }
        for disk in disk::of_parameters(control) {
            devices.push(DeviceSummary {
                name: None,
                state: "on".to_owned(),
                device: Some(disk::node(&disk).display().to_string()),
                size: disk::size(&disk),
                layers: 0,
                file_bytes: 0,
                present_bytes: 0,
                error: None,
                problem: None,
            });
        }
        Ok(Self { devices })
    }
}

/// Whether what the driver says belongs together: while it attaches or detaches, it may not.
fn is_settled(state: &str) -> bool {
    matches!(state, "on" | "off")
}

/// The device was removed.
struct Gone(io::Error);

/// What the driver says of a device, as far as it does: an attribute that cannot be read is told, and
/// hides nothing else.
#[derive(Default)]
struct Answers {
    problems: Vec<String>,
}

impl Answers {
    /// What was asked for as `name`, or the value that it has while a device is off.
    fn take<T: Default>(&mut self, name: &str, answer: io::Result<T>) -> Result<T, Gone> {
        answer.or_else(|error| match is_gone(&error) {
            true => Err(Gone(error)),
            false => {
                self.problems
                    .push(format!("{name} cannot be read: {error}"));
                Ok(T::default())
            }
        })
    }

    fn state(&mut self, slot: &Slot) -> Result<String, Gone> {
        let state = self.take("state", slot.state())?;
        Ok(match state.is_empty() {
            true => "unknown".to_owned(),
            false => state,
        })
    }

    fn read(&mut self, slot: &Slot, attribute: &str) -> Result<String, Gone> {
        self.take(attribute, slot.read(attribute))
    }

    /// What was not answered.
    fn problem(self) -> Option<String> {
        filled(self.problems.join("; "))
    }
}

impl DeviceSummary {
    fn of(slot: &Slot) -> Result<Self, Gone> {
        let mut answers = Answers::default();
        let state = answers.state(slot)?;
        let mut summary = Self {
            name: Some(slot.name().to_owned()),
            device: None,
            size: None,
            layers: 0,
            file_bytes: 0,
            present_bytes: 0,
            error: None,
            problem: None,
            state,
        };
        if is_settled(&summary.state) {
            let layers = answers.take("layers", slot.layers())?;
            let layers: Vec<LayerState> = layers.iter().map(LayerState::of_file).collect();
            let disk = slot.disk();
            summary.layers = layers.len() as u64;
            (summary.file_bytes, summary.present_bytes) = sums(&layers);
            summary.size = disk.as_deref().and_then(disk::size);
            summary.device = disk.map(|disk| disk::node(&disk).display().to_string());
            summary.error = filled(answers.read(slot, "error")?);
        }
        summary.problem = answers.problem();
        Ok(summary)
    }
}

impl DeviceReport {
    /// Describes a device.
    pub fn of(control: &Control, slot: &Slot) -> Result<Self> {
        Self::read(control, slot)
            .map_err(|Gone(error)| Error::device(slot.name(), error.to_string()))
    }

    fn read(control: &Control, slot: &Slot) -> Result<Self, Gone> {
        let mut answers = Answers::default();
        let state = answers.state(slot)?;
        let mut report = Self {
            name: slot.name().to_owned(),
            device: None,
            size: None,
            requested_size: 0,
            verify: true,
            direct: false,
            partscan: false,
            sector_size: 512,
            read_only: true,
            layers: Vec::new(),
            file_bytes: 0,
            present_bytes: 0,
            counters: BTreeMap::new(),
            error: None,
            problem: None,
            holders: Vec::new(),
            state,
        };
        if !is_settled(&report.state) {
            report.problem = answers.problem();
            return Ok(report);
        }
        report.requested_size = answers.read(slot, "size")?.parse().unwrap_or(0);
        report.verify = answers.read(slot, "verify")? != "0";
        report.direct = answers.read(slot, "direct")? == "1";
        report.partscan = answers.read(slot, "partscan")? == "1";
        let size = answers.read(slot, "logical_block_size")?;
        report.sector_size = size.parse().unwrap_or(512);
        report.read_only = answers.read(slot, "read_only")? != "0";
        let layers = answers.take("layers", slot.layers())?;
        report.layers = layers.iter().map(LayerState::of).collect();
        (report.file_bytes, report.present_bytes) = sums(&report.layers);
        report.counters = answers
            .read(slot, "stat")?
            .lines()
            .filter_map(|line| {
                let (name, value) = line.split_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect();
        report.error = filled(answers.read(slot, "error")?);
        report.problem = answers.problem();
        if let Some(disk) = slot.disk() {
            report.size = disk::size(&disk);
            report.device = Some(disk::node(&disk).display().to_string());
            report.holders = holder::find(control, &disk);
        }
        Ok(report)
    }
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn sums(layers: &[LayerState]) -> (u64, u64) {
    let size = layers.iter().filter_map(|layer| layer.file_size).sum();
    let present = layers.iter().filter_map(|layer| layer.present_bytes).sum();
    (size, present)
}

impl LayerState {
    /// What the file system says of the layer.
    fn of_file(entry: &LayerEntry) -> Self {
        let mut state = Self {
            number: entry.number,
            path: entry.path.display().to_string(),
            file_size: None,
            present_bytes: None,
            format: None,
            wrapper: None,
            virtual_size: None,
            problem: None,
        };
        let file = match input::open(&entry.path) {
            Err(error) => {
                state.problem = Some(match error {
                    Error::Io { error, .. } => format!("cannot be looked at: {error}"),
                    Error::Unfit { reason, .. } => reason,
                    error => error.to_string(),
                });
                return state;
            }
            Ok(file) => file,
        };
        let (now, metadata) = match Identity::of(&file).and_then(|now| Ok((now, file.metadata()?)))
        {
            Err(error) => {
                state.problem = Some(format!("cannot be looked at: {error}"));
                return state;
            }
            Ok(found) => found,
        };
        let change = entry.identity.change(&now);
        if change != Some(Change::Replaced) {
            state.file_size = Some(metadata.len());
            state.present_bytes = Some(metadata.blocks() * 512);
        }
        state.problem = change.map(|change| {
            match change {
                Change::Replaced => "another file has the path now",
                Change::Written => {
                    "was written to since it was attached: what the disk shows of it is undefined"
                }
                Change::Attributes => {
                    "got other names, owner or mode since it was attached, or other bytes with the \
                     old time"
                }
            }
            .to_owned()
        });
        state
    }

    /// The same, and what the layer says of itself.
    fn of(entry: &LayerEntry) -> Self {
        let mut state = Self::of_file(entry);
        if state.problem.is_some() {
            return state;
        }
        match Layer::open(&entry.path) {
            Ok((layer, _)) => {
                // Of a block device the file system says nothing.
                if state.file_size == Some(0) {
                    state.file_size = Some(layer.file_size());
                    state.present_bytes = state.file_size;
                }
                state.format = Some(
                    layer
                        .zfile()
                        .map_or("plain", |zfile| zfile.algorithm.name()),
                );
                state.wrapper = match layer.wrapper {
                    Wrapper::None => None,
                    Wrapper::Ustar => Some("ustar"),
                    Wrapper::Pax => Some("pax"),
                };
                state.virtual_size = Some(layer.lsmt.virtual_size);
            }
            Err(error) => state.problem = Some(error.to_string()),
        }
        state
    }
}
