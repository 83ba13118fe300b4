// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Everything a developer or CI does with vbd, as verbs of `cargo xtask`.

mod bench;
mod cache;
mod ci;
mod demo;
mod fuzz;
mod kit;
mod man;
mod module;
mod not_had;
mod run;
mod suites;
mod test;
mod vm;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show it: make three layers, boot, mount them from /dev/vbd0 and compare the files
    Demo(demo::Args),
    /// Prepare the kernel build tree, the tools and the kernel that guests boot
    Kit(kit::Args),
    /// Run the checkout's make inside the kit, such as `make -- clippy`
    Make(module::MakeArgs),
    /// Build vbd.ko for the kit's kernel
    Build(module::BuildArgs),
    /// Boot the kit's kernel, under QEMU or as User-Mode Linux, and run a command in it
    Vm(vm::Args),
    /// Write man pages and shell completions of vbdctl to target/man and target/completions
    Man(man::Args),
    /// Run all tests: lints, on the host, in the virtual machine
    Test(test::Args),
    /// Run the lanes of CI: all tests and fuzzing in short, or everything there is
    Ci(ci::Args),
    /// Run what others have written to try disks and file systems: fio, stress-ng, checkers
    Suites(suites::Args),
    /// Look with libFuzzer for inputs that the readers do not stand
    Fuzz(fuzz::Args),
    /// Measure vbd beside its peers in one boot, and the tool on the host
    Bench(bench::Args),
    /// Run a program inside the kit's toolchain root
    #[command(hide = true)]
    Enter(kit::enter::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo(args) => demo::main(&args),
        Command::Kit(args) => kit::main(&args),
        Command::Make(args) => module::make_main(&args),
        Command::Build(args) => module::build_main(&args),
        Command::Vm(args) => vm::main(&args),
        Command::Man(args) => man::main(&args),
        Command::Test(args) => test::main(&args),
        Command::Ci(args) => ci::main(&args),
        Command::Suites(args) => suites::main(&args),
        Command::Fuzz(args) => fuzz::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Enter(args) => kit::enter::main(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<not_had::NotHad>() {
            // What was on the way there is of no interest: one line says it.
            Some(reason) => {
                eprintln!("{reason}");
                ExitCode::from(not_had::NotHad::STATUS)
            }
            None => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// The top of the checkout that this xtask was built from.
fn checkout() -> Result<std::path::PathBuf> {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = manifest
        .parent()
        .ok_or_else(|| anyhow::anyhow!("{} has no parent", manifest.display()))?;
    Ok(top.to_path_buf())
}
