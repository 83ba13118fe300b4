// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl`: makes and inspects layers and stacks of overlaybd images.
//!
//! Exit status: 0 done, 1 failed, 2 misuse.

mod cli;
mod cmd;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    vbdctl::image::program::take_over();
    let cli = cli::Cli::parse();
    let result = match &cli.command {
        cli::Command::Attach(args) => cmd::attach::run(args),
        cli::Command::Detach(args) => cmd::detach::run(args),
        cli::Command::List(args) => cmd::list::run(args),
        cli::Command::Status(args) => cmd::status::run(args),
        cli::Command::DmTable(args) => cmd::dm_table::run(args),
        cli::Command::UdevName(args) => cmd::udev_name::run(args),
        #[cfg(feature = "docs")]
        cli::Command::Docs(args) => cmd::docs::run(args),
        cli::Command::Create(args) => cmd::create::run(args),
        cli::Command::Info(args) => cmd::info::run(args),
        cli::Command::Check(args) => cmd::check::run(args),
        cli::Command::Compare(args) => cmd::compare::run(args),
        cli::Command::Export(args) => cmd::export::run(args),
        cli::Command::Convert(args) => cmd::convert::run(args),
        cli::Command::Commit(args) => cmd::commit::run(args),
        cli::Command::Merge(args) => cmd::merge::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<clap::Error>() {
            // Misuse that clap cannot see by itself: it prints, and exits with status 2.
            Some(misuse) => misuse.exit(),
            None if error.is::<cmd::Failed>() => ExitCode::FAILURE,
            None => {
                eprintln!("vbdctl: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
