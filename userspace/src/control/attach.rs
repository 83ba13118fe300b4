// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Attaching a stack: once, whoever asks for it how often.

use super::identity::{Change, Identity};
use super::udev::Moment;
use super::{disk, node, udev, Control, LayerEntry, Lock, Slot, Wait};
use crate::error::{complain, Error, Result};
use crate::image::input;
use signal_hook::consts::TERM_SIGNALS;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use twox_hash::XxHash3_128;
use vbd_format::limits;

/// How a stack is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the disk; 0 = what the layers say.
    pub size: u64,
    /// Whether blocks' checksums are verified.
    pub verify: bool,
    /// Whether layers that are not compressed are read past the page cache.
    pub direct: bool,
    /// Whether the kernel looks for partitions.
    pub partscan: bool,
    /// Bytes of a logical block of the disk, one of [`SECTOR_SIZES`].
    pub sector_size: u32,
}

/// Sizes that a logical block of a disk can have, in bytes.
pub const SECTOR_SIZES: [u32; 2] = [512, 4096];

impl Default for Options {
    fn default() -> Self {
        Self {
            size: 0,
            verify: true,
            direct: false,
            partscan: false,
            sector_size: 512,
        }
    }
}

impl Options {
    /// The driver's attributes that say so, and their values.
    fn attributes(&self) -> [(&'static str, u64); 5] {
        [
            ("size", self.size),
            ("verify", u64::from(self.verify)),
            ("direct", u64::from(self.direct)),
            ("partscan", u64::from(self.partscan)),
            ("logical_block_size", u64::from(self.sector_size)),
        ]
    }
}

/// An open layer file.
#[derive(Debug)]
struct Opened {
    path: PathBuf,
    file: File,
    identity: Identity,
}

/// A stack that is to be attached: its files are open, so what their names mean is settled.
#[derive(Debug)]
pub struct Stack {
    layers: Vec<Opened>,
    options: Options,
}

impl Stack {
    /// Opens the layer files, bottom first.
    pub fn open(paths: &[PathBuf], options: Options) -> Result<Self> {
        if paths.is_empty() || paths.len() > limits::MAX_LAYERS {
            let rule = match paths {
                [] => vbd_format::Rule::StackEmpty,
                _ => vbd_format::Rule::StackLayers,
            };
            let count = paths.len() as u64;
            return Err(Error::Stack(vbd_format::Error::new(rule, 0, count)));
        }
        let mut layers = Vec::with_capacity(paths.len());
        for path in paths {
            let file = input::open(path)?;
            let identity = Identity::of(&file).map_err(Error::io(path, "cannot stat"))?;
            layers.push(Opened {
                path: path.clone(),
                file,
                identity,
            });
        }
        Ok(Self { layers, options })
    }

    /// A name for the stack: the same for the same files, as long as they are not changed, and options.
    pub fn name(&self) -> String {
        let values = self
            .options
            .attributes()
            .map(|(_, value)| value.to_string());
        let mut text = values.join(" ");
        for layer in &self.layers {
            text += "\n";
            text += layer.identity.text();
        }
        let hash = XxHash3_128::oneshot(text.as_bytes());
        format!("stack-{:016x}", hash >> 64)
    }

    /// Fails unless the device, which is on, is this stack.
    fn is_attached_as(&self, slot: &Slot) -> Result<()> {
        let difference = self
            .difference(slot)
            .map_err(Error::io(&slot.path, "cannot compare"))?;
        difference.map_or(Ok(()), |difference| {
            let reason = format!("is attached as another stack: {difference}");
            Err(Error::device(&slot.name, reason))
        })
    }

