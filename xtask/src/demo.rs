// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `cargo xtask demo`: from nothing to files read from `/dev/vbd0`, with every step on the screen.
//!
//! Three generations of a small directory tree become three layers, each of which holds only what
//! the generation changed. The guest stacks them into one device, mounts it, and the files that it
//! finds have to be the last generation's.

use crate::kit::{Kit, Series};
use crate::run::Log;
use crate::vm::{self, program, Ended, Spec, Vm};
use crate::{cache, module};
use anyhow::{bail, Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

#[derive(clap::Args)]
pub(crate) struct Args {}

/// What each generation is.
const STORY: [&str; 3] = [
    "A directory becomes an ext4 file system in a layer, as a registry carries it.",
    "Some files change: the second layer holds only what is different.",
    "A file more, a file less: the third layer.",
];

/// How each layer is stored, bottom first: the engine reads any mixture.
const LAYERS: [(&str, &[&str]); 3] = [
    ("base.tar", &["--format", "lz4", "--tar"]),
    ("update.zst", &["--format", "zstd", "--block-size", "64K"]),
    ("site.plain", &["--format", "plain"]),
];

/// What the guest runs before its files are compared, and after.
const BEFORE: [&str; 5] = [
    "insmod /vbd.ko backfile=/share/base.tar,/share/update.zst,/share/site.plain",
    "blockdev --report /dev/vbd0",
    "mount -o ro /dev/vbd0 /mnt",
    "ls -lR /mnt/etc /mnt/var",
    "cat /mnt/etc/motd",
];
const AFTER: [&str; 2] = ["umount /mnt", "rmmod vbd"];

/// `cargo xtask demo`.
pub(crate) fn main(_: &Args) -> Result<ExitCode> {
    let begin = Instant::now();
    let kit = Kit::prepare(Series::Kit, false)?;
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
    for (number, what) in STORY.iter().enumerate() {
        println!("\n# {what}");
        write_generation(&tree, number)?;
        make_layer(&kit, place.path(), &vbdctl, number, &log)?;
    }
    let written = read_tree(&tree)?;

    println!("\n# Debian's own kernel {} stacks them.", kit.release);
    let spec = Spec {
        share: Some(share),
        files,
        ..Spec::default()
    };
    let mut vm = vm::boot(&kit, &spec)?;
    let compared = in_guest(&mut vm, &written);
    let report = vm.shut_down()?;
    if compared.is_err() || !report.complaints.is_empty() {
        report.show();
    }
    let bytes = compared?;
    if !report.complaints.is_empty() {
        bail!("the guest's kernel complained");
    }
    println!(
        "\ndemo: {} files of {bytes} bytes, read from /dev/vbd0, are byte by byte what was written \
         ({:.0} s)",
        written.len(),
        begin.elapsed().as_secs_f32()
    );
    Ok(ExitCode::SUCCESS)
}

/// Attaches and mounts the layers in the guest, and compares what is there with what was written.
/// Returns the number of bytes.
fn in_guest(vm: &mut Vm, written: &BTreeMap<String, Vec<u8>>) -> Result<usize> {
    for command in BEFORE {
        println!("guest# {command}");
        guest(vm, command, &mut io::stdout())?;
    }
    println!("\n# Every file comes back to the host, to be compared with what was written.");
    let mut list = Vec::new();
    guest(vm, "cd /mnt && find . -type f", &mut list)?;
    let list = String::from_utf8(list).context("a file name is not text")?;
    let found: BTreeSet<&str> = list.lines().collect();
    let names: BTreeSet<&str> = written.keys().map(String::as_str).collect();
    if found != names {
        bail!("the mounted file system has the files {found:?}, and {names:?} were written");
    }
    let mut total = 0;
    for (name, content) in written {
        let mut bytes = Vec::new();
        let command = format!("cat /mnt/{}", name.trim_start_matches("./"));
        println!("guest# {command} | compare ({} bytes)", content.len());
        guest(vm, &command, &mut bytes)?;
        if bytes != *content {
            let at = bytes.iter().zip(content).position(|(a, b)| a != b);
            bail!("{name} differs from what was written, from byte {at:?} on");
        }
        total += bytes.len();
    }
    for command in AFTER {
        println!("guest# {command}");
        guest(vm, command, &mut io::stdout())?;
    }
    Ok(total)
}

/// Runs a command in the guest that has to succeed.
fn guest(vm: &mut Vm, command: &str, output: &mut dyn Write) -> Result<()> {
    match vm.exec(command, output, &mut io::stderr())? {
        Ended::Status(0) => Ok(()),
        ended => bail!("in the guest: {command}: {ended:?}"),
    }
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
            write("var/obsolete.conf", "A later layer removes this file.\n")?;
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
            write("var/www/index.html", "<h1>Served from /dev/vbd0</h1>\n")?;
            fs::remove_file(tree.join("var/obsolete.conf"))?;
        }
    }
    Ok(())
}

/// Makes layer `number` from the tree on top of the layers below it. `place` holds both, and
/// vbdctl runs in the kit, whose mkfs.ext4 it calls.
fn make_layer(kit: &Kit, place: &Path, vbdctl: &Path, number: usize, log: &Log) -> Result<()> {
    let programs = vbdctl.parent().context("vbdctl has no directory")?;
    let share = place.join("share");
    let mut command = kit.command(&[place, programs], &share, vbdctl);
    let (name, options) = LAYERS[number];
    // All generations have one size, or the device would change its size with each layer.
    let mut arguments = vec!["create", "--fs", "ext4", "--size", "64M"];
    arguments.extend(options);
    let below: Vec<&str> = LAYERS[..number].iter().map(|(name, _)| *name).collect();
    let below = below.join(",");
    if number > 0 {
        arguments.extend(["--base", &below]);
    }
    println!("$ vbdctl {} tree {name}", arguments.join(" "));
    log.run(command.args(&arguments).arg(place.join("tree")).arg(name))?;
    let size = fs::metadata(share.join(name))?.len();
    println!("{name}: {size} bytes");
    Ok(())
}

/// All files of a tree, by their names in it as `find .` prints them.
fn read_tree(tree: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut waiting = vec![tree.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = format!("./{}", path.strip_prefix(tree)?.display());
                files.insert(name, fs::read(&path)?);
            }
        }
    }
    Ok(files)
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
        assert!(!tree.path().join("var/obsolete.conf").exists());
        let files: Vec<String> = read_tree(tree.path()).unwrap().into_keys().collect();
        let expected = [
            "./etc/motd",
            "./usr/lib/base.txt",
            "./usr/lib/update.txt",
            "./var/www/index.html",
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn the_guest_stacks_the_layers_in_their_order() {
        let names: Vec<String> = LAYERS
            .iter()
            .map(|(name, _)| format!("/share/{name}"))
            .collect();
        assert!(BEFORE[0].ends_with(&format!("backfile={}", names.join(","))));
    }
}
