// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Detaching, which ends within a bound whatever the device does.

use super::{holder, Control, Slot, Wait};
use crate::error::{Error, Result};
use std::io;
use std::time::{Duration, Instant};

/// How many of a device's users an error names.
const NAMED: usize = 8;

/// Detaches a device and removes it.
///
/// A device that is mounted, or held by another device, is an error at once; programs that have it
/// open are waited for until `timeout` is over.
pub fn detach(control: &Control, slot: &Slot, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let Some(_lock) = slot.lock(deadline)? else {
        return Err(Error::device(&slot.name, "there is no such device"));
    };
    let mut wait = Wait::until(deadline);
    loop {
        slot.settled(deadline)?;
        // Switched on again by someone who does not take the lock, it is busy once more.
        match slot.take_away() {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let holders = slot
                    .disk()
                    .map(|disk| holder::find(control, &disk))
                    .unwrap_or_default();
                if holders.iter().any(holder::Holder::lasts) || !wait.pause() {
                    return Err(Error::device(&slot.name, busy(&holders)));
                }
            }
            Err(error) if !slot.exists() => {
                return Err(Error::device(&slot.name, format!("went away: {error}")));
            }
            Err(error) => return Err(Error::io(&slot.path, "cannot detach")(error)),
        }
    }
}

fn busy(holders: &[holder::Holder]) -> String {
    if holders.is_empty() {
        return "is busy: open, but by no mount, device or process that can be seen from here"
            .to_owned();
    }
    let mut named: Vec<String> = holders
        .iter()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    if let Some(more) = holders.len().checked_sub(NAMED).filter(|more| *more > 0) {
        named.push(format!("and {more} more"));
    }
    format!("is busy: {}", named.join("; "))
}
