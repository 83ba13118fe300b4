// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The files that contenders show, made once and kept under `target/bench-content`.

use super::Scale;
use crate::cache;
use crate::kit::Kit;
use crate::run::Log;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// To be raised when other content is made.
const VERSION: u32 = 3;
/// Layers of the large disk.
const LARGE_LAYERS: u64 = 10;

/// Where everything is.
pub(crate) struct Content {
    /// What guests see at `/share`.
    pub(crate) share: PathBuf,
    /// The disk several times in a row, as a raw image and as a layer.
    pub(crate) dense: PathBuf,
    pub(crate) dense_layer: PathBuf,
    /// The same as a writable layer, written in pieces of 4 KiB in no order: data file and index file.
    pub(crate) dense_pair: [PathBuf; 2],
    pub(crate) vbdctl: PathBuf,
    pub(crate) tool: PathBuf,
}

impl Content {
    pub(crate) fn raw(&self) -> PathBuf {
        self.share.join("raw")
    }

    /// The layers of the large disk, bottom first.
    pub(crate) fn large(&self) -> Vec<PathBuf> {
        let place = self.share.join("big-10");
        (0..LARGE_LAYERS)
            .map(|layer| place.join(layer.to_string()))
            .collect()
    }
}

/// Hands back the content of a scale, made before if it is not there.
pub(crate) fn prepare(kit: &Kit, scale: &Scale, vbdctl: &Path, tool: &Path) -> Result<Content> {
    let name = format!("{}-{VERSION}", scale.name);
    let place = crate::checkout()?.join("target/bench-content").join(name);
    let _lock = cache::Lock::take(&cache::directory()?.join("bench.lock"), "makes the content")?;
    let content = |place: &Path| Content {
        share: place.join("share"),
        dense: place.join("dense.raw"),
        dense_layer: place.join("dense.lz4"),
        dense_pair: ["dense.data", "dense.index"].map(|name| place.join(name)),
        vbdctl: vbdctl.to_path_buf(),
        tool: tool.to_path_buf(),
    };
    if !place.is_dir() {
        let partial = place.with_extension("partial");
        cache::remove_tree(&partial)?;
        fs::create_dir_all(partial.join("share"))?;
        let log = Log::create(&partial.with_extension("log"), "bench")?;
        let making = Making {
            kit,
            scale,
            log: &log,
            place: &partial,
            content: content(&partial),
        };
        making.all()?;
        fs::rename(&partial, &place)?;
    }
    Ok(content(&place))
}

struct Making<'a> {
    kit: &'a Kit,
    scale: &'a Scale,
    log: &'a Log,
    place: &'a Path,
    content: Content,
}