    /// What a device that is on has that this stack has not; [`None`] if they are equal.
    fn difference(&self, slot: &Slot) -> io::Result<Option<String>> {
        for (attribute, wanted) in self.options.attributes() {
            let there = slot.read(attribute)?;
            if there != wanted.to_string() {
                return Ok(Some(format!("{attribute} is {there}, not {wanted}")));
            }
        }
        Ok(differing_layer(&slot.layers()?, &self.layers))
    }
}

fn differing_layer(there: &[LayerEntry], wanted: &[Opened]) -> Option<String> {
    if there.len() != wanted.len() {
        return Some(format!(
            "it has {} layers, not {}",
            there.len(),
            wanted.len()
        ));
    }
    for (there, wanted) in there.iter().zip(wanted) {
        let Some(change) = there.identity.change(&wanted.identity) else {
            continue;
        };
        let number = there.number;
        let path = there.path.display();
        let same_path = || fs::canonicalize(&wanted.path).is_ok_and(|path| path == there.path);
        return Some(match change {
            Change::Replaced if same_path() => {
                format!("layer {number} ({path}) was another file when it was attached")
            }
            Change::Replaced => {
                format!("layer {number} is {path}, not {}", wanted.path.display())
            }
            Change::Written => format!("layer {number} ({path}) was written to since then"),
            Change::Attributes => format!(
                "layer {number} ({path}) got other names, owner or mode since then, or other bytes \
                 with the old time"
            ),
        });
    }
    None
}

/// A device that is attached. Unless it is kept, it goes again with this, if it came with it.
#[derive(Debug)]
#[must_use]
pub struct Attached {
    node: PathBuf,
    /// Before the lock, so that it is done while the lock is held.
    undo: Undo,
    _lock: Lock,
}

impl Attached {
    /// Path of the disk.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Leaves the device as it is.
    pub fn keep(mut self) {
        self.undo.0 = None;
    }
}

/// Attaches a stack as `name`, unless it is attached so already.
///
/// A device of that name that is off, as a program that was killed leaves behind, is made anew. When
/// anything fails, the device is removed.
pub fn attach(control: &Control, name: &str, stack: &Stack, timeout: Duration) -> Result<Attached> {
    let deadline = Instant::now() + timeout;
    let slot = control.slot(name);
    // A signal must not leave half a device behind. The wait for what there is to do is bounded.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in TERM_SIGNALS {
        signal_hook::flag::register(*signal, Arc::clone(&stop))
            .map_err(Error::io(&slot.path, "cannot watch for signals"))?;
    }
    let lock = loop {
        match fs::create_dir(&slot.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io(&slot.path, "cannot make the device")(error));
            }
            _ => {}
        }
        if let Some(lock) = slot.lock(deadline)? {
            break lock;
        }
    };
    let on = slot.settled(deadline)? == "on";
    let mut attached = Attached {
        node: PathBuf::new(),
        undo: Undo((!on).then(|| slot.clone())),
        _lock: lock,
    };
    let since = match on {
        true => {
            stack.is_attached_as(&slot)?;
            0
        }
        false => {
            let since = udev::now();
            switch_on(&slot, stack, &stop)?;
            since
        }
    };
    attached.node = appear(&slot, since, deadline, &stop)?;
    Ok(attached)
}

fn interrupted(slot: &Slot, stop: &AtomicBool) -> Result<()> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Error::device(&slot.name, "interrupted")),
        false => Ok(()),
    }
}

/// Sets a device up that is off, and switches it on.
fn switch_on(slot: &Slot, stack: &Stack, stop: &AtomicBool) -> Result<()> {
    slot.remove_layers()
        .map_err(Error::io(&slot.path, "cannot remove what was left behind"))?;
    for (attribute, value) in stack.options.attributes() {
        slot.write(attribute, value).map_err(|error| {
            Error::device(&slot.name, format!("cannot set {attribute}: {error}"))
        })?;
    }
    for (number, layer) in stack.layers.iter().enumerate() {
        interrupted(slot, stop)?;
        slot.add_layer(number, layer.file.as_raw_fd())
            .map_err(Error::io(&layer.path, "cannot be a layer"))?;
    }
    slot.write("power", 1)
        .map_err(|error| refused(slot, error))?;
    interrupted(slot, stop)
}

