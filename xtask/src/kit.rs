// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The kernel kit: a stock Debian kernel with what is needed to build a Rust module for it and to
//! boot it.
//!
//! It is one Debian system of the kernel's own suite, used as the root of everything that is built
//! or booted, so that the host contributes no compiler, no QEMU and no file system tools. It lies
//! in the cache under a name made of the kernel's package version and of the recipe, and appears
//! there by a rename when it is complete; a kit that is there is never changed again.
//!
//! Besides the stock kernel's there are kits with kernels of our own, built to check themselves or
//! to run as a program of the host.

mod choice;
mod config;
pub(crate) mod enter;
mod host;
mod metadata;
mod mirror;
mod own;
mod root;
mod series;

use crate::cache;
use crate::run::Log;
use anyhow::{Context, Result};
pub(crate) use choice::{Choice, KernelChoice};
pub(crate) use own::Own;
use serde::{Deserialize, Serialize};
pub(crate) use series::Series;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Kernel flavour; it has every driver that a guest under QEMU needs, at a quarter of the size.
const FLAVOUR: &str = "cloud-amd64";
/// To be raised when the way the kit is made changes and the package list does not.
const RECIPE: u32 = 2;

/// Packages of the kit besides the kernel's own.
const PACKAGES: &[&str] = &[
    // What builds Rust metadata and modules.
    "bindgen",
    "gcc-14",
    "libc6-dev",
    "make",
    "rust-clippy",
    "rust-src",
    "rustc",
    "rustfmt",
    "xz-utils",
    // What boots a guest.
    "qemu-system-x86",
    // What makes file systems and images on the host, and serves the guest.
    "busybox-static",
    "dmsetup",
    "e2fsprogs",
    "erofs-utils",
    "fdisk",
    "kmod",
    "mount",
    "squashfs-tools",
    "udev",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    kernel: KernelChoice,
    /// Look for a newer kernel of the series even when a kit is there
    #[arg(long)]
    update: bool,
    /// Print only the kernel build tree's path inside the kit
    #[arg(long)]
    print_kdir: bool,
    /// Print only the kit's root directory
    #[arg(long, conflicts_with = "print_kdir")]
    print_root: bool,
}

/// `cargo xtask kit`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if args.update {
        Kit::prepare(args.kernel.series(), true)?;
    }
    let kit = args.kernel.kit()?;
    if args.print_kdir {
        println!("{}", kit.kdir());
    } else if args.print_root {
        println!("{}", kit.root().display());
    } else {
        println!("kernel   {} ({})", kit.release, kit.version);
        println!("root     {}", kit.root().display());
        println!("KDIR     {} (inside the root)", kit.kdir());
        let option = args.kernel.option();
        println!("use      cargo xtask build{option}, or cargo xtask make{option} -- <arguments>");
    }
    Ok(ExitCode::SUCCESS)
}

/// A complete kernel kit.
pub(crate) struct Kit {
    directory: PathBuf,
    /// Kernel release, as `uname -r` prints it in the guest.
    pub(crate) release: String,
    /// Version of the kernel's Debian packages.
    pub(crate) version: String,
    /// Which series the kernel is of.
    series: Series,
    /// Which kernel of our own it has, if not the stock one.
    pub(crate) own: Option<Own>,
}

/// The kernel that was resolved last, so that a later call needs no network.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Resolved {
    release: String,
    version: String,
    /// The suite of its toolchain, if that is not the kit's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suite: Option<String>,
}

impl Kit {
    /// Opens the kit with the kernel that was asked for, or makes it first.
    pub(crate) fn choose(own: Option<Own>) -> Result<Kit> {
        match own {
            None => Kit::prepare(Series::Kit, false),
            Some(own) => Kit::of_our_own(own),
        }
    }

    /// The kit of a kernel of our own, of the version that the stock kernel's kit has.
    fn of_our_own(own: Own) -> Result<Kit> {
        let stock = Kit::prepare(Series::Kit, false)?;
        let cache = cache::directory()?;
        let resolved = Resolved {
            release: own.release(&stock.version),
            version: stock.version,
            suite: None,
        };
        let kit = Kit::of(&cache, &resolved, Series::Kit, Some(own));
        if kit.directory.is_dir() {
            return Ok(kit);
        }
        host::check_machine()?;
        let _lock = cache::Lock::take(&cache.join("lock"), "makes the kit")?;
        if kit.directory.is_dir() {
            return Ok(kit);
        }
        let log = Log::create(&cache.join(format!("kit-{}.log", own.name())), "kit")?;
        host::install_missing(&log)?;
        let mirror = mirror::Mirror::find(&Series::Kit.archives()[0])?;
        kit.make(&cache, &mirror, &log)?;
        Ok(kit)
    }

