// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Content for `cargo xtask bench`, and the compressor's own speed.
//!
//! The same arguments make the same bytes.

mod content;
mod lz4_rate;

use anyhow::{bail, Result};
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: vbd-bench tree <directory> <bytes>
       vbd-bench split <raw image> <directory> <layers>
       vbd-bench part <file> <bytes> <layers> <layer>
       vbd-bench repeat <raw image> <file> <times>
       vbd-bench writable <raw image> <data file> <index file>
       vbd-bench lz4-rate <file> <bytes of a block>";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vbd-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["tree", directory, bytes] => content::tree(Path::new(directory), bytes.parse()?),
        ["split", raw, directory, layers] => {
            content::split(Path::new(raw), Path::new(directory), layers.parse()?)
        }
        ["part", file, bytes, layers, layer] => content::part(
            Path::new(file),
            bytes.parse()?,
            layers.parse()?,
            layer.parse()?,
        ),
        ["repeat", raw, file, times] => {
            content::repeat(Path::new(raw), Path::new(file), times.parse()?)
        }
        ["writable", raw, data, index] => {
            content::writable(Path::new(raw), Path::new(data), Path::new(index))
        }
        ["lz4-rate", file, block] => lz4_rate::run(Path::new(file), block.parse()?),
        _ => bail!("{USAGE}"),
    }
}
