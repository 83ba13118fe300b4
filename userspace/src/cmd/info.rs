// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl info`: what layers and a stack are.

use crate::cli::InfoArgs;
use crate::cmd::print::print;
use anyhow::Result;
use vbdctl::image::Stack;
use vbdctl::report::StackReport;

/// Prints a report on the stack.
pub(crate) fn run(args: &InfoArgs) -> Result<()> {
    let stack = Stack::open_arguments(&args.stack)?;
    let report = StackReport::of(&stack);
    let text = if args.json {
        report.json()?
    } else {
        report.to_string()
    };
    print(&text)
}