    /// Opens the kit of a stock kernel, or makes it first; `update` looks for a newer kernel before that.
    pub(crate) fn prepare(series: Series, update: bool) -> Result<Kit> {
        let cache = cache::directory()?;
        if !update {
            if let Some(kit) = Kit::find(&cache, series)? {
                return Ok(kit);
            }
        }
        host::check_machine()?;
        let _lock = cache::Lock::take(&cache.join("lock"), "makes the kit")?;
        if !update {
            if let Some(kit) = Kit::find(&cache, series)? {
                return Ok(kit);
            }
        }
        let log = Log::create(&cache.join(series.file("kit", "log")), "kit")?;
        host::install_missing(&log)?;
        let found = log.step("resolve the kernel's version", || {
            mirror::resolve(series, &cache, &log)
        })?;
        let (mirror, resolved) = found.map_err(|reason| series.not_had(reason))?;
        let kit = Kit::of(&cache, &resolved, series, None);
        if !kit.directory.is_dir() {
            kit.make(&cache, &mirror, &log)?;
        }
        let text = serde_json::to_string_pretty(&resolved)?;
        let current = cache.join(series.file("current", "json"));
        fs::write(&current, text).with_context(|| format!("cannot write {}", current.display()))?;
        Ok(kit)
    }

    /// Whether a stock kernel's kit is there.
    pub(crate) fn is_there(series: Series) -> Result<bool> {
        Ok(Kit::find(&cache::directory()?, series)?.is_some())
    }

    /// The toolchain root.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// The kernel build tree, as a path inside the root.
    pub(crate) fn kdir(&self) -> String {
        let kind = if self.own.is_some() { "" } else { "-headers" };
        format!("/usr/src/linux{kind}-{}", self.release)
    }

    /// The kernel that guests boot, as a path inside the root.
    pub(crate) fn kernel(&self) -> String {
        format!("/usr/lib/modules/{}/vmlinuz", self.release)
    }

    /// The kernel's modules, uncompressed, as a path on the host.
    pub(crate) fn modules(&self) -> PathBuf {
        self.root().join("usr/lib/modules").join(&self.release)
    }

    /// A program that will run inside the root.
    ///
    /// It sees `binds` (directories of the host) under the very paths that they have on the host,
    /// starts in `directory`, and inherits nothing of our environment. It cannot outlive us, and
    /// its mounts cannot outlive it.
    pub(crate) fn command(
        &self,
        binds: &[&Path],
        directory: &Path,
        program: impl AsRef<OsStr>,
    ) -> Command {
        enter::command(&self.root(), binds, directory, program.as_ref())
    }

    /// The kit that the last resolution named, if it is complete.
    fn find(cache: &Path, series: Series) -> Result<Option<Kit>> {
        let path = cache.join(series.file("current", "json"));
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(None);
        };
        let resolved: Resolved = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged: remove it", path.display()))?;
        if !series::is_of(&resolved.release, series.number()?) {
            // The series has been changed since.
            return Ok(None);
        }
        let kit = Kit::of(cache, &resolved, series, None);
        Ok(kit.directory.is_dir().then_some(kit))
    }

    fn of(cache: &Path, resolved: &Resolved, series: Series, own: Option<Own>) -> Kit {
        let version = &resolved.version;
        let name = match own {
            None => {
                let suite = resolved.suite.as_deref();
                let parts = [PACKAGES, suite.as_slice()].concat();
                format!("{version}-{:08x}", recipe(&parts))
            }
            Some(own) => {
                let parts = [PACKAGES.to_vec(), own.packages(), own.recipe()].concat();
                format!("{version}-{}-{:08x}", own.name(), recipe(&parts))
            }
        };
        Kit {
            directory: cache.join("kits").join(name.replace('~', "-")),
            release: resolved.release.clone(),
            version: resolved.version.clone(),
            series,
            own,
        }
    }

    /// Whether its kernel is a program of the host, and not one for a machine.
    pub(crate) fn is_uml(&self) -> bool {
        self.own.is_some_and(Own::is_uml)
    }

    /// Whether its kernel is one that checks itself.
    pub(crate) fn checks_itself(&self) -> bool {
        self.own.is_some_and(|own| own != Own::Uml)
    }

    /// As part of file names; the stock kernel that everything runs on needs none.
    pub(crate) fn name(&self) -> Option<&'static str> {
        self.own.map(Own::name).or(self.series.name())
    }

    /// Arguments of make that go with the kernel.
    pub(crate) fn make_arguments(&self) -> &'static [&'static str] {
        let stock = self.series.make_arguments();
        self.own.map_or(stock, Own::make_arguments)
    }

    /// Name of the kernel's source package, and of the tree in it.
    fn source(&self) -> Result<String> {
        Ok(format!("linux-source-{}", self.series.number()?))
    }

    /// How many times longer than on the stock kernel things may take.
    pub(crate) fn slowness(&self) -> u32 {
        self.own.map_or(1, Own::slowness)
    }

    /// Makes the kit aside, and moves it to its place when it is complete.
    fn make(&self, cache: &Path, mirror: &mirror::Mirror, log: &Log) -> Result<()> {
        let kits = cache.join("kits");
        let partial = kits.join("partial");
        fs::create_dir_all(&kits)?;
        if partial.exists() {
            log.step("remove what an interrupted run left", || {
                cache::remove_tree(&partial)
            })?;
        }
        fs::create_dir(&partial)?;
        let aside = Kit {
            directory: partial.clone(),
            release: self.release.clone(),
            version: self.version.clone(),
            series: self.series,
            own: self.own,
        };
        let mut packages = PACKAGES.to_vec();
        packages.extend(self.own.map(Own::packages).unwrap_or_default());
        log.step("make the toolchain root from Debian packages", || {
            root::make(&aside, &packages, cache, mirror, log)
        })?;
        let source = log.step("fetch the kernel's source package", || {
            mirror.download(cache, &self.source()?, &self.version, log)
        })?;
        match self.own {
            Some(own) => own::make(&aside, own, &source, log)?,
            None => {
                log.step("unpack the kernel's modules", || {
                    root::unpack_modules(&aside, log)
                })?;
                metadata::make(&aside, &source, log)?;
            }
        }
        fs::rename(&partial, &self.directory)
            .with_context(|| format!("cannot move the kit to {}", self.directory.display()))
    }
}