/// Waits until the disk, which came after `since`, can be opened, and has its link if udev makes one.
fn appear(slot: &Slot, since: Moment, deadline: Instant, stop: &AtomicBool) -> Result<PathBuf> {
    let disk = slot.disk();
    let disk = disk.ok_or_else(|| Error::device(&slot.name, "was switched off meanwhile"))?;
    let node = disk::node(&disk);
    let mut wait = Wait::until(deadline);
    while !disk::has_node(&disk) {
        interrupted(slot, stop)?;
        if !node::are_kernels() {
            node::make(&disk)?;
        } else if !wait.pause() {
            let reason = format!("{} does not appear", node.display());
            return Err(Error::device(&slot.name, reason));
        }
    }
    let stopped = || stop.load(Ordering::Relaxed);
    if !udev::links(&slot.name, &disk, since, &mut wait, stopped) {
        interrupted(slot, stop)?;
        // The disk itself is there, and udev may just be busy.
        let link = udev::link(&slot.name);
        complain(&format!("{}: udev has not made it yet", link.display()));
    }
    Ok(node)
}

/// Why the driver refused to attach: its own line, and the errno in words.
fn refused(slot: &Slot, error: io::Error) -> Error {
    let line = slot.read("error").unwrap_or_default();
    let reason = match line.as_str() {
        "" => format!("cannot be attached: {error}"),
        line => format!("cannot be attached: {line}: {error}"),
    };
    Error::device(&slot.name, reason)
}

/// Removes a device when it is dropped.
#[derive(Debug)]
struct Undo(Option<Slot>);

impl Drop for Undo {
    fn drop(&mut self) {
        let Some(slot) = &self.0 else { return };
        // Programs that look at every new disk may have it open for a moment.
        let mut wait = Wait::until(Instant::now() + Duration::from_secs(5));
        loop {
            match slot.take_away() {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && wait.pause() => {}
                Err(error) => {
                    let path = slot.path.display();
                    complain(&format!("{path}: cannot be removed again: {error}"));
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(path: &Path) -> Opened {
        let file = File::open(path).unwrap();
        Opened {
            path: path.to_owned(),
            identity: Identity::of(&file).unwrap(),
            file,
        }
    }

    #[test]
    fn the_first_difference_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| {
            let path = dir.path().canonicalize().unwrap().join(name);
            fs::write(&path, name).unwrap();
            path
        });
        let entry = |path: &Path| LayerEntry {
            number: 0,
            path: path.to_owned(),
            identity: opened(path).identity,
        };
        let alias = dir.path().join("alias");
        fs::hard_link(&a, &alias).unwrap();
        let one = [entry(&a)];
        assert_eq!(differing_layer(&one, &[opened(&a)]), None);
        // Another name of the same file is the same layer.
        assert_eq!(differing_layer(&one, &[opened(&alias)]), None);
        assert_eq!(
            differing_layer(&one, &[opened(&b)]),
            Some(format!("layer 0 is {}, not {}", a.display(), b.display()))
        );
        assert_eq!(
            differing_layer(&one, &[opened(&a), opened(&b)]).as_deref(),
            Some("it has 1 layers, not 2")
        );
        fs::write(&a, "longer").unwrap();
        assert_eq!(
            differing_layer(&one, &[opened(&a)]),
            Some(format!(
                "layer 0 ({}) was written to since then",
                a.display()
            ))
        );
        fs::rename(&b, &a).unwrap();
        assert_eq!(
            differing_layer(&one, &[opened(&a)]),
            Some(format!(
                "layer 0 ({}) was another file when it was attached",
                a.display()
            ))
        );
    }

    #[test]
    fn the_name_depends_on_files_and_options() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = ["a", "b"].map(|name| dir.path().join(name)).into();
        for path in &paths {
            fs::write(path, "x").unwrap();
        }
        let name = |paths: &[PathBuf], options| Stack::open(paths, options).unwrap().name();
        let options = Options::default();
        let first = name(&paths, options);
        assert_eq!(first.len(), "stack-".len() + 16);
        assert_eq!(first, name(&paths, options));
        assert_ne!(first, name(&paths[..1], options));
        assert_ne!(first, name(&[paths[1].clone(), paths[0].clone()], options));
        let verify = false;
        assert_ne!(first, name(&paths, Options { verify, ..options }));
        assert!(Stack::open(&[], options).is_err());
    }
}
