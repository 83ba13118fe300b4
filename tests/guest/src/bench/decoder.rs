// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The kernel's LZ4 decoder by itself, on what the devices show: the bound of all that decode.

use super::contender::PLACE;
use super::meter::{measure, Sample};
use crate::modules;
use anyhow::{ensure, Context, Result};
use std::fs;
use std::path::Path;

const MODULE: &str = "/lz4_decoder.ko";

/// The module of the decoder, loaded, with the raw image in it.
pub(super) struct Decoder {
    bytes: u64,
}

impl Decoder {
    pub(super) const NAME: &'static str = "lz4-decoder";

    pub(super) fn load() -> Result<Decoder> {
        ensure!(modules::probe(&["lz4_compress"]), "modprobe lz4_compress");
        let file = Path::new(PLACE).join("raw");
        let bytes = fs::metadata(&file)?.len();
        modules::load(MODULE, &format!("file={}", file.display())).context("insmod lz4_decoder")?;
        Ok(Decoder { bytes })
    }

    /// Decodes everything once, shared out to so many threads.
    pub(super) fn measure(&self, threads: usize) -> Result<Sample> {
        let threads = threads.to_string();
        measure(|| {
            let run = fs::write("/sys/module/lz4_decoder/parameters/run", &threads);
            run.context("the decoder").map(|()| self.bytes)
        })
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        if let Err(error) = modules::unload("lz4_decoder") {
            eprintln!("bench: rmmod lz4_decoder: {error}");
        }
    }
}
