// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Devices in words.

use super::{DeviceReport, LayerState, List};
use crate::error::escaped;
use crate::report::{row, size};
use std::fmt;

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![[
            "NAME", "DEVICE", "STATE", "SIZE", "LAYERS", "PRESENT", "ERROR",
        ]
        .map(str::to_owned)];
        for device in &self.devices {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            rows.push([
                or_dash(&device.name),
                or_dash(&device.device),
                device.state.clone(),
                device.size.map_or_else(|| "-".to_owned(), short),
                device.layers.to_string(),
                short(device.present_bytes),
                words(&device.error, &device.problem),
            ]);
        }
        let mut widths = [0; 7];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                line += &format!("{cell:<width$}  ");
            }
            writeln!(f, "{}", escaped(line.trim_end()))?;
        }
        Ok(())
    }
}

/// What is wrong with a device, in a cell.
fn words(error: &Option<String>, problem: &Option<String>) -> String {
    let words: Vec<&str> = [problem, error]
        .into_iter()
        .flatten()
        .map(|s| &**s)
        .collect();
    words.join("; ")
}

/// A number of bytes in few characters.
fn short(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["", "K", "M", "G", "T", "P"] {
        if value < 1024.0 {
            return match value.fract() == 0.0 {
                true => format!("{value}{unit}"),
                false => format!("{value:.1}{unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1}E")
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", escaped(&self.name), self.state)?;
        if let Some(device) = &self.device {
            row(f, "device", format_args!("{device}"))?;
        }
        if let Some(bytes) = self.size {
            row(f, "size", format_args!("{}", size(bytes)))?;
        }
        if self.requested_size != 0 {
            row(
                f,
                "size asked",
                format_args!("{}", size(self.requested_size)),
            )?;
        }
        let mode = if self.read_only {
            "read-only"
        } else {
            "writable"
        };
        let verify = if self.verify {
            "verified"
        } else {
            "not verified"
        };
        let direct = if self.direct { ", direct" } else { "" };
        let partscan = if self.partscan { ", partitions" } else { "" };
        row(
            f,
            "mode",
            format_args!("{mode}, block checksums {verify}{direct}{partscan}"),
        )?;
        row(f, "sectors", format_args!("of {} bytes", self.sector_size))?;
        for layer in &self.layers {
            row(
                f,
                &format!("layer {}", layer.number),
                format_args!("{}", layer.path),
            )?;
            row(f, "", format_args!("{layer}"))?;
        }
        row(f, "files", format_args!("{}", size(self.file_bytes)))?;
        row(f, "present", format_args!("{}", size(self.present_bytes)))?;
        for (name, value) in &self.counters {
            row(f, &format!("{name} "), format_args!("{value}"))?;
        }
        for holder in &self.holders {
            row(f, "in use", format_args!("{holder}"))?;
        }
        if let Some(problem) = &self.problem {
            row(f, "not known", format_args!("{problem}"))?;
        }
        match &self.error {
            Some(error) => row(f, "last error", format_args!("{error}")),
            None => Ok(()),
        }
    }
}

impl fmt::Display for LayerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.format.map(str::to_owned));
        words.extend(self.wrapper.map(|form| format!("in {form} tar")));
        words.extend(self.file_size.map(size));
        if self.present_bytes < self.file_size {
            words.extend(
                self.present_bytes
                    .map(|bytes| format!("{} present", size(bytes))),
            );
        }
        words.extend(
            self.virtual_size
                .map(|bytes| format!("disk of {}", size(bytes))),
        );
        words.extend(self.problem.clone());
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::device::DeviceSummary;

    #[test]
    fn sizes_are_short() {
        let cases = [
            (0, "0"),
            (512, "512"),
            (4096, "4K"),
            (1_500_000, "1.4M"),
            (5 << 30, "5G"),
            (u64::MAX, "16.0E"),
        ];
        for (bytes, text) in cases {
            assert_eq!(short(bytes), text);
        }
    }

    #[test]
    fn the_list_is_aligned() {
        let device = |name: &str, error: Option<&str>| DeviceSummary {
            name: Some(name.to_owned()),
            state: "on".to_owned(),
            device: Some("/dev/vbd0".to_owned()),
            size: Some(1 << 30),
            layers: 2,
            file_bytes: 10,
            present_bytes: 4096,
            error: error.map(str::to_owned),
            problem: None,
        };
        let list = List {
            devices: vec![device("a", None), device("longer", Some("layer 0: bad"))],
        };
        assert_eq!(
            list.to_string(),
            "NAME    DEVICE     STATE  SIZE  LAYERS  PRESENT  ERROR\n\
             a       /dev/vbd0  on     1G    2       4K\n\
             longer  /dev/vbd0  on     1G    2       4K       layer 0: bad\n"
        );
    }
}
