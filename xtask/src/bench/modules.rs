// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Kernel modules of the measurements' own.

use crate::kit::Kit;
use crate::module;
use crate::run;
use anyhow::{ensure, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Decodes LZ4 and does nothing else.
const DECODER: (&str, &str) = ("lz4_decoder", include_str!("lz4_decoder.c"));
/// Tells the processor time of User-Mode Linux as its host counts it.
const CLOCK: (&str, &str) = ("host_clock", include_str!("host_clock.c"));

/// Builds the modules for the kit's kernel in a directory below `place`; each with its path in the
/// guest.
pub(crate) fn build(kit: &Kit, place: &Path) -> Result<Vec<(PathBuf, String)>> {
    let sources: &[(&str, &str)] = match kit.is_uml() {
        true => &[DECODER, CLOCK],
        false => &[DECODER],
    };
    let place = place.join("modules");
    fs::create_dir(&place)?;
    let mut objects = String::from("obj-m :=");
    for (name, source) in sources {
        fs::write(place.join(format!("{name}.c")), source)?;
        objects += &format!(" {name}.o");
    }
    fs::write(place.join("Kbuild"), objects + "\n")?;
    let mut make = module::make(kit, &place);
    make.arg("-C").arg(kit.kdir());
    make.arg(format!("M={}", place.display())).arg("modules");
    // What the compiler has to say goes to the terminal.
    let status = run::status(make.stdout(Stdio::null()))?;
    ensure!(
        status.success(),
        "the modules of the measurements: {status}"
    );
    let files = sources.iter().map(|(name, _)| format!("{name}.ko"));
    Ok(files
        .map(|file| (place.join(&file), format!("/{file}")))
        .collect())
}
