// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl detach`: devices go away.

use crate::cli::devices::DetachArgs;
use anyhow::{bail, Result};
use std::time::{Duration, Instant};
use vbdctl::control::detach::detach;
use vbdctl::control::{Control, Slot};
use vbdctl::error::{complain, Error};

/// Detaches the devices; goes on after a failure.
pub(crate) fn run(args: &DetachArgs) -> Result<()> {
    let Some(control) = Control::find() else {
        // Without the driver there are no devices, so all of them are detached.
        if args.all {
            return Ok(());
        }
        bail!(Error::Driver("no device is attached".to_owned()));
    };
    let mut failures: Vec<Error> = Vec::new();
    if args.all {
        failures = all(&control, args.timeout)?;
    } else {
        for word in &args.devices {
            let result = control
                .resolve(word)
                .and_then(|slot| detach(&control, &slot, args.timeout));
            failures.extend(result.err());
        }
    }
    let last = failures.pop();
    for failure in failures {
        complain(&failure.to_string());
    }
    last.map_or(Ok(()), |failure| Err(failure.into()))
}

/// Detaches all devices. One may lie on another, which is busy until that is gone: what is busy is
/// tried again as long as something goes.
fn all(control: &Control, timeout: Duration) -> Result<Vec<Error>> {
    let deadline = Instant::now() + timeout;
    let mut left: Vec<Slot> = slots(control)?;
    loop {
        let before = left.len();
        let mut failures = Vec::new();
        left.retain(|slot| match detach(control, slot, Duration::ZERO) {
            Ok(()) => false,
            Err(_) if !slot.exists() => false,
            Err(failure) => {
                failures.push(failure);
                true
            }
        });
        if left.is_empty() {
            return Ok(failures);
        }
        if left.len() == before {
            if Instant::now() >= deadline {
                return Ok(failures);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn slots(control: &Control) -> Result<Vec<Slot>> {
    let names = control.names()?;
    Ok(names.iter().map(|name| control.slot(name)).collect())
}
