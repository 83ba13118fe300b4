// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the guest boots into: our init, a shell with the usual small tools, a few real tools with
//! their libraries, and the stock modules that tests need.

use super::newc::Archive;
use super::{modules, Spec};
use crate::kit::Kit;
use crate::run;
use anyhow::{bail, Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Programs of the kit's root that the guest gets as they are, instead of busybox's.
///
/// The shell is among them because busybox's own runs busybox's tools whatever lies in the path:
/// its `mount` and `losetup` know much less than those that people have.
const TOOLS: &[&str] = &[
    "/usr/bin/bash",
    "/usr/sbin/blockdev",
    "/usr/sbin/dmsetup",
    "/usr/sbin/dumpe2fs",
    "/usr/sbin/e2fsck",
    "/usr/sbin/losetup",
    "/usr/sbin/mkfs.ext4",
    "/usr/sbin/sfdisk",
    "/usr/bin/lsblk",
    "/usr/bin/mkfs.erofs",
    "/usr/bin/mount",
    "/usr/bin/partx",
    "/usr/bin/udevadm",
    "/usr/bin/umount",
];

/// Libraries that no program names, since others load them when they come to need them.
const LIBRARIES: &[&str] = &[
    // For the end of a thread that is cancelled.
    "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
];

/// Puts the guest's first root together.
pub(super) fn make(kit: &Kit, spec: &Spec, init: &Path) -> Result<Vec<u8>> {
    let root = kit.root();
    let mut archive = Archive::default();
    for directory in [
        "dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "usr/sbin",
    ] {
        archive.directory(directory);
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        archive.link(name, &format!("usr/{name}"));
    }
    // The kernel opens the console for init before anything is mounted.
    archive.device("/dev/console", 5, 1);
    archive.file("/etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    archive.file("/etc/group", 0o644, b"root:x:0:\n");

    add_file(&mut archive, init, "/init")?;
    archive.link("/usr/bin/vbd-guest", "/init");
    for (from, to) in &spec.files {
        add_file(&mut archive, from, to)?;
    }
    let tools = with_libraries(kit)?;
    for path in &tools {
        add_file(&mut archive, &inside(&root, path), path)?;
    }
    archive.link("/usr/bin/sh", "bash");
    // One program by two names, as Debian has it.
    archive.link("/usr/bin/systemd-udevd", "udevadm");
    add_busybox(&mut archive, kit, &tools)?;
    let own = modules::Own::among(kit, spec)?;
    modules::add(&mut archive, kit, &own, &spec.modules)?;
    Ok(archive.finish())
}

/// The tools and the shared libraries that they load, as paths inside the root.
fn with_libraries(kit: &Kit) -> Result<Vec<String>> {
    let mut command = kit.command(&[], Path::new("/"), "ldd");
    let list = run::stdout(command.args(TOOLS))?;
    let libraries = libraries(&list);
    if libraries.is_empty() {
        bail!("ldd in the kit named no library of the guest's tools");
    }
    Ok(TOOLS
        .iter()
        .chain(LIBRARIES)
        .map(ToString::to_string)
        .chain(libraries)
        .collect())
}

/// The library paths in the output of `ldd`, each once, by the directory's real name.
pub(crate) fn libraries(list: &str) -> BTreeSet<String> {
    let words = list.lines().filter_map(|line| {
        let (path, _) = line.trim().rsplit_once(" (0x")?;
        let path = path.rsplit(" => ").next()?;
        path.starts_with('/').then_some(path)
    });
    words
        .map(|path| {
            if path.starts_with("/usr/") {
                path.to_string()
            } else {
                format!("/usr{path}")
            }
        })
        .collect()
}

/// A path of the root as the host sees it; the links of Debian's packages on the way are relative.
fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn add_file(archive: &mut Archive, from: &Path, to: &str) -> Result<()> {
    let context = || format!("cannot read {}", from.display());
    let content = fs::read(from).with_context(context)?;
    let mode = fs::metadata(from)
        .with_context(context)?
        .permissions()
        .mode();
    archive.file(to, mode, &content);
    Ok(())
}

/// Adds busybox and a link for each of its applets that is not there as a tool of its own.
fn add_busybox(archive: &mut Archive, kit: &Kit, tools: &[String]) -> Result<()> {
    add_file(
        archive,
        &inside(&kit.root(), "/usr/bin/busybox"),
        "/usr/bin/busybox",
    )?;
    let taken: BTreeSet<&str> = tools
        .iter()
        .filter_map(|path| path.rsplit('/').next())
        .chain(["busybox", "sh"])
        .collect();
    let list = run::stdout(kit.command(&[], Path::new("/"), "busybox").arg("--list"))?;
    let applets: Vec<&str> = list.lines().filter(|name| !taken.contains(name)).collect();
    for needed in ["dd", "insmod", "modprobe", "rmmod", "sha256sum"] {
        if !applets.contains(&needed) {
            bail!("the kit's busybox has no {needed}");
        }
    }
    for name in applets {
        archive.link(&format!("/usr/bin/{name}"), "busybox");
    }
    // The kernel calls modprobe by this name.
    archive.link("/usr/sbin/modprobe", "../bin/busybox");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_prints() {
        let list = "/usr/sbin/dmsetup:\n\
            \tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f00)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n\
            /usr/bin/lsblk:\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f02)\n\
            \tstatically linked\n";
        let found: Vec<String> = libraries(list).into_iter().collect();
        let expected = [
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/usr/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(found, expected);
    }
}
