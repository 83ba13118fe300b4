// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A disk, as the kernel shows it: `/dev/vbdN` and `/sys/block/vbdN`.

use super::Control;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The device node of the disk `vbdN`.
pub fn node(disk: &str) -> PathBuf {
    Path::new("/dev").join(disk)
}

fn sysfs(disk: &str) -> PathBuf {
    Path::new("/sys/block").join(disk)
}

/// Bytes of the disk.
pub fn size(disk: &str) -> Option<u64> {
    let sectors: u64 = text(&sysfs(disk).join("size"))?.parse().ok()?;
    sectors.checked_mul(512)
}

/// Whether the disk's node is there, and is that disk's.
pub(super) fn has_node(disk: &str) -> bool {
    number(disk).is_some_and(|number| super::node::is(&node(disk), number))
}

/// The disk's device number.
pub(super) fn number(disk: &str) -> Option<(u32, u32)> {
    device_number(&text(&sysfs(disk).join("dev"))?)
}

/// Disks that the module's parameters made.
pub fn of_parameters(control: &Control) -> Vec<String> {
    let mut disks = all();
    for name in control.names().unwrap_or_default() {
        if let Some(disk) = control.slot(&name).disk() {
            disks.remove(&disk);
        }
        // It may have a disk already, and not be able to say which.
        if matches!(
            control.slot(&name).state().as_deref(),
            Ok("attaching" | "detaching")
        ) {
            return Vec::new();
        }
    }
    disks
        .into_iter()
        .filter(|disk| is_parameters(disk))
        .collect()
}

/// Whether a disk that no directory of configfs knows is one that the module's parameters made:
/// that is the first disk of all.
pub(super) fn is_parameters(disk: &str) -> bool {
    disk == "vbd0" && sysfs(disk).exists()
}

/// Disks of the driver.
fn all() -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/sys/block") else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            name.strip_prefix("vbd")
                .is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
        })
        .collect()
}

/// The disk and its partitions: kernel names and device numbers.
pub(super) fn parts(disk: &str) -> Vec<(String, (u32, u32))> {
    let mut found = Vec::new();
    let mut take = |name: &str, dir: &Path| {
        if let Some(number) = text(&dir.join("dev")).and_then(|text| device_number(&text)) {
            found.push((name.to_owned(), number));
        }
    };
    take(disk, &sysfs(disk));
    if let Ok(entries) = fs::read_dir(sysfs(disk)) {
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            if let Some(name) = name.to_str().filter(|name| name.starts_with(disk)) {
                take(name, &entry.path());
            }
        }
    }
    found
}

/// The disk of a partition that is there, such as `vbd0p6`; any other name is returned as it is.
pub(super) fn of_part(name: &str) -> &str {
    match name.rsplit_once('p') {
        Some((disk, _)) if sysfs(disk).join(name).is_dir() => disk,
        _ => name,
    }
}

/// Names of the devices that hold a disk or partition, such as `dm-0 (web)`.
pub(super) fn holders(disk: &str, part: &str) -> Vec<String> {
    let mut dir = sysfs(disk);
    if part != disk {
        dir.push(part);
    }
    let Ok(entries) = fs::read_dir(dir.join("holders")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .map(|name| match text(&sysfs(&name).join("dm/name")) {
            Some(dm) => format!("{name} ({dm})"),
            None => name,
        })
        .collect()
}

/// Loop devices and what they show.
pub(super) fn loops() -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let file = text(&entry.path().join("loop/backing_file"))?;
            Some((entry.file_name().into_string().ok()?, PathBuf::from(file)))
        })
        .collect()
}

/// `major:minor` as numbers.
pub(super) fn device_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Major and minor of what `stat` says.
pub(super) fn split(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_end_matches('\n').to_owned())
}
