// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Making layers of images, and damaging one.

use super::Place;
use crate::test::steps::Step;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A suite's directory: images at its top, and layers in what becomes the guest's `/share`.
pub(super) struct Layers<'a> {
    vbdctl: &'a Path,
    step: &'a Step,
    pub(super) directory: PathBuf,
}

impl<'a> Layers<'a> {
    pub(super) fn new(place: &'a Place, step: &'a Step, suite: &str) -> Result<Layers<'a>> {
        let directory = place.work.join(suite);
        fs::create_dir_all(directory.join("share"))?;
        Ok(Layers {
            vbdctl: &place.vbdctl,
            step,
            directory,
        })
    }

    pub(super) fn share(&self) -> PathBuf {
        self.directory.join("share")
    }

    /// Makes the layer `name` of an image, on top of those of `base`.
    pub(super) fn create(
        &self,
        image: &str,
        name: &str,
        options: &[&str],
        base: &[String],
    ) -> Result<()> {
        let mut create = Command::new(self.vbdctl);
        create.current_dir(self.share()).arg("create").args(options);
        if !base.is_empty() {
            create.arg("--base").arg(base.join(","));
        }
        let image = self.directory.join(image);
        self.step.run(create.arg(image).arg(name)).map(|_| ())
    }

    /// Makes an image of so many zeroes, unless it is there.
    pub(super) fn image(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let path = self.directory.join(name);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let context = || path.display().to_string();
        file.with_context(context)?
            .set_len(bytes)
            .with_context(context)?;
        Ok(path)
    }

    /// Flips one bit in the middle of a layer, where data are and no table is.
    pub(super) fn damage(&self, name: &str) -> Result<()> {
        let path = self.share().join(name);
        let file = File::options().read(true).write(true).open(&path)?;
        let middle = file.metadata()?.len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle)?;
        file.write_all_at(&[byte[0] ^ 1], middle)
            .with_context(|| path.display().to_string())
    }
}
