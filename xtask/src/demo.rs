// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `cargo xtask demo`: from nothing to files read from `/dev/vbd0`, with every step on the screen.
//!
//! Three generations of a small directory tree become three layers, each of which holds only what
//! the generation changed. The guest stacks them into one device, mounts it, and the files that it
//! finds have to be the last generation's.

use crate::kit::Kit;
use crate::run::{self, Log};
use crate::vm::{self, program, Spec};
use crate::{cache, module};
use anyhow::{bail, Context, Result};
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

#[derive(clap::Args)]
pub(crate) struct Args {}

/// How each layer is stored, bottom first: the engine reads any mixture.
const LAYERS: [(&str, &[&str]); 3] = [
    ("base.tar", &["--format", "lz4", "--tar"]),
    ("update.zst", &["--format", "zstd", "--block-size", "64K"]),
    ("site.plain", &["--format", "plain"]),
];

/// What the guest runs; each command is shown before it runs.
const SCRIPT: &str = r#"
run() { echo "guest# $*"; "$@" || exit 1; }
run cd /
run insmod /vbd.ko backfile=/share/base.tar,/share/update.zst,/share/site.plain
run blockdev --report /dev/vbd0
run mount -o ro /dev/vbd0 /mnt
run ls -lR /mnt/etc /mnt/srv
run cat /mnt/etc/motd
run cd /mnt
run sha256sum -c /share/SHA256SUMS
find . -type f | sort > /tmp/found
cut -c 67- /share/SHA256SUMS | sort > /tmp/written
run cmp /tmp/found /tmp/written
run cd /
run umount /mnt
run rmmod vbd
"#;

/// `cargo xtask demo`.
pub(crate) fn main(_: &Args) -> Result<ExitCode> {
    let begin = Instant::now();
    let kit = Kit::prepare(false)?;
    let log = Log::create(&cache::directory()?.join("demo.log"), "demo")?;
    let mut files = Vec::new();
    log.step("build vbd.ko", || {
        files.push((module::build_logged(&kit, &log)?, "/vbd.ko".to_string()));
        Ok(())
    })?;
    let vbdctl = log.step("build vbdctl", || program::build("vbdctl", "vbdctl"))?;
    files.push((vbdctl.clone(), "/usr/bin/vbdctl".to_string()));

    let place = tempfile::Builder::new()
        .prefix("demo-")
        .tempdir_in(cache::directory()?)?;
    let share = place.path().join("share");
    let tree = place.path().join("tree");
    fs::create_dir(&share)?;
    fs::create_dir(&tree)?;
    for (number, (name, options)) in LAYERS.iter().enumerate() {
        let step = format!(
            "write layer {number}, {name}: vbdctl create {}",
            options.join(" ")
        );
        log.step(&step, || {
            write_generation(&tree, number)?;
            make_layer(&kit, place.path(), &vbdctl, number, &log)
        })?;
    }
    let sums = sums(&kit, &tree)?;
    let count = sums.lines().count();
    fs::write(share.join("SHA256SUMS"), sums)?;

    eprintln!("demo: boot the stock kernel {}", kit.release);
    let spec = Spec {
        share: Some(share),
        files,
        ..Spec::default()
    };
    let outcome = vm::run(&kit, &spec, SCRIPT, &mut io::stdout(), &mut io::stderr())?;
    if outcome.code() != 0 {
        outcome.report.show();
        bail!(
            "the demonstration failed (the guest's status is {})",
            outcome.code()
        );
    }
    println!(
        "demo: all {count} files, read from /dev/vbd0, are the ones that were written ({:.0} s)",
        begin.elapsed().as_secs_f32()
    );
    Ok(ExitCode::SUCCESS)
}

/// Turns generation `number - 1` of the tree into generation `number`.
fn write_generation(tree: &Path, number: usize) -> Result<()> {
    let write = |name: &str, content: &str| -> Result<()> {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().context("a file has no directory")?)?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    // Text that compresses, as the files of a distribution do, but not to nothing.
    let text = |name: &str, lines: u32| -> String {
        let line = |n: u32| format!("{name}, line {n}: {:08x}\n", n.wrapping_mul(2_654_435_761));
        (0..lines).map(line).collect()
    };
    match number {
        0 => {
            write("etc/motd", "Layer 0 says hello.\n")?;
            write("etc/obsolete.conf", "A later layer removes this file.\n")?;
            write("usr/lib/base.txt", &text("base", 100_000))?;
        }
        1 => {
            write("etc/motd", "Layer 1 says hello, on top of layer 0.\n")?;
            write("usr/lib/update.txt", &text("update", 20_000))?;
        }
        _ => {
            write(
                "etc/motd",
                "Layer 2 says hello, on top of layers 1 and 0.\n",
            )?;
            write("srv/index.html", "<h1>Served from /dev/vbd0</h1>\n")?;
            fs::remove_file(tree.join("etc/obsolete.conf"))?;
        }
    }
    Ok(())
}

/// Makes layer `number` from the tree on top of the layers below it. `place` holds both, and
/// vbdctl runs in the kit, whose mkfs.ext4 it calls.
fn make_layer(kit: &Kit, place: &Path, vbdctl: &Path, number: usize, log: &Log) -> Result<()> {
    let programs = vbdctl.parent().context("vbdctl has no directory")?;
    let mut command = kit.command(&[place, programs], &place.join("share"), vbdctl);
    let (name, options) = LAYERS[number];
    // All generations have one size, or the device would change its size with each layer.
    command
        .args(["create", "--fs", "ext4", "--size", "64M"])
        .args(options);
    for (below, _) in &LAYERS[..number] {
        command.args(["--base", below]);
    }
    log.run(command.arg(place.join("tree")).arg(name))
}

/// The digests of all files of a tree, as `sha256sum -c` reads them.
fn sums(kit: &Kit, tree: &Path) -> Result<String> {
    let mut command = kit.command(&[tree], tree, "find");
    run::stdout(command.args([".", "-type", "f", "-exec", "sha256sum", "{}", "+"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_changes_the_tree_it_finds() {
        let tree = tempfile::tempdir().unwrap();
        let motd = || fs::read_to_string(tree.path().join("etc/motd")).unwrap();
        for number in 0..LAYERS.len() {
            write_generation(tree.path(), number).unwrap();
            assert!(
                motd().starts_with(&format!("Layer {number} ")),
                "{}",
                motd()
            );
        }
        assert!(!tree.path().join("etc/obsolete.conf").exists());
        assert!(tree.path().join("usr/lib/base.txt").exists());
    }

    #[test]
    fn the_guest_stacks_the_layers_in_their_order() {
        let names: Vec<String> = LAYERS
            .iter()
            .map(|(name, _)| format!("/share/{name}"))
            .collect();
        assert!(SCRIPT.contains(&format!("backfile={}\n", names.join(","))));
    }
}
