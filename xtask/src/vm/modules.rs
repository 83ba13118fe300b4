// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The kernel modules that modprobe finds in the guest: the stock ones that it needs, what they
//! depend on, our own, and the lists by which they are found.

use super::newc::Archive;
use super::Spec;
use crate::kit::Kit;
use crate::run;
use anyhow::{bail, Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules that tests and users of the guest load, by name. Of those that a kernel of our own
/// has not at all, or built in, there is nothing to bring.
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
    "dm_multipath",
    "dm_round_robin",
    "dm_snapshot",
    "dm_verity",
    "dm_zero",
    "loop",
    "mq_deadline",
    "nbd",
    "null_blk",
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

/// What only kernels of our own have, those that tests run on.
const WANTED_OWN: &[&str] = &["dm_dust"];

/// A module of ours, and what depmod would find out about it.
pub(super) struct Own {
    /// Where the guest has the file.
    path: String,
    /// Names of the modules that it needs.
    needs: Vec<String>,
    aliases: Vec<String>,
}

impl Own {
    /// The modules among the files that the guest gets from the host.
    pub(super) fn among(kit: &Kit, spec: &Spec) -> Result<Vec<Own>> {
        let modules = spec.files.iter().filter(|(_, to)| to.ends_with(".ko"));
        modules
            .map(|(from, path)| {
                let from = from.canonicalize()?;
                let field = |name: &str| {
                    let place = from.parent().unwrap_or(Path::new("/"));
                    let mut modinfo = kit.command(&[place], Path::new("/"), "modinfo");
                    run::stdout(modinfo.arg("-F").arg(name).arg(&from))
                };
                Ok(Own {
                    path: path.clone(),
                    needs: words(&field("depends")?),
                    aliases: words(&field("alias")?),
                })
            })
            .collect()
    }

    /// Where modprobe looks for it, inside the directory of the kernel's modules.
    fn file(&self) -> String {
        format!("extra/{}", self.path.trim_start_matches('/'))
    }
}

/// The words of a field that modinfo prints.
fn words(text: &str) -> Vec<String> {
    let words = text.split([',', '\n']).map(str::trim);
    words
        .filter(|word| !word.is_empty())
        .map(str::to_string)
        .collect()
}

/// Adds the wanted modules of the kit's kernel and `more` of them, and makes our own, which are elsewhere in
/// the archive, known beside them.
pub(super) fn add(archive: &mut Archive, kit: &Kit, own: &[Own], more: &[String]) -> Result<()> {
    let modules = kit.modules();
    let read = |name: &str| {
        let path = modules.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let dependencies = parse_dependencies(&read("modules.dep")?);
    let needed = own.iter().flat_map(|own| &own.needs).map(String::as_str);
    let wanted: Vec<&str> = match kit.own {
        None => WANTED.to_vec(),
        // They have some of these built in, and not all have the others.
        Some(_) => {
            let all = WANTED.iter().chain(WANTED_OWN).copied();
            all.filter(|name| has(&dependencies, name)).collect()
        }
    };
    let more = more.iter().map(String::as_str);
    let wanted: Vec<&str> = wanted.into_iter().chain(needed).chain(more).collect();
    let files = closure(&dependencies, &wanted)?;
    let names: BTreeSet<String> = files.iter().map(|file| module_name(file)).collect();
    let place = format!("/usr/lib/modules/{}", kit.release);
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
    let mut aliases = String::new();
    for own in own {
        let needs: Vec<&str> = own.needs.iter().map(String::as_str).collect();
        let needs = closure(&dependencies, &needs)?;
        let needs: String = needs.iter().map(|file| format!(" {file}")).collect();
        list += &format!("{}:{needs}\n", own.file());
        let name = module_name(&own.path);
        for alias in &own.aliases {
            aliases += &format!("alias {alias} {name}\n");
        }
        archive.link(&format!("{place}/{}", own.file()), &own.path);
    }
    archive.file(&format!("{place}/modules.dep"), 0o644, list.as_bytes());
    for (lines, more) in [("modules.alias", aliases.as_str()), ("modules.symbols", "")] {
        let kept = keep_lines(&read(lines)?, &names) + more;
        archive.file(&format!("{place}/{lines}"), 0o644, kept.as_bytes());
    }
    let nodes = keep_nodes(&read("modules.devname")?, &names);
    archive.file(&format!("{place}/modules.devname"), 0o644, nodes.as_bytes());
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
            .find(|(file, _)| module_name(file) == module_name(name));
        let Some((file, needs)) = found else {
            bail!("the kernel has no module {name}: correct the list in xtask/src/vm/modules.rs");
        };
        // depmod lists what is needed at any depth.
        files.insert(file.clone());
        files.extend(needs.iter().cloned());
    }
    Ok(files)
}

/// Whether the kernel has a module as a file.
fn has(dependencies: &BTreeMap<String, Vec<String>>, name: &str) -> bool {
    dependencies.keys().any(|file| module_name(file) == name)
}

/// The lines `<word> <pattern> <module>` of a depmod list that lead to one of these modules.
fn keep_lines(text: &str, names: &BTreeSet<String>) -> String {
    let kept = text.lines().filter(|line| {
        let module = line.rsplit(' ').next().unwrap_or_default();
        names.contains(&module.replace('-', "_"))
    });
    kept.map(|line| format!("{line}\n")).collect()
}

/// The lines `<module> <node> <number>` of depmod's list of device nodes that belong to one of
/// these modules.
fn keep_nodes(text: &str, names: &BTreeSet<String>) -> String {
    let kept = text.lines().filter(|line| {
        let module = line.split(' ').next().unwrap_or_default();
        names.contains(module)
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
    fn fields_of_modinfo_are_lists_in_either_form() {
        assert_eq!(
            words("dm-mod,lz4_decompress\n"),
            ["dm-mod", "lz4_decompress"]
        );
        assert_eq!(words("dm-a\ndm-b\n"), ["dm-a", "dm-b"]);
        assert_eq!(words("\n"), [""; 0]);
    }

    #[test]
    fn nodes_of_modules_left_out_are_left_out() {
        let names = BTreeSet::from(["loop".to_string()]);
        let text = "# Device nodes\ncuse cuse c10:203\nloop loop-control c10:237\n";
        assert_eq!(keep_nodes(text, &names), "loop loop-control c10:237\n");
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
