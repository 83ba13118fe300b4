// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The signals that ask a program to stop.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Keeps the signals from ending the program; a second one still does.
pub(super) fn watch() -> io::Result<()> {
    if FLAG.get().is_some() {
        return Ok(());
    }
    let flag = FLAG.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// Whether one has arrived.
pub(super) fn arrived() -> bool {
    FLAG.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}
