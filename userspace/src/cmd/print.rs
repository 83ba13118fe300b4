// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Words on standard output.

use anyhow::{Context as _, Result};
use std::io::Write as _;

/// Writes to standard output.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// JSON, in lines.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
