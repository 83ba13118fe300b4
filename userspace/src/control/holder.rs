// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Who uses a disk: mounts, programs, other devices.

use super::{disk, node, Control};
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
    /// A mount's place; a device's name; a file system's type, if that is known.
    pub place: Option<String>,
    /// A program's process; of a mount in another mount namespace, a process in that; of a file system
    /// without a mount, a process that has a file of it open.
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
    /// Space that the kernel swaps to.
    Swap,
    /// A file system without a mount that can be seen: an overlay has it, or it was unmounted lazily.
    Filesystem,
    /// Another device of this driver that is off and has it as a layer.
    Named,
    /// A program that has it open.
    Program,
}

impl Holder {
    /// Whether it will not go away by itself.
    pub(super) fn lasts(&self) -> bool {
        // An unmount may be under way, and so may an attach.
        !matches!(self.kind, Kind::Program | Kind::Filesystem | Kind::Named)
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
            Kind::Swap => write!(f, "{} is swap space", self.disk)?,
            Kind::Filesystem => {
                let kind = self.place.as_deref().unwrap_or("a file system");
                write!(
                    f,
                    "{} is used by {kind} without a mount that can be seen (an overlay, or a lazy unmount)",
                    self.disk
                )?;
            }
            Kind::Named => write!(
                f,
                "{} is named as a layer of {place}, which is off",
                self.disk
            )?,
            Kind::Program => write!(f, "{} is open", self.disk)?,
        }
        match (self.pid, &self.command, self.kind) {
            (Some(pid), Some(command), Kind::Program) => write!(f, " in process {pid} ({command})"),
            (Some(pid), Some(command), Kind::Filesystem) => {
                write!(f, ", with files open in process {pid} ({command})")
            }
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
    }
    of_layers(control, &parts, &mut found);
    of_swaps(&parts, &mut found);
    of_processes(&parts, &mut found);
    found.into_iter().collect()
}

/// Other devices of the driver that have one of the parts as a layer, by whatever path.
fn of_layers(control: &Control, parts: &Parts, found: &mut BTreeSet<Holder>) {
    for other in control.names().unwrap_or_default() {
        let slot = control.slot(&other);
        let kind = match slot.state().as_deref() {
            Ok("on") => Kind::Layer,
            Ok("off") => Kind::Named,
            _ => continue,
        };
        for layer in slot.layers().unwrap_or_default() {
            let part = part_of(&layer.path, parts);
            found.extend(part.map(|part| of_device(kind, part, other.clone())));
        }
    }
}

fn of_swaps(parts: &Parts, found: &mut BTreeSet<Holder>) {
    let text = fs::read("/proc/swaps").unwrap_or_default();
    for path in swaps(&String::from_utf8_lossy(&text)) {
        let part = part_of(&path, parts);
        found.extend(part.map(|part| Holder {
            place: None,
            ..of_device(Kind::Swap, part, String::new())
        }));
    }
}

/// What `/proc/swaps` names, below its headline.
fn swaps(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().skip(1);
    lines
        .filter_map(|line| line.split_whitespace().next())
        .map(|path| unescaped(path).into())
        .collect()
}

/// The part whose node `path` is.
fn part_of<'a>(path: &Path, parts: &'a Parts) -> Option<&'a str> {
    let part = parts.iter().find(|(_, number)| node::is(path, *number));
    part.map(|(part, _)| part.as_str())
}

/// The type of the file system that has a part, if the kernel shows that.
fn filesystem(part: &str) -> Option<String> {
    // Their entries have names that users choose.
    const OTHERS: [&str; 2] = ["bpf", "cgroup"];
    let kinds = fs::read_dir("/sys/fs").ok()?.filter_map(Result::ok);
    kinds
        .filter_map(|kind| kind.file_name().into_string().ok())
        .filter(|kind| !OTHERS.contains(&kind.as_str()))
        .find(|kind| {
            let dir = Path::new("/sys/fs").join(kind);
            let of_volume =
                |volume: fs::DirEntry| volume.path().join("devices").join(part).exists();
            dir.join(part).exists()
                || fs::read_dir(&dir)
                    .is_ok_and(|entries| entries.filter_map(Result::ok).any(of_volume))
        })
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
        for (part, kind) in open_in(&proc, parts) {
            found.insert(Holder {
                kind,
                disk: part.to_owned(),
                place: None,
                pid: Some(pid),
                command: Some(command(&proc)),
            });
        }
    }
    of_filesystems(parts, found);
}

/// File systems that are mounted where nobody can see it, in place of the files of them that are open:
/// with a mount those tell nothing more.
fn of_filesystems(parts: &Parts, found: &mut BTreeSet<Holder>) {
    for (part, _) in parts {
        let of = |kind| move |holder: &Holder| holder.kind == kind && holder.disk == *part;
        let mounted = found.iter().any(of(Kind::Mount));
        let files: Vec<Holder> = found
            .iter()
            .filter(|h| of(Kind::Filesystem)(h))
            .cloned()
            .collect();
        found.retain(|holder| !of(Kind::Filesystem)(holder));
        if mounted {
            continue;
        }
        let kind = filesystem(part);
        if kind.is_some() && files.is_empty() {
            let kind = kind.clone().unwrap_or_default();
            found.insert(of_device(Kind::Filesystem, part, kind));
        }
        found.extend(files.into_iter().map(|file| Holder {
            place: kind.clone(),
            ..file
        }));
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

/// The parts that a process has open, and those on which it has a file or a directory.
fn open_in<'a>(proc: &Path, parts: &'a Parts) -> BTreeSet<(&'a str, Kind)> {
    let links = fs::read_dir(proc.join("fd")).into_iter().flatten();
    let links = links.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found = BTreeSet::new();
    for path in links.chain(["cwd", "root", "exe"].map(|name| proc.join(name))) {
        // The link's own text is enough to pass over what is no device and no file.
        let link: PathBuf = fs::read_link(&path).unwrap_or_default();
        if !link.is_absolute() {
            continue;
        }
        let Ok(stat) = fs::metadata(&path) else {
            continue;
        };
        let (number, kind) = match stat.file_type().is_block_device() {
            true => (stat.rdev(), Kind::Program),
            false => (stat.dev(), Kind::Filesystem),
        };
        let number = disk::split(number);
        let part = parts.iter().find(|(_, part)| *part == number);
        found.extend(part.map(|(part, _)| (part.as_str(), kind)));
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
    fn swap_space_is_found() {
        let text = "Filename\t\tType\t\tSize\tUsed\tPriority\n\
                    /dev/vbd3p1   partition\t1024\t0\t-2\n/a\\040b  file\t4\t0\t-3\n";
        assert_eq!(swaps(text), [Path::new("/dev/vbd3p1"), Path::new("/a b")]);
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
        holder.kind = Kind::Filesystem;
        holder.place = Some("ext4".to_owned());
        let begin = "vbd3 is used by ext4 without a mount that can be seen";
        let text = holder.to_string();
        assert!(text.starts_with(begin), "{text}");
        assert!(
            text.ends_with(", with files open in process 7 (sleep)"),
            "{text}"
        );
        holder.kind = Kind::Device;
        holder.place = Some("/mnt".to_owned());
        holder.pid = None;
        assert_eq!(holder.to_string(), "vbd3 is held by /mnt");
    }
}
