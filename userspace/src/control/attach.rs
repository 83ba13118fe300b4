// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Attaching a stack: once, whoever asks for it how often.

use super::identity::{Change, Identity};
use super::{disk, Control, LayerEntry, Slot, Wait};
use crate::error::{Error, Result};
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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: 0,
            verify: true,
            direct: false,
        }
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
            let file = File::open(path).map_err(Error::io(path, "cannot open"))?;
            if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
                return Err(Error::unfit(path, "is a directory"));
            }
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
        let Options {
            size,
            verify,
            direct,
        } = self.options;
        let mut text = format!("{size} {verify} {direct}");
        for layer in &self.layers {
            text += "\n";
            text += layer.identity.text();
        }
        let hash = XxHash3_128::oneshot(text.as_bytes());
        format!("stack-{:016x}", hash >> 64)
    }

    /// What a device that is on has that this stack has not; [`None`] if they are equal.
    fn difference(&self, slot: &Slot) -> io::Result<Option<String>> {
        let Options {
            size,
            verify,
            direct,
        } = self.options;
        let wanted = [
            ("size", size),
            ("verify", u64::from(verify)),
            ("direct", u64::from(direct)),
        ];
        for (attribute, wanted) in wanted {
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

/// Attaches a stack as `name`, unless it is attached so already; returns the path of its device.
///
/// A device of that name that is off, as a program that was killed leaves behind, is made anew. When
/// anything fails, the device is removed.
pub fn attach(control: &Control, name: &str, stack: &Stack, timeout: Duration) -> Result<PathBuf> {
    let deadline = Instant::now() + timeout;
    let slot = control.slot(name);
    // A signal must not leave half a device behind. The wait for what there is to do is bounded.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in TERM_SIGNALS {
        signal_hook::flag::register(*signal, Arc::clone(&stop))
            .map_err(Error::io(&slot.path, "cannot watch for signals"))?;
    }
    let _lock = loop {
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
    if slot.settled(deadline)? == "on" {
        let difference = stack
            .difference(&slot)
            .map_err(Error::io(&slot.path, "cannot compare"))?;
        return match (difference, slot.disk()) {
            (None, Some(disk)) => Ok(disk::node(&disk)),
            (None, None) => Err(Error::device(name, "went away")),
            (Some(difference), _) => Err(Error::device(
                name,
                format!("is attached as another stack: {difference}"),
            )),
        };
    }
    let undo = Undo(Some(&slot));
    let node = make(&slot, stack, deadline, &stop)?;
    undo.dismiss();
    Ok(node)
}

/// Sets a device up that is off, and switches it on.
fn make(slot: &Slot, stack: &Stack, deadline: Instant, stop: &AtomicBool) -> Result<PathBuf> {
    let interrupted = || match stop.load(Ordering::Relaxed) {
        true => Err(Error::device(&slot.name, "interrupted")),
        false => Ok(()),
    };
    let failed = |attribute| Error::io(&slot.path, attribute);
    slot.remove_layers()
        .map_err(failed("cannot remove what was left behind"))?;
    slot.write("size", stack.options.size)
        .map_err(failed("cannot set the size"))?;
    slot.write("verify", u8::from(stack.options.verify))
        .map_err(failed("cannot set verify"))?;
    slot.write("direct", u8::from(stack.options.direct))
        .map_err(failed("cannot set direct"))?;
    for (number, layer) in stack.layers.iter().enumerate() {
        interrupted()?;
        slot.add_layer(number, layer.file.as_raw_fd())
            .map_err(Error::io(&layer.path, "cannot be a layer"))?;
    }
    slot.write("power", 1)
        .map_err(|error| refused(slot, error))?;
    interrupted()?;
    let disk = slot.disk();
    let disk = disk.ok_or_else(|| Error::device(&slot.name, "was switched off meanwhile"))?;
    let mut wait = Wait::until(deadline);
    while !disk::has_node(&disk) {
        interrupted()?;
        if !wait.pause() {
            let reason = format!("{} does not appear", disk::node(&disk).display());
            return Err(Error::device(&slot.name, reason));
        }
    }
    Ok(disk::node(&disk))
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
struct Undo<'a>(Option<&'a Slot>);

impl Undo<'_> {
    fn dismiss(mut self) {
        self.0 = None;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.0 else { return };
        // Programs that look at every new disk may have it open for a moment.
        let mut wait = Wait::until(Instant::now() + Duration::from_secs(5));
        while let Err(error) = slot.write("power", 0) {
            if error.kind() != io::ErrorKind::ResourceBusy || !wait.pause() {
                break;
            }
        }
        if let Err(error) = slot.remove() {
            let path: &Path = &slot.path;
            eprintln!(
                "vbdctl: {}: cannot be removed again: {error}",
                path.display()
            );
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
