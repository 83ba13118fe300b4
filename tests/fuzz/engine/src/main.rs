// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! libFuzzer around one target, whose name is in the environment.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use vbd_fuzz::{target, Run};

static TARGET: OnceLock<Run> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("VBD_FUZZ_TARGET").expect("VBD_FUZZ_TARGET names a target");
        let run = target(&name).expect("a target of that name").run;
        TARGET.set(run).expect("libFuzzer begins once");
    },
    |data: &[u8]| {
        TARGET.get().expect("libFuzzer has begun")(data);
    }
);
