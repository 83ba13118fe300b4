// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The one program of ours in the test machine.
//!
//! As the first process (`/init`) it sets the machine up and runs the commands that the host
//! sends. As `vbd-guest` it runs the test cases: `vbd-guest list`, `vbd-guest run [pattern…]`.

mod case;
mod cases;
mod frame;
mod init;
mod modules;

use std::process::ExitCode;

fn main() -> ExitCode {
    if rustix::process::getpid().is_init() {
        init::main()
    } else {
        case::main()
    }
}
