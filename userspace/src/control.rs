// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The driver's configfs: the only place that knows its paths.
//!
//! A device is a directory `/sys/kernel/config/vbd/<name>`, and each of its layers a directory in
//! that. Whoever changes a device holds an exclusive `flock` on its directory, so that programs that
//! do so at the same time wait for each other; a lock ends with its holder, however that ends.

pub mod attach;
pub mod detach;
pub mod disk;
pub mod holder;
pub mod identity;
mod node;
pub mod results;
pub mod saved;
mod udev;

use crate::error::{Error, Result};
use identity::Identity;
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;
use rustix::mount::{mount, MountFlags};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Where configfs belongs.
const CONFIGFS: &str = "/sys/kernel/config";

/// The driver's directory in it.
const ROOT: &str = "/sys/kernel/config/vbd";

/// First pause between two looks at something that is waited for; it doubles up to [`LONG_PAUSE`].
const PAUSE: Duration = Duration::from_millis(1);
const LONG_PAUSE: Duration = Duration::from_millis(100);

/// The driver.
#[derive(Debug)]
pub struct Control(());

impl Control {
    /// The driver, if it is loaded.
    pub fn find() -> Option<Self> {
        Path::new(ROOT).is_dir().then_some(Self(()))
    }

    /// The driver, which is loaded, and configfs mounted, if that is needed.
    pub fn load() -> Result<Self> {
        if let Some(control) = Self::find() {
            return Ok(control);
        }
        let modprobe = Command::new("modprobe").arg("vbd").output();
        // With the driver comes configfs, and with that the place to mount it.
        let mounted = mount_configfs();
        if let Some(control) = Self::find() {
            return Ok(control);
        }
        Err(Error::Driver(match (modprobe, mounted) {
            (Err(error), _) => format!("cannot run modprobe: {error}"),
            (Ok(output), _) if !output.status.success() => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.trim().replace('\n', "; ");
                format!("modprobe vbd: {said} (or load it by hand: insmod vbd.ko)")
            }
            (_, Err(error)) => format!("cannot mount configfs on {CONFIGFS}: {error}"),
            _ => format!("{ROOT} does not exist"),
        }))
    }

    /// Names of the devices, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        let failed = || Error::io(Path::new(ROOT), "cannot read");
        let mut names = Vec::new();
        for entry in fs::read_dir(ROOT).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if let (true, Ok(name)) = (entry.path().is_dir(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The device `name`, which may not exist.
    pub fn slot(&self, name: &str) -> Slot {
        Slot {
            name: name.to_owned(),
            path: Path::new(ROOT).join(name),
        }
    }

    /// The device that a user means by a name, a path such as `/dev/vbd3`, that of a partition, or a link
    /// to one of those.
    pub fn resolve(&self, word: &Path) -> Result<Slot> {
        let text = word.to_string_lossy();
        if !text.contains('/') && !text.starts_with('.') && self.slot(&text).exists() {
            return Ok(self.slot(&text));
        }
        // What is no name of a device is that of a file, or of a node.
        let node = Path::new("/dev").join(word);
        let path = match word.is_absolute() || text.contains('/') || !node.exists() {
            true => fs::canonicalize(word).unwrap_or(node),
            false => node,
        };
        let part = path.strip_prefix("/dev").ok().and_then(Path::to_str);
        let disk = part.map(disk::of_part);
        for name in self.names()? {
            let slot = self.slot(&name);
            if disk.is_some() && slot.disk().as_deref() == disk {
                return Ok(slot);
            }
        }
        match disk {
            Some(disk) if disk::is_parameters(disk) => Err(Error::device(
                disk,
                "comes from the module's parameters: it goes with the module (rmmod vbd)",
            )),
            _ => Err(Error::device(&text, "there is no such device")),
        }
    }
}

/// Mounts configfs where it belongs; done if it is there already.
fn mount_configfs() -> io::Result<()> {
    match mount("configfs", CONFIGFS, "configfs", MountFlags::empty(), None) {
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A device's directory.
#[derive(Clone, Debug)]
pub struct Slot {
    name: String,
    path: PathBuf,
}

/// A layer, as the driver has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerEntry {
    /// Number, 0 = bottom.
    pub number: u8,
    /// Path by which the file was given, or that it had when its descriptor was.
    pub path: PathBuf,
    /// Which file it was then.
    pub identity: Identity,
}

impl Slot {
    /// Name of the device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is such a device.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// The value of an attribute, without the end of its line.
    pub fn read(&self, attribute: &str) -> io::Result<String> {
        let bytes = read(&self.path.join(attribute))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn write(&self, attribute: &str, value: impl ToString) -> io::Result<()> {
        write(&self.path.join(attribute), &value.to_string())
    }

    /// `off`, `attaching`, `on` or `detaching`.
    pub fn state(&self) -> io::Result<String> {
        self.read("state")
    }

    /// The disk's name in `/dev`, while the device is on.
    pub fn disk(&self) -> Option<String> {
        if self.state().ok()? != "on" {
            return None;
        }
        self.read("device").ok().filter(|disk| !disk.is_empty())
    }

    /// The layers, bottom first. One that is removed meanwhile is left out.
    pub fn layers(&self) -> io::Result<Vec<LayerEntry>> {
        let mut layers = Vec::new();
        for number in self.layer_numbers()? {
            let dir = self.path.join(number.to_string());
            let entry = read(&dir.join("path")).and_then(|path| {
                Ok(LayerEntry {
                    number,
                    path: OsString::from_vec(path).into(),
                    identity: Identity::said(
                        String::from_utf8_lossy(&read(&dir.join("inode"))?).into_owned(),
                    ),
                })
            });
            match entry {
                Err(error) if is_gone(&error) => {}
                entry => layers.push(entry?),
            }
        }
        Ok(layers)
    }

    fn layer_numbers(&self) -> io::Result<Vec<u8>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u8>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Makes layer `number` of an open file.
    fn add_layer(&self, number: usize, fd: i32) -> io::Result<()> {
        let dir = self.path.join(number.to_string());
        fs::create_dir(&dir)?;
        write(&dir.join("fd"), &fd.to_string())
    }

    fn remove_layers(&self) -> io::Result<()> {
        for number in self.layer_numbers()? {
            gone(fs::remove_dir(self.path.join(number.to_string())))?;
        }
        Ok(())
    }

    /// Switches the device off, which is no work if it is, and removes it.
    fn take_away(&self) -> io::Result<()> {
        let disk = self.disk();
        let nodes = disk
            .map(|disk| node::left_behind(&disk))
            .unwrap_or_default();
        self.write("power", 0)?;
        self.remove()?;
        node::remove(&nodes);
        Ok(())
    }

    /// Removes a device that is off.
    fn remove(&self) -> io::Result<()> {
        gone(self.remove_layers())?;
        gone(fs::remove_dir(&self.path))
    }

    /// Waits until nobody else works on the device. [`None`] if there is no such device, or not any
    /// more.
    fn lock(&self, deadline: Instant) -> Result<Option<Lock>> {
        let failed = || Error::io(&self.path, "cannot lock");
        let mut wait = Wait::until(deadline);
        loop {
            let dir = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                dir => dir.map_err(failed())?,
            };
            match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if self.is(&dir) => return Ok(Some(Lock(dir))),
                // It was removed meanwhile; there may be another one of the name.
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    if !wait.pause() {
                        let reason = "another program is attaching or detaching it";
                        return Err(Error::device(&self.name, reason));
                    }
                }
                Err(errno) => return Err(failed()(errno.into())),
            }
        }
    }

    /// Whether an open directory is still the device's.
    fn is(&self, dir: &File) -> bool {
        match (dir.metadata(), fs::metadata(&self.path)) {
            (Ok(open), Ok(named)) => open.ino() == named.ino(),
            _ => false,
        }
    }

    /// Waits until the device is `on` or `off`.
    fn settled(&self, deadline: Instant) -> Result<String> {
        let mut wait = Wait::until(deadline);
        loop {
            let state = self
                .state()
                .map_err(Error::io(&self.path, "cannot read the state"))?;
            match state.as_str() {
                "on" | "off" => return Ok(state),
                _ if wait.pause() => {}
                _ => return Err(Error::device(&self.name, format!("is still {state}"))),
            }
        }
    }
}

/// The right to change a device, until this is dropped.
#[derive(Debug)]
struct Lock(#[allow(dead_code, reason = "the lock ends when it is closed")] File);

/// Pauses that grow, until a moment.
struct Wait {
    deadline: Instant,
    pause: Duration,
}

impl Wait {
    fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            pause: PAUSE,
        }
    }

    /// Sleeps a little; `false` when the time is over.
    fn pause(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        thread::sleep(self.pause.min(left));
        self.pause = (self.pause * 2).min(LONG_PAUSE);
        true
    }
}

/// Reads an attribute, without the end of its line: only the last one is not the value's.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // It has at most a page. Asking for the size first, as `fs::read()` does, would tell nothing.
    let mut bytes = Vec::with_capacity(4096);
    File::open(path)?.take(1 << 20).read_to_end(&mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(bytes)
}

/// Writes an attribute: all of it at once, or the driver would take a part for the whole.
fn write(path: &Path, value: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    match file.write(value.as_bytes())? {
        len if len == value.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Whether an error says that a directory is not there, or went while an attribute of it was open.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// What is gone need not be removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is_gone(&error) => Ok(()),
        result => result,
    }
}