impl Making<'_> {
    fn all(&self) -> Result<()> {
        let step = |what: &str, work: &dyn Fn() -> Result<()>| self.log.step(what, work);
        step("make a tree of files", &|| {
            // What ext4 itself needs is left free, and little else: free blocks are holes.
            let bytes = (self.scale.disk / 100 * 92).to_string();
            self.tool(&["tree", &self.path("tree"), &bytes])
        })?;
        step("make its file systems", &|| self.file_systems())?;
        step("make the layers", &|| self.layers())?;
        step("make stacks of 10 and 255 layers", &|| {
            self.split(10)?;
            self.split(255)
        })?;
        step("make the large disk", &|| self.large())?;
        step("make the input of the tool", &|| {
            let (raw, dense) = (self.content.raw(), &self.content.dense);
            let times = self.scale.repeats.to_string();
            self.tool(&["repeat", &shown(&raw), &shown(dense), &times])?;
            let [data, index] = self.content.dense_pair.each_ref().map(|path| shown(path));
            self.tool(&["writable", &shown(dense), &data, &index])?;
            self.create(&[], dense, &self.content.dense_layer)
        })?;
        fs::remove_dir_all(self.place.join("tree")).context("the tree")
    }

    fn file_systems(&self) -> Result<()> {
        let raw = self.content.raw();
        let make = |words: &[&str]| {
            let mut command = self.kit.command(&[self.place], self.place, words[0]);
            self.log.run(command.args(&words[1..]))
        };
        File::create(&raw)?.set_len(self.scale.disk)?;
        let uuid = "11111111-2222-3333-4444-555555555555";
        let options = format!("nodiscard,root_owner=0:0,hash_seed={uuid}");
        make(&[
            "env",
            "E2FSPROGS_FAKE_TIME=1577836800",
            "mkfs.ext4",
            "-q",
            "-F",
            "-b",
            "4096",
            "-m",
            "0",
            "-O",
            "^has_journal,^resize_inode",
            "-i",
            "32768",
            "-U",
            uuid,
            "-E",
            &options,
            "-d",
            "tree",
            "share/raw",
        ])?;
        let erofs = [
            "mkfs.erofs",
            "--quiet",
            "-T1577836800",
            "--all-root",
            "-U",
            uuid,
        ];
        make(&[&erofs[..], &["-zlz4", "share/erofs-lz4", "tree"]].concat())?;
        let best = ["-zlz4hc,12", "-C65536", "share/erofs-lz4hc-64k", "tree"];
        make(&[&erofs[..], &best[..]].concat())?;
        make(&[
            "mksquashfs",
            "tree",
            "share/squashfs-lz4",
            "-comp",
            "lz4",
            "-noappend",
            "-all-root",
            "-quiet",
            "-no-progress",
        ])
    }

    fn layers(&self) -> Result<()> {
        let raw = self.content.raw();
        for (name, options) in [
            ("plain", &["-f", "plain"][..]),
            ("lz4-4k", &["-f", "lz4"]),
            ("lz4-64k", &["-f", "lz4", "-b", "64K"]),
            ("zstd-64k", &["-f", "zstd", "-b", "64K"]),
        ] {
            self.create(options, &raw, &self.content.share.join(name))?;
        }
        // Device-mapper needs whole sectors below.
        let padded = self.content.share.join("lz4-4k-padded");
        let length = fs::copy(self.content.share.join("lz4-4k"), &padded)?;
        let file = File::options().write(true).open(&padded)?;
        file.set_len(length.next_multiple_of(512))?;
        let empty = self.place.join("empty.raw");
        File::create(&empty)?.set_len(self.scale.disk)?;
        self.create(&["-f", "plain"], &empty, &self.content.share.join("null"))?;
        fs::remove_file(empty).context("the empty image")
    }

    /// The disk in so many LZ4 layers, none of which hides anything of another.
    fn split(&self, layers: u64) -> Result<()> {
        let place = self.content.share.join(format!("split-{layers}"));
        fs::create_dir(&place)?;
        let (raw, to) = (shown(&self.content.raw()), shown(&place));
        self.tool(&["split", &raw, &to, &layers.to_string()])?;
        for layer in 0..layers {
            let part = place.join(format!("{layer}.raw"));
            self.create(&[], &part, &place.join(layer.to_string()))?;
            fs::remove_file(part)?;
        }
        Ok(())
    }

    fn large(&self) -> Result<()> {
        let share = &self.content.share;
        fs::create_dir(share.join("big-10"))?;
        let bytes = self.scale.large.to_string();
        let (part, layers) = (self.path("part.raw"), LARGE_LAYERS.to_string());
        for (number, layer) in self.content.large().iter().enumerate() {
            self.tool(&["part", &part, &bytes, &layers, &number.to_string()])?;
            self.create(&[], Path::new(&part), layer)?;
        }
        fs::remove_file(&part)?;
        // Only its first page is ever read.
        let raw = File::create(share.join("big-raw"))?;
        raw.set_len(self.scale.large)?;
        raw.write_all_at(&[1; 4096], 0)
            .context("the raw large disk")
    }

    fn create(&self, options: &[&str], from: &Path, to: &Path) -> Result<()> {
        let mut command = Command::new(&self.content.vbdctl);
        command.arg("create").args(options).arg(from).arg(to);
        self.log.run(&mut command)
    }

    fn tool(&self, words: &[&str]) -> Result<()> {
        self.log.run(Command::new(&self.content.tool).args(words))
    }

    fn path(&self, name: &str) -> String {
        shown(&self.place.join(name))
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
