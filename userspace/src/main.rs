// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl`: makes and inspects layers and stacks of overlaybd images.
//!
//! Exit status: 0 done, 1 failed, 2 misuse.

mod cli;
mod cmd;

use clap::Parser as _;
use signal_hook::consts::{SIGABRT, SIGXFSZ};
use std::io;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use vbdctl::error::complain;

fn main() -> ExitCode {
    vbdctl::image::program::take_over();
    if let Err(error) = take_signals() {
        complain(&format!("cannot take signals: {error}"));
        return ExitCode::FAILURE;
    }
    let cli = cli::Cli::parse_from(cli::words());
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
                complain(&format!("{error:#}"));
                ExitCode::FAILURE
            }
        },
    }
}

/// Turns signals that the program's own doing raises into failures.
fn take_signals() -> io::Result<()> {
    let always = Arc::new(AtomicBool::new(true));
    // Where there is no memory, that is said and the program aborts: it has failed.
    signal_hook::flag::register_conditional_shutdown(SIGABRT, 1, Arc::clone(&always))?;
    // A file beyond the limit of its size is an error of writing it.
    signal_hook::flag::register(SIGXFSZ, always)?;
    Ok(())
}
