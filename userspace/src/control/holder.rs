// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Who uses a disk: mounts, programs, other devices.

use super::{disk, Control};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Someone who uses a disk or one of its partitions.
///
/// The JSON has all fields; those that say nothing of a kind are `null`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Holder {
    /// What it is.
    pub kind: Kind,
    /// The disk or partition that it uses, such as `vbd3p1`.
    pub disk: String,
    /// A mount's place; a device's name.
    pub place: Option<String>,
    /// A program's process; of a mount in another mount namespace, a process in that.
    pub pid: Option<u32>,
    /// The process's command.
    pub command: Option<String>,
}

/// Kinds of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A mounted file system.
    Mount,
    /// A device on top of it, such as one of device-mapper.
    Device,
    /// A loop device that shows it.
    Loop,
    /// Another device of this driver, one of whose layers it is.
    Layer,
    /// A program that has it open.
    Program,
}

impl Holder {
    /// Whether it will not go away by itself.
    pub(super) fn lasts(&self) -> bool {
        self.kind != Kind::Program
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_deref().unwrap_or("?");
        match self.kind {
            Kind::Mount => write!(f, "{} is mounted on {place}", self.disk)?,
            Kind::Device => write!(f, "{} is held by {place}", self.disk)?,
            Kind::Loop => write!(f, "{} is shown by {place}", self.disk)?,
            Kind::Layer => write!(f, "{} is a layer of {place}", self.disk)?,
            Kind::Program => write!(f, "{} is open", self.disk)?,
        }
        match (self.pid, &self.command, self.kind) {
            (Some(pid), Some(command), Kind::Program) => write!(f, " in process {pid} ({command})"),
            (Some(pid), Some(command), _) => {
                write!(f, " in the mount namespace of process {pid} ({command})")
            }
            _ => Ok(()),
        }
    }
}

/// Everyone who can be seen to use the disk. What the caller may not look at is left out.
pub fn find(control: &Control, name: &str) -> Vec<Holder> {
    let parts = disk::parts(name);
    let mut found = BTreeSet::new();
    for (part, _) in &parts {
        for holder in disk::holders(name, part) {
            found.insert(of_device(Kind::Device, part, holder));
        }
        let node = disk::node(part);
        for (name, file) in disk::loops() {
            if file == node {
                found.insert(of_device(Kind::Loop, part, name));
            }
        }
        for other in control.names().unwrap_or_default() {
            let slot = control.slot(&other);
            // Only those that are on use their layers for long.
            if !matches!(slot.state().as_deref(), Ok("on")) {
                continue;
            }
            if slot
                .layers()
                .is_ok_and(|layers| layers.iter().any(|layer| layer.path == node))
            {
                found.insert(of_device(Kind::Layer, part, other));
            }
        }
    }
    of_processes(&parts, &mut found);
    found.into_iter().collect()
}

fn of_device(kind: Kind, part: &str, place: String) -> Holder {
    Holder {
        kind,
        disk: part.to_owned(),
        place: Some(place),
        pid: None,
        command: None,
    }
}

type Parts = [(String, (u32, u32))];

/// Looks at every process: at its open files, and once at each mount namespace.
fn of_processes(parts: &Parts, found: &mut BTreeSet<Holder>) {
    let own = fs::metadata("/proc/self/ns/mnt").map(|ns| ns.ino()).ok();
    let mut namespaces = BTreeSet::new();
    let Ok(entries) = fs::read_dir("/proc") else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let proc = entry.path();
        let namespace = fs::metadata(proc.join("ns/mnt")).map(|ns| ns.ino()).ok();
        if namespace.is_some_and(|ns| namespaces.insert(ns)) {
            let mounts = fs::read(proc.join("mountinfo")).unwrap_or_default();
            for (part, place) in mounted(&String::from_utf8_lossy(&mounts), parts) {
                let foreign = namespace != own;
                found.insert(Holder {
                    kind: Kind::Mount,
                    disk: part.to_owned(),
                    place: Some(place),
                    pid: foreign.then_some(pid),
                    command: foreign.then(|| command(&proc)),
                });
            }
        }
        for part in open_in(&proc, parts) {
            found.insert(Holder {
                kind: Kind::Program,
                disk: part.to_owned(),
                place: None,
                pid: Some(pid),
                command: Some(command(&proc)),
            });
        }
    }
}

/// The mounts of the parts, from the text of a `mountinfo`.
fn mounted<'a>(mountinfo: &str, parts: &'a Parts) -> Vec<(&'a str, String)> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let mut fields = line.split(' ');
        let (Some(number), Some(place)) = (fields.nth(2), fields.nth(1)) else {
            continue;
        };
        let number = disk::device_number(number);
        // Some file systems have numbers of their own, and only their source tells.
        let source = fields
            .skip_while(|field| *field != "-")
            .nth(2)
            .map(unescaped);
        let part = parts.iter().find(|(part, part_number)| {
            number == Some(*part_number)
                || source.as_deref().map(Path::new) == Some(&disk::node(part))
        });
        found.extend(part.map(|(part, _)| (part.as_str(), unescaped(place))));
    }
    found
}

/// A field of `mountinfo`, in which white space and backslashes are octal.
fn unescaped(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

/// The parts that a process has open.
fn open_in<'a>(proc: &Path, parts: &'a Parts) -> Vec<&'a str> {
    let Ok(entries) = fs::read_dir(proc.join("fd")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        // The link's own text is enough to pass over what is no device.
        let link: PathBuf = fs::read_link(entry.path()).unwrap_or_default();
        if !link.is_absolute() {
            continue;
        }
        let Ok(stat) = fs::metadata(entry.path()) else {
            continue;
        };
        if stat.file_type().is_block_device() {
            let number = disk::split(stat.rdev());
            let part = parts.iter().find(|(_, part)| *part == number);
            found.extend(part.map(|(part, _)| part.as_str()));
        }
    }
    found
}

fn command(proc: &Path) -> String {
    let comm = fs::read(proc.join("comm")).unwrap_or_default();
    String::from_utf8_lossy(&comm).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_number_and_by_source() {
        let parts = [
            ("vbd3".to_owned(), (252, 16)),
            ("vbd3p1".to_owned(), (252, 17)),
        ];
        let info = "22 1 0:20 / / rw - ext4 /dev/vda rw\n\
                    30 22 252:16 / /mnt/a\\040b\\134c ro,relatime shared:1 - ext4 /dev/root ro\n\
                    31 22 0:44 / /btrfs ro - btrfs /dev/vbd3p1 ro\n\
                    32 22 252:18 / /other ro - ext4 /dev/vbd30 ro\n\
                    broken line\n";
        assert_eq!(
            mounted(info, &parts),
            [
                ("vbd3", "/mnt/a b\\c".to_owned()),
                ("vbd3p1", "/btrfs".to_owned())
            ]
        );
        assert_eq!(unescaped(r"\x\04"), r"\x\04");
    }

    #[test]
    fn holders_are_said_in_words() {
        let mut holder = of_device(Kind::Mount, "vbd3", "/mnt".to_owned());
        assert_eq!(holder.to_string(), "vbd3 is mounted on /mnt");
        holder.pid = Some(7);
        holder.command = Some("sleep".to_owned());
        assert_eq!(
            holder.to_string(),
            "vbd3 is mounted on /mnt in the mount namespace of process 7 (sleep)"
        );
        holder.kind = Kind::Program;
        assert_eq!(holder.to_string(), "vbd3 is open in process 7 (sleep)");
        holder.kind = Kind::Device;
        holder.pid = None;
        assert_eq!(holder.to_string(), "vbd3 is held by /mnt");
    }
}
