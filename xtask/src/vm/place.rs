// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The directory of one run's files, in the cache: images may be too large for `/tmp`, which on
//! newer systems is memory.

use super::machine::Place;
use crate::cache;
use anyhow::{Context, Result};
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Consoles of guests in trouble that are kept.
const KEPT: usize = 20;

/// A directory that goes with this value.
pub(super) struct Guard {
    place: Place,
}

impl Guard {
    pub(super) fn new() -> Result<Guard> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let base = cache::directory()?.join("vm");
        sweep(&base);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = base.join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Guard {
            place: Place { directory },
        })
    }

    /// Moves the console's text to where it stays, and says where that is.
    pub(super) fn keep_console(&self) -> Option<PathBuf> {
        let base = self.place.directory.parent()?;
        let name = self.place.directory.file_name()?.to_string_lossy();
        let kept = base.join(format!("console-{name}.log"));
        fs::rename(self.place.console(), &kept).ok()?;
        Some(kept)
    }
}

impl Deref for Guard {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.place.directory);
    }
}

/// Removes what runs that were killed have left, and all but the newest consoles.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    let mut consoles = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("console-") {
            let time = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok();
            consoles.push((time, entry.path()));
        } else if let Some((process, _)) = name.split_once('-') {
            // A QEMU cannot outlive the xtask that started it.
            if !Path::new("/proc").join(process).exists() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
    consoles.sort();
    let old = consoles.len().saturating_sub(KEPT);
    for (_, path) in consoles.into_iter().take(old) {
        let _ = fs::remove_file(path);
    }
}
