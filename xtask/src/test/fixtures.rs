// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Where the images of known content are, if they are here.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The directory of fixtures: below `$VBD_SHARED`, or below the `shared` beside the checkout.
///
/// The inner error says why there is none.
pub(crate) fn find() -> Result<std::result::Result<PathBuf, String>> {
    let set = std::env::var_os("VBD_SHARED").filter(|value| !value.is_empty());
    let shared = match &set {
        Some(shared) => PathBuf::from(shared),
        None => {
            let top = crate::checkout()?;
            let beside = top.parent().unwrap_or(Path::new("/"));
            beside.join("shared")
        }
    };
    let fixtures = shared.join("fixtures");
    if fixtures.join("index.json").is_file() {
        let path = fixtures.canonicalize();
        return Ok(Ok(path.with_context(|| fixtures.display().to_string())?));
    }
    Ok(Err(format!(
        "there is no {} (set VBD_SHARED to the directory that holds fixtures/)",
        fixtures.join("index.json").display()
    )))
}
