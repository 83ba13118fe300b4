// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Man pages and shell completions, from the same tree as the help. Only built with `docs`.

use crate::cli::devices::DocsArgs;
use crate::cli::Cli;
use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, ValueEnum as _};
use clap_complete::Shell;
use std::fs;

/// Writes them below a directory.
pub(crate) fn run(args: &DocsArgs) -> Result<()> {
    let (man, completions) = (
        args.directory.join("man"),
        args.directory.join("completions"),
    );
    for place in [&man, &completions] {
        fs::create_dir_all(place).with_context(|| place.display().to_string())?;
    }
    clap_mangen::generate_to(Cli::command(), &man).with_context(|| man.display().to_string())?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut Cli::command(), "vbdctl", &completions)
            .with_context(|| completions.display().to_string())?;
    }
    Ok(())
}
