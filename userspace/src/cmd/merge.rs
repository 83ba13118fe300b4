// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl merge`: several layers become one.

use super::progress::progress_bar;
use crate::cli::{self, layers::MergeArgs};
use anyhow::Result;
use vbdctl::image::layer::Contents;
use vbdctl::image::merge::{merge, MergeOptions};
use vbdctl::image::{config, parallel, Stack};

/// Makes the layer.
pub(crate) fn run(args: &MergeArgs) -> Result<()> {
    let container = args.form.container("merge", &args.work)?;
    let mut files = Stack::resolve(&args.stack)?;
    // A configuration lists all layers of an image, and --layers counts from the bottom of a stack.
    let mut at_bottom = config::is_config(&args.stack[0])?;
    if let Some((first, last)) = args.layers {
        let count = files.len();
        let last = last.unwrap_or(count.saturating_sub(1));
        if first > last || last >= count {
            let message = format!("--layers asks for layers {first} to {last} of {count}");
            return Err(cli::misuse("merge", message));
        }
        at_bottom = first == 0;
        files = files.drain(first..=last).collect();
    }
    let options = MergeOptions {
        container,
        uuid: args.name.uuid,
        message: args.name.message.clone(),
        bottom: (args.bottom || at_bottom) && !args.keep_zeroed,
    };
    let stack = Stack::open_part(&files)?;
    let bar = progress_bar(Contents::of(stack.index()).data_bytes);
    let jobs = parallel::readers(args.work.jobs());
    merge(&stack, &args.output, &options, jobs, &mut |done| {
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    Ok(())
}
