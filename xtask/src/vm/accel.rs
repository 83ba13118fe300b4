// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Hardware acceleration: used when a guest really boots with it.
//!
//! A machine may have a `/dev/kvm` on which no stock kernel starts, so a guest is booted with a
//! short time limit once, and the answer is remembered until the machine restarts or the kernel
//! or QEMU changes.

use super::{Runner, Spec, Vm};
use crate::cache;
use crate::kit::Kit;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Longest boot that counts as one; a guest with working KVM needs about a second.
const LIMIT: Duration = Duration::from_secs(12);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Accel {
    Kvm,
    Emulation,
}

impl Accel {
    pub(super) fn option(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Emulation => "tcg,thread=multi",
        }
    }
}

/// What was found out, and on what it depends.
#[derive(Deserialize, PartialEq, Serialize)]
struct Answer {
    machine: String,
    kit: String,
    kvm: bool,
}

/// Decides for this machine; `init` is the guest's first process.
pub(super) fn choose(kit: &Kit, init: &Path) -> Result<Accel> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accel::Emulation);
    }
    let machine = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let machine = machine.context("cannot read the machine's boot id")?;
    let path = cache::directory()?.join(match kit.own {
        Some(own) => format!("kvm-{}.json", own.name()),
        None => "kvm.json".to_string(),
    });
    // The kit holds QEMU as well as the kernel.
    let kit_name = kit.root().display().to_string();
    let known = fs::read_to_string(&path).ok();
    let known = known.and_then(|text| serde_json::from_str::<Answer>(&text).ok());
    if let Some(answer) = known {
        if answer.machine == machine && answer.kit == kit_name {
            return Ok(if answer.kvm {
                Accel::Kvm
            } else {
                Accel::Emulation
            });
        }
    }
    eprintln!(
        "vm: trying whether a guest boots under KVM ({} s at most)",
        LIMIT.as_secs()
    );
    let spec = Spec {
        boot_timeout: LIMIT,
        quiet: true,
        ..Spec::default()
    };
    let booted =
        Vm::start(kit, &spec, init, Runner::Qemu(Accel::Kvm)).and_then(|vm| vm.shut_down());
    let kvm = booted.is_ok();
    eprintln!(
        "vm: {}",
        if kvm {
            "it does"
        } else {
            "it does not: guests are emulated"
        }
    );
    let answer = Answer {
        machine,
        kit: kit_name,
        kvm,
    };
    fs::write(&path, serde_json::to_string_pretty(&answer)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(if kvm { Accel::Kvm } else { Accel::Emulation })
}
