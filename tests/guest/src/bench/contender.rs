// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The block devices that are compared, all over files of the shared directory.

use anyhow::{bail, Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Where the host has put the files.
pub(super) const PLACE: &str = "/share";

/// How a device shows its files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Loop,
    LoopDirect,
    /// A stack in `vbd.ko`.
    Vbd,
    /// The same, without a look at the checksums of blocks.
    VbdUnverified,
    /// `lsmt_target` of `vbd_dm.ko` over a loop device.
    Target,
}

/// A device that is to be compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// A file, or a directory of layers `0`, `1` and so on.
    pub(super) file: &'static str,
}

impl Contender {
    pub(super) const fn new(name: &'static str, kind: Kind, file: &'static str) -> Contender {
        Contender { name, kind, file }
    }

    /// The files that the device reads, bottom first.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let path = Path::new(PLACE).join(self.file);
        if !path.is_dir() {
            return vec![path];
        }
        let numbers = (0..).map(|number: u32| path.join(number.to_string()));
        numbers.take_while(|layer| layer.exists()).collect()
    }

    /// Makes the device.
    pub(super) fn attach(&self) -> Result<Device> {
        let files = self.files();
        let mut device = Device {
            contender: *self,
            path: PathBuf::new(),
            below: None,
            undo: Vec::new(),
        };
        match self.kind {
            Kind::Loop => device.path = device.losetup(&files[0], false)?,
            Kind::LoopDirect => device.path = device.losetup(&files[0], true)?,
            Kind::Vbd | Kind::VbdUnverified => {
                let vbd = Vbd::attach(self.name, &files, self.kind == Kind::Vbd)?;
                device.path = vbd.path.clone();
                device.undo.push(Undo::Vbd(vbd));
            }
            Kind::Target => device.path = device.dmsetup(&files[0])?,
        }
        Ok(device)
    }
}

/// How a part of a device is taken away.
enum Undo {
    Command(Vec<String>),
    /// Goes by being dropped.
    Vbd(#[allow(dead_code)] Vbd),
}

/// A device for the time of this value.
pub(super) struct Device {
    pub(super) contender: Contender,
    pub(super) path: PathBuf,
    /// A device in between, whose pages belong to the backing of this one.
    below: Option<PathBuf>,
    /// The last one first.
    undo: Vec<Undo>,
}

impl Device {
    /// What has to be read for everything below the device to be cached.
    pub(super) fn warmth(&self) -> Vec<PathBuf> {
        let mut files = self.contender.files();
        files.extend(self.below.clone());
        files
    }

    fn losetup(&mut self, file: &Path, direct: bool) -> Result<PathBuf> {
        let file = file.display().to_string();
        let direct = format!("--direct-io={}", if direct { "on" } else { "off" });
        let words = ["--find", "--show", "--read-only", &direct, &file];
        let path = output("losetup", &words)?;
        let undo = ["losetup", "--detach", &path].map(str::to_string);
        self.undo.push(Undo::Command(undo.to_vec()));
        Ok(path.into())
    }

    fn dmsetup(&mut self, file: &Path) -> Result<PathBuf> {
        let below = self.losetup(file, false)?;
        self.below = Some(below.clone());
        let raw = fs::metadata(Path::new(PLACE).join("raw"))?.len();
        // A loop device has whole sectors, so it gets a copy that was filled up.
        let whole = file.display().to_string();
        let exact = whole.strip_suffix("-padded").context("a padded file")?;
        let bytes = fs::metadata(exact)?.len();
        let name = self.contender.name;
        let table = format!(
            "{name},,,ro,0 {} lsmt_target {} {bytes}",
            raw / 512,
            below.display()
        );
        output("dmsetup", &["create", "--concise", &table])?;
        let undo = ["dmsetup", "remove", name].map(str::to_string);
        self.undo.push(Undo::Command(undo.to_vec()));
        Ok(Path::new("/dev/mapper").join(name))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        while let Some(undo) = self.undo.pop() {
            if let Undo::Command(words) = undo {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                if let Err(error) = output(words[0], &words[1..]) {
                    eprintln!("bench: {error:#}");
                }
            }
        }
    }
}

/// A device of `vbd.ko`, made through configfs as a program of a user would.
pub(super) struct Vbd {
    group: PathBuf,
    layers: usize,
    pub(super) path: PathBuf,
}

impl Vbd {
    /// `verify` says whether the checksums of blocks count.
    pub(super) fn attach(name: &str, layers: &[PathBuf], verify: bool) -> Result<Vbd> {
        let group = Path::new("/sys/kernel/config/vbd").join(name);
        fs::create_dir(&group).with_context(|| format!("mkdir {}", group.display()))?;
        let mut vbd = Vbd {
            group,
            layers: 0,
            path: PathBuf::new(),
        };
        if !verify {
            fs::write(vbd.group.join("verify"), "0")?;
        }
        for layer in layers {
            let place = vbd.group.join(vbd.layers.to_string());
            fs::create_dir(&place).with_context(|| format!("mkdir {}", place.display()))?;
            vbd.layers += 1;
            fs::write(place.join("path"), layer.display().to_string())
                .with_context(|| format!("{}", layer.display()))?;
        }
        if let Err(error) = fs::write(vbd.group.join("power"), "1") {
            let reason = fs::read_to_string(vbd.group.join("error")).unwrap_or_default();
            bail!("attach of {name}: {error}: {}", reason.trim());
        }
        let device = fs::read_to_string(vbd.group.join("device"))?;
        vbd.path = Path::new("/dev").join(device.trim());
        Ok(vbd)
    }
}

impl Drop for Vbd {
    fn drop(&mut self) {
        // A file that was closed just now may be released a moment later.
        for _ in 0..500 {
            if fs::write(self.group.join("power"), "0").is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        for number in (0..self.layers).rev() {
            let _ = fs::remove_dir(self.group.join(number.to_string()));
        }
        if let Err(error) = fs::remove_dir(&self.group) {
            eprintln!("bench: rmdir {}: {error}", self.group.display());
        }
    }
}

/// Runs a program that has to succeed; what it printed.
pub(super) fn output(program: &str, words: &[&str]) -> Result<String> {
    let shown = || format!("{program} {}", words.join(" "));
    let output = Command::new(program).args(words).output();
    let output = output.with_context(shown)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {}", shown(), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Reads files once, so that the page cache holds them.
pub(super) fn warm(files: &[PathBuf]) -> Result<()> {
    for path in files {
        let shown = || path.display().to_string();
        let mut file = File::open(path).with_context(shown)?;
        std::io::copy(&mut file, &mut std::io::sink()).with_context(shown)?;
    }
    Ok(())
}

/// Has caches shrink that are not the page cache, such as that of decoded blocks.
pub(super) fn forget_decoded() -> Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "2").context("drop_caches")
}

/// Has the kernel forget all that it can read again.
pub(super) fn forget() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("drop_caches")
}
