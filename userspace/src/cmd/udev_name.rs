// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl udev-name`: by which name a disk was attached, for udev's rule.

use crate::cli::devices::UdevNameArgs;
use crate::cmd::print::print;
use anyhow::{bail, Result};
use std::time::{Duration, Instant};
use vbdctl::control::Control;

/// Longest wait for devices that are being attached. A new disk is announced before its attach is
/// over, so the device in question is one of them.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints the name; fails if the disk has none.
pub(crate) fn run(args: &UdevNameArgs) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let Some(control) = Control::find() else {
        bail!("{}: the driver is not there", args.disk);
    };
    loop {
        let mut attaching = false;
        for name in control.names()? {
            let slot = control.slot(&name);
            if slot.disk().as_deref() == Some(&args.disk) {
                return print(&format!("{name}\n"));
            }
            // It may have come to its end between the two looks.
            attaching |= !matches!(slot.state().as_deref(), Ok("off"))
                && slot.disk().is_none_or(|disk| disk == args.disk);
        }
        if !attaching || Instant::now() >= deadline {
            bail!("{}: not attached by a name", args.disk);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
