// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The one program of ours in the test machine.
//!
//! As the first process (`/init`) it sets the machine up and runs the commands that the host
//! sends. As `vbd-guest` it runs the test cases: `vbd-guest list`, `vbd-guest run [pattern…]`; and
//! the loads that are measured: `vbd-guest bench`.

mod bench;
mod case;
mod cases;
mod frame;
mod init;
mod leftovers;
mod modules;
mod stuck;

use std::process::ExitCode;

fn main() -> ExitCode {
    if rustix::process::getpid().is_init() {
        return init::main();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((verb, words)) if verb == "bench" => bench::main(words),
        _ => case::main(),
    }
}