/// Unpacks Debian packages of the kit's own suite, and all that they depend on, into a directory
/// that is not there yet.
pub(crate) fn unpack_packages(root: &Path, packages: &[&str], log: &Log) -> Result<()> {
    host::check_machine()?;
    host::install_missing(log)?;
    let mirror = mirror::Mirror::find(&Series::Kit.archives()[0])?;
    root::unpack(root, packages, &cache::directory()?, &mirror, log)
}

/// A number that changes with the recipe (32-bit FNV-1a of the package list and what else counts).
pub(crate) fn recipe(packages: &[&str]) -> u32 {
    let bytes = packages.iter().flat_map(|p| p.bytes().chain([0]));
    bytes.fold(0x811c_9dc5 ^ RECIPE, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_tells_package_lists_apart() {
        assert_ne!(recipe(&["ab", "c"]), recipe(&["a", "bc"]));
        assert_ne!(recipe(&["a"]), recipe(&["a", "b"]));
        assert_eq!(recipe(&["a", "b"]), recipe(&["a", "b"]));
    }

    #[test]
    fn the_kits_name_is_a_plain_file_name() {
        let resolved = Resolved {
            release: "7.2.12+deb13-cloud-amd64".into(),
            version: "7.2.12-1~bpo13+1".into(),
            suite: None,
        };
        let kit = Kit::of(Path::new("/c"), &resolved, Series::Kit, None);
        let name = kit.directory.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("7.2.12-1-bpo13+1-"), "{name}");
        assert_eq!(
            kit.kdir(),
            "/usr/src/linux-headers-7.2.12+deb13-cloud-amd64"
        );
    }

    #[test]
    fn a_kit_of_another_series_is_not_taken() {
        let cache = tempfile::tempdir().unwrap();
        let found = |series: &str| {
            let resolved = Resolved {
                release: format!("{series}.1-cloud-amd64"),
                version: format!("{series}.1-1"),
                suite: None,
            };
            let kit = Kit::of(cache.path(), &resolved, Series::Next, None);
            fs::create_dir_all(&kit.directory).unwrap();
            let text = serde_json::to_string(&resolved).unwrap();
            fs::write(cache.path().join("current-next.json"), text).unwrap();
            Kit::find(cache.path(), Series::Next).unwrap().is_some()
        };
        assert!(found(Series::Next.number().unwrap()));
        assert!(!found("1.2"));
        assert!(Kit::find(cache.path(), Series::Kit).unwrap().is_none());
    }

    #[test]
    fn a_kernel_of_our_own_has_a_name_of_its_own() {
        let resolved = Resolved {
            release: Own::Light.release("7.2.12-1~bpo13+1"),
            version: "7.2.12-1~bpo13+1".into(),
            suite: None,
        };
        let kit = Kit::of(Path::new("/c"), &resolved, Series::Kit, Some(Own::Light));
        let name = kit.directory.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("7.2.12-1-bpo13+1-light-"), "{name}");
        assert_eq!(kit.kdir(), "/usr/src/linux-7.2.12-vbd-light");
        assert_eq!(kit.kernel(), "/usr/lib/modules/7.2.12-vbd-light/vmlinuz");
    }
}
