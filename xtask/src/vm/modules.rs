// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The stock kernel modules that the guest gets: those it needs, what they depend on, and the
//! lists by which modprobe finds them.

use super::newc::Archive;
use anyhow::{bail, Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules that tests and users of the guest load, by name.
const WANTED: &[&str] = &[
    // The machine.
    "virtio_blk",
    "virtio_rng",
    // What vbd.ko and the device-mapper targets stand on.
    "configfs",
    "dm_mod",
    "dm_bufio",
    // Peers to compare with, and what stacks above or below a device.
    "brd",
    "dm_delay",
    "dm_flakey",
    "dm_log_writes",
    "dm_snapshot",
    "dm_verity",
    "dm_zero",
    "loop",
    "nbd",
    "ublk_drv",
    "target_core_user",
    "tcm_loop",
    // File systems above or below a device; ext4 is built in.
    "btrfs",
    "erofs",
    "isofs",
    "overlay",
    "squashfs",
    "xfs",
];

/// Adds the wanted modules of the kernel `release` whose tree is at `modules` on the host.
pub(super) fn add(archive: &mut Archive, modules: &Path, release: &str) -> Result<()> {
    let read = |name: &str| {
        let path = modules.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let dependencies = parse_dependencies(&read("modules.dep")?);
    let files = closure(&dependencies, WANTED)?;
    let names: BTreeSet<String> = files.iter().map(|file| module_name(file)).collect();
    let place = format!("/usr/lib/modules/{release}");
    for file in &files {
        let content =
            fs::read(modules.join(file)).with_context(|| format!("cannot read {file}"))?;
        archive.file(&format!("{place}/{file}"), 0o644, &content);
    }
    let mut list = String::new();
    for (file, needs) in dependencies
        .iter()
        .filter(|(file, _)| files.contains(*file))
    {
        list += &format!(
            "{file}:{}\n",
            needs.iter().map(|n| format!(" {n}")).collect::<String>()
        );
    }
    archive.file(&format!("{place}/modules.dep"), 0o644, list.as_bytes());
    for lines in ["modules.alias", "modules.symbols"] {
        let kept = keep_lines(&read(lines)?, &names);
        archive.file(&format!("{place}/{lines}"), 0o644, kept.as_bytes());
    }
    for whole in ["modules.builtin", "modules.order"] {
        archive.file(&format!("{place}/{whole}"), 0o644, read(whole)?.as_bytes());
    }
    Ok(())
}

/// Each module file with the files it depends on, from the text of `modules.dep`.
fn parse_dependencies(text: &str) -> BTreeMap<String, Vec<String>> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(file, needs)| {
            let needs = needs.split_whitespace().map(str::to_string);
            (file.to_string(), needs.collect())
        })
        .collect()
}

/// The files of the wanted modules and of all that they depend on.
fn closure(
    dependencies: &BTreeMap<String, Vec<String>>,
    wanted: &[&str],
) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for name in wanted {
        let found = dependencies
            .iter()
            .find(|(file, _)| module_name(file) == *name);
        let Some((file, needs)) = found else {
            bail!("the kernel has no module {name}: correct the list in xtask/src/vm/modules.rs");
        };
        // depmod lists what is needed at any depth.
        files.insert(file.clone());
        files.extend(needs.iter().cloned());
    }
    Ok(files)
}

/// The lines `<word> <pattern> <module>` of a depmod list that lead to one of these modules.
fn keep_lines(text: &str, names: &BTreeSet<String>) -> String {
    let kept = text.lines().filter(|line| {
        let module = line.rsplit(' ').next().unwrap_or_default();
        names.contains(&module.replace('-', "_"))
    });
    kept.map(|line| format!("{line}\n")).collect()
}

/// The name under which the kernel knows a module file.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    let name = name.split_once(".ko").map_or(name, |(stem, _)| stem);
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "kernel/drivers/md/dm-flakey.ko: kernel/drivers/md/dm-mod.ko\n\
                        kernel/drivers/md/dm-mod.ko:\n\
                        kernel/fs/xfs/xfs.ko:\n";

    #[test]
    fn a_module_brings_what_it_depends_on_and_nothing_else() {
        let files = closure(&parse_dependencies(LIST), &["dm_flakey"]).unwrap();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        assert_eq!(
            files,
            [
                "kernel/drivers/md/dm-flakey.ko",
                "kernel/drivers/md/dm-mod.ko"
            ]
        );
        let error = closure(&parse_dependencies(LIST), &["nonesuch"]).unwrap_err();
        assert!(error.to_string().contains("no module nonesuch"), "{error}");
    }

    #[test]
    fn aliases_of_modules_left_out_are_left_out() {
        let names = BTreeSet::from(["xfs".to_string(), "dm_mod".to_string()]);
        let text =
            "# Aliases\nalias fs-xfs xfs\nalias fs-erofs erofs\nalias block-major-9 dm-mod\n";
        let kept = keep_lines(text, &names);
        assert_eq!(kept, "alias fs-xfs xfs\nalias block-major-9 dm-mod\n");
    }
}
