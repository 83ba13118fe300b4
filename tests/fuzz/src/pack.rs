// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Many small inputs in one file: each one's length as a u32, and its bytes.
//!
//! A corpus is thousands of files of some bytes each, which no version control likes.

use anyhow::{bail, Context, Result};
use std::fs;
use std::path::Path;

/// The inputs in a packed file; none if there is no such file.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let mut rest = &bytes[..];
    let mut inputs = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((input, more)) = more.split_at_checked(length) else {
            bail!("{} ends inside an input", path.display());
        };
        inputs.push(input.to_vec());
        rest = more;
    }
    Ok(inputs)
}

/// Packs all files of a directory, the shortest first.
pub fn write(directory: &Path, path: &Path) -> Result<usize> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?.path();
        inputs.push(fs::read(&entry).with_context(|| entry.display().to_string())?);
    }
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    let mut bytes = Vec::new();
    for input in &inputs {
        bytes.extend(u32::try_from(input.len())?.to_le_bytes());
        bytes.extend_from_slice(input);
    }
    fs::write(path, bytes).with_context(|| path.display().to_string())?;
    Ok(inputs.len())
}

/// Writes inputs as files of a directory, which is made.
pub fn unpack(inputs: &[Vec<u8>], kind: &str, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    for (number, input) in inputs.iter().enumerate() {
        let path = directory.join(format!("{kind}-{number:05}"));
        fs::write(&path, input).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
