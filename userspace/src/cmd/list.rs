// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl list`: the devices there are.

use crate::cli::devices::ListArgs;
use crate::cmd::print::{json, print};
use anyhow::Result;
use vbdctl::control::Control;
use vbdctl::report::device::List;

/// Prints the list; without the driver it is empty.
pub(crate) fn run(args: &ListArgs) -> Result<()> {
    let list = match Control::find() {
        Some(control) => List::of(&control)?,
        None => List {
            devices: Vec::new(),
        },
    };
    match args.json {
        true => print(&json(&list)?),
        false => print(&list.to_string()),
    }
}
