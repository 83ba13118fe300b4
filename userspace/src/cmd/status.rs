// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl status`: what a device is and how it does.

use crate::cli::devices::StatusArgs;
use crate::cmd::print::{json, print};
use anyhow::{bail, Result};
use vbdctl::control::Control;
use vbdctl::error::Error;
use vbdctl::report::device::DeviceReport;

/// Prints a report on the device.
pub(crate) fn run(args: &StatusArgs) -> Result<()> {
    let Some(control) = Control::find() else {
        bail!(Error::Driver("no device is attached".to_owned()));
    };
    let slot = control.resolve(&args.device)?;
    let report = DeviceReport::of(&control, &slot)?;
    match args.json {
        true => print(&json(&report)?),
        false => print(&report.to_string()),
    }
}
