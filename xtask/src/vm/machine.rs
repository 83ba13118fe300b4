// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The QEMU command line of the guest.

use super::accel::Accel;
use super::Spec;
use crate::kit::Kit;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of one run, all in a directory of its own.
pub(super) struct Place {
    pub(super) directory: PathBuf,
}

impl Place {
    pub(super) fn initramfs(&self) -> PathBuf {
        self.directory.join("initramfs")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    pub(super) fn share(&self) -> PathBuf {
        self.directory.join("share.img")
    }

    /// What QEMU itself had to say.
    pub(super) fn qemu(&self) -> PathBuf {
        self.directory.join("qemu.log")
    }
}

/// How a person or a program reaches the guest.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Line {
    /// Frames over QEMU's standard input and output; the console goes to a file.
    Frames,
    /// The terminal is the guest's console.
    Terminal,
}

/// A QEMU that is ready to be started.
pub(super) fn command(kit: &Kit, spec: &Spec, place: &Place, accel: Accel, line: Line) -> Command {
    // QEMU runs in the kit and sees the host's files under their own paths.
    let mut binds: Vec<&Path> = vec![&place.directory];
    binds.extend(spec.disks.iter().filter_map(|disk| disk.file.parent()));
    let plugin = spec.plugin.iter();
    binds.extend(plugin.filter_map(|plugin| plugin.file.parent()));
    let mut qemu = kit.command(&binds, Path::new("/"), "qemu-system-x86_64");
    let mut option = |name: &str, value: &str| {
        qemu.arg(name).arg(value);
    };
    option("-accel", accel.option());
    if let Some(plugin) = &spec.plugin {
        let file = plugin.file.display().to_string().replace(',', ",,");
        let arguments = plugin
            .arguments
            .iter()
            .map(|argument| format!(",{argument}"));
        option(
            "-plugin",
            &format!("file={file}{}", arguments.collect::<String>()),
        );
    }
    let model = match accel {
        Accel::Kvm => "max",
        Accel::Emulation => spec.emulated,
    };
    option("-cpu", model);
    option("-smp", &spec.processors.to_string());
    option("-m", &spec.memory_mib.to_string());
    option("-display", "none");
    option("-kernel", &kit.kernel());
    option("-initrd", &place.initramfs().display().to_string());
    // A panic resets the machine at once, which ends QEMU with -no-reboot.
    let mut words = "console=ttyS0 panic=-1 oops=panic".to_string();
    if accel == Accel::Emulation {
        // A processor that waits in MWAIT is one that spins under emulation; and when the host is
        // busy, an emulated clock seems to jump, which the kernel's watchdog would tell in the log.
        words += " idle=halt tsc=reliable";
    }
    match line {
        Line::Frames => {
            words += " loglevel=5";
            option("-serial", &format!("file:{}", place.console().display()));
            option("-device", "virtio-serial-pci");
            option("-chardev", "stdio,id=line,signal=off");
            option("-device", "virtserialport,chardev=line,name=vbd");
        }
        Line::Terminal => {
            words += " vbd.console loglevel=5";
            option("-serial", "mon:stdio");
        }
    }
    option("-device", "virtio-rng-pci");
    let rate = spec
        .disk_rate
        .map_or_else(String::new, |rate| format!(",throttling.bps-read={rate}"));
    let mut disk = |name: &str, file: &Path, read_only: bool| {
        let file = file.display().to_string().replace(',', ",,");
        let read_only = if read_only { "on" } else { "off" };
        option(
            "-drive",
            &format!(
                "if=none,id={name},format=raw,cache=unsafe,file.locking=off,discard=unmap,\
                 read-only={read_only}{rate},file={file}"
            ),
        );
        option(
            "-device",
            &format!("virtio-blk-pci,drive={name},serial={name}"),
        );
    };
    if spec.share.is_some() {
        disk("share", &place.share(), false);
    }
    for extra in &spec.disks {
        disk(&extra.name, &extra.file, extra.read_only);
    }
    if !spec.append.is_empty() {
        words = format!("{words} {}", spec.append);
    }
    option("-append", &words);
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
    qemu
}
