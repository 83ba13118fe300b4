// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl attach`: a stack becomes a block device.

use crate::cli::devices::{device_name, AttachArgs};
use crate::cmd::print::print;
use anyhow::Result;
use vbdctl::control::attach::{attach, Attached, Stack};
use vbdctl::control::results::Results;
use vbdctl::control::saved::{self, Saved};
use vbdctl::control::Control;
use vbdctl::error::Error;

/// Attaches the stack and prints the device's path.
pub(crate) fn run(args: &AttachArgs) -> Result<()> {
    let mut results = Results::default();
    let result = told(args, &mut results);
    // The failure itself is worth more than that it could not be written down.
    let written = results.write(&result);
    let attached = result?;
    written?;
    attached.keep();
    Ok(())
}

/// Attaches, and prints the path: nobody has a device that nobody knows of.
fn told(args: &AttachArgs, results: &mut Results) -> Result<Attached> {
    let attached = device(args, results)?;
    print(&format!("{}\n", attached.node().display()))?;
    Ok(attached)
}

fn device(args: &AttachArgs, results: &mut Results) -> vbdctl::Result<Attached> {
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
    options.partscan |= args.partscan;
    options.sector_size = args.sector_size.unwrap_or(options.sector_size);
    let stack = Stack::open(&layers, options)?;
    let name = match args.name.clone().or(name) {
        Some(name) => device_name(&name).map_err(|reason| Error::Device { name, reason })?,
        None => stack.name(),
    };
    let control = Control::load()?;
    attach(&control, &name, &stack, args.timeout)
}
