// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The command line of a guest under User-Mode Linux: its kernel is a program that runs in the kit.
//!
//! It has no virtio. Disks are `ubd` devices, which have no serial numbers, so the guest is told the
//! names of the disks in their order; the host's line is a serial line over standard input and
//! output. The console goes to the standard error stream.

use super::machine::{Line, Place};
use super::Spec;
use crate::kit::Kit;
use anyhow::{ensure, Context, Result};
use std::path::Path;
use std::process::Command;

/// Most memory that the kernel finds room for in the address space of a program, in MiB.
pub(crate) const MEMORY_MIB: u32 = 1800;

/// A guest that is ready to be started; for times, on as many of the host's processors as it has
/// itself.
pub(super) fn command(kit: &Kit, spec: &Spec, place: &Place, line: Line) -> Result<Command> {
    ensure!(
        spec.memory_mib <= MEMORY_MIB,
        "User-Mode Linux can have {MEMORY_MIB} MiB of memory at most"
    );
    let mut binds: Vec<&Path> = vec![&place.directory];
    binds.extend(spec.disks.iter().filter_map(|disk| disk.file.parent()));
    let mut uml = if kit.checks_itself() {
        // Guests side by side are not to share a processor while another one is idle.
        kit.command(&binds, Path::new("/"), kit.kernel())
    } else {
        let mut taskset = kit.command(&binds, Path::new("/"), "taskset");
        taskset.arg("--cpu-list").arg(processors(spec.processors)?);
        taskset.arg(kit.kernel());
        taskset
    };
    uml.arg(format!("mem={}M", spec.memory_mib));
    uml.arg(format!("initrd={}", place.initramfs().display()));
    uml.arg(format!("uml_dir={}", place.directory.display()));
    // Tracing every system call instead costs several times as much.
    uml.arg("seccomp=on");
    if spec.processors > 1 {
        uml.arg(format!("ncpus={}", spec.processors));
    }
    uml.args([
        "con=null",
        "ssl=null",
        "panic=-1",
        "oops=panic",
        "loglevel=5",
    ]);
    match line {
        Line::Frames => uml.args(["con0=null,fd:2", "ssl0=fd:0,fd:1", "vbd.line=ttyS0"]),
        Line::Terminal => uml.args(["con0=fd:0,fd:1", "vbd.console"]),
    };
    let share = place.share();
    let share = spec.share.iter().map(|_| ("share", share.as_path(), false));
    let disks = spec.disks.iter();
    let disks = disks.map(|disk| (disk.name.as_str(), disk.file.as_path(), disk.read_only));
    let mut names = Vec::new();
    for (number, (name, file, read_only)) in share.chain(disks).enumerate() {
        let mode = if read_only { "r" } else { "" };
        uml.arg(format!("ubd{number}{mode}={}", file.display()));
        names.push(name);
    }
    uml.arg(format!("vbd.disks={}", names.join(",")));
    uml.args(spec.append.split_whitespace());
    Ok(uml)
}

/// The last `count` processors that we may use, as taskset has them listed: the first one is where
/// the host's own work tends to be done.
fn processors(count: u32) -> Result<String> {
    let allowed = rustix::thread::sched_getaffinity(None).context("sched_getaffinity")?;
    let all = 0..rustix::thread::CpuSet::MAX_CPU;
    let ours: Vec<String> = all
        .rev()
        .filter(|&cpu| allowed.is_set(cpu))
        .take(count as usize)
        .map(|cpu| cpu.to_string())
        .collect();
    ensure!(
        ours.len() == count as usize,
        "the guest is to have {count} processors, and the host lets us use {}",
        ours.len()
    );
    Ok(ours.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_pinned_to_as_many_processors_as_it_has() {
        let one = processors(1).unwrap();
        assert!(one.parse::<usize>().is_ok(), "{one}");
        assert!(processors(1 << 20).is_err());
    }
}
