// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl attach`: a stack becomes a block device.

use crate::cli::devices::{device_name, AttachArgs};
use crate::cmd::print::print;
use anyhow::Result;
use std::path::PathBuf;
use vbdctl::control::attach::{attach, Stack};
use vbdctl::control::saved::{self, Results, Saved};
use vbdctl::control::Control;
use vbdctl::error::Error;

/// Attaches the stack and prints the device's path.
pub(crate) fn run(args: &AttachArgs) -> Result<()> {
    let mut results = Results::default();
    let result = device(args, &mut results);
    // The failure itself is worth more than that it could not be written down.
    let written = results.write(&result);
    let device = result?;
    written?;
    print(&format!("{}\n", device.display()))
}

fn device(args: &AttachArgs, results: &mut Results) -> vbdctl::Result<PathBuf> {
    let Saved {
        layers,
        name,
        mut options,
    } = match &args.config {
        Some(config) => saved::read(config, results)?,
        None => Saved {
            layers: saved::arguments(&args.stack, results)?,
            ..Saved::default()
        },
    };
    options.size = args.size.unwrap_or(options.size);
    options.verify = args.verify.unwrap_or(options.verify);
    options.direct |= args.direct;
    let stack = Stack::open(&layers, options)?;
    let name = match args.name.clone().or(name) {
        Some(name) => device_name(&name).map_err(|reason| Error::Device { name, reason })?,
        None => stack.name(),
    };
    let control = Control::load()?;
    attach(&control, &name, &stack, args.timeout)
}
