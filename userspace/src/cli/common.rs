// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Options that several verbs take.

use super::{block_size, message, misuse, uuid};
use clap::{Args, ValueEnum};
use std::thread;
use vbd_format::zfile::Algorithm;
use vbdctl::image::codec::ZSTD_LEVEL;
use vbdctl::image::{Compression, Container};

/// Most compressing threads by default: one thread feeds them all.
const MOST_JOBS: usize = 64;

/// Compressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// Not compressed.
    Plain,
    /// LZ4: fast.
    Lz4,
    /// ZSTD: small.
    Zstd,
}

/// How a new layer is kept in its file.
#[derive(Debug, Args)]
pub(crate) struct FormArgs {
    /// Compression of the layer.
    #[arg(long, short, value_enum, default_value_t = FormatArg::Lz4)]
    pub(crate) format: FormatArg,

    /// Bytes in a compressed block: a power of two from 512 to 64K [default: 4K].
    ///
    /// Larger blocks compress better; a small read has to decompress a whole one,
    /// or with LZ4 what lies before it in the block.
    #[arg(long, short, value_name = "SIZE", value_parser = block_size)]
    pub(crate) block_size: Option<u32>,

    /// ZSTD level, 1 to 22 [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=22))]
    pub(crate) level: Option<i32>,

    /// Write no checksum after each block.
    ///
    /// Header and jump table keep theirs.
    #[arg(long)]
    pub(crate) no_crc: bool,

    /// Leave the header without the final numbers, as a writer to a stream does.
    ///
    /// Readers then take them from the trailer.
    #[arg(long)]
    pub(crate) trailer_only: bool,

    /// Wrap the layer into a tar archive with one member, as registries carry layers.
    #[arg(long)]
    pub(crate) tar: bool,
}

/// What a new layer says of itself.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Name of the layer [default: made from its contents].
    #[arg(long, value_parser = uuid)]
    pub(crate) uuid: Option<[u8; 37]>,

    /// Text to keep in the layer, at most 256 bytes.
    #[arg(long, short, value_name = "TEXT", default_value = "", hide_default_value = true,
          value_parser = message)]
    pub(crate) message: String,
}

/// How a layer is made.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Compressing threads, 1 to 128 [default: one for each processor, at most 64].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=128))]
    pub(crate) jobs: Option<u8>,

    /// Replace the output file if it exists.
    #[arg(long)]
    pub(crate) force: bool,
}

impl WorkArgs {
    /// Threads, if the user said a number.
    pub(crate) fn jobs(&self) -> Option<usize> {
        self.jobs.map(usize::from)
    }
}

impl FormArgs {
    /// The container that the options of `verb` ask for; misuse if they contradict each other.
    pub(crate) fn container(&self, verb: &str, work: &WorkArgs) -> anyhow::Result<Container> {
        Ok(Container {
            compression: self.compression(verb, work)?,
            tar: self.tar,
            force: work.force,
        })
    }

    fn compression(&self, verb: &str, work: &WorkArgs) -> anyhow::Result<Option<Compression>> {
        let algorithm = match self.format {
            FormatArg::Plain => None,
            FormatArg::Lz4 => Some(Algorithm::Lz4),
            FormatArg::Zstd => Some(Algorithm::Zstd),
        };
        if self.level.is_some() && algorithm != Some(Algorithm::Zstd) {
            return Err(misuse(verb, "--level is for --format zstd".into()));
        }
        let Some(algorithm) = algorithm else {
            for (given, name) in [
                (self.block_size.is_some(), "--block-size"),
                (self.no_crc, "--no-crc"),
                (self.trailer_only, "--trailer-only"),
            ] {
                if given {
                    return Err(misuse(
                        verb,
                        format!("{name} is for compressed formats, not for --format plain"),
                    ));
                }
            }
            return Ok(None);
        };
        let cpus = || thread::available_parallelism().map_or(1, usize::from);
        let default = Compression::new(algorithm);
        Ok(Some(Compression {
            level: self.level.unwrap_or(ZSTD_LEVEL),
            block_size: self.block_size.unwrap_or(default.block_size),
            block_crc: !self.no_crc,
            trailer_only: self.trailer_only,
            jobs: work.jobs().unwrap_or_else(|| cpus().min(MOST_JOBS)),
            ..default
        }))
    }
}
