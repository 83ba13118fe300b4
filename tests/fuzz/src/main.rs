// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What `cargo xtask fuzz` needs of the targets, and the way back from an input to a stack trace.

use anyhow::{bail, Context, Result};
use std::path::{Path, PathBuf};
use vbd_fuzz::{pack, seeds, target, Target, TARGETS};

const USAGE: &str = "usage: vbd-fuzz list
       vbd-fuzz run TARGET INPUT…               feed inputs to a target
       vbd-fuzz begin TARGET DIRECTORY [FIXTURES]   write seeds and corpus
       vbd-fuzz keep TARGET DIRECTORY           make the corpus of a directory's files";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["list"] => {
            for Target { name, max_len, .. } in TARGETS {
                println!("{name} {max_len}");
            }
        }
        ["run", name, ref inputs @ ..] => {
            let target = named(name)?;
            for input in inputs {
                let bytes = std::fs::read(input).with_context(|| (*input).to_string())?;
                (target.run)(&bytes);
                println!("{input}: fine");
            }
        }
        ["begin", name, directory, ref more @ ..] => {
            let fixtures = more.first().map(Path::new);
            named(name)?;
            pack::unpack(&seeds(name, fixtures)?, "seed", Path::new(directory))?;
            let corpus = pack::read(&corpus(name))?;
            pack::unpack(&corpus, "corpus", Path::new(directory))?;
        }
        ["keep", name, directory] => {
            named(name)?;
            let count = pack::write(Path::new(directory), &corpus(name))?;
            println!("{name}: {count} inputs");
        }
        _ => bail!("{USAGE}"),
    }
    Ok(())
}

fn named(name: &str) -> Result<&'static Target> {
    target(name).with_context(|| format!("no target {name}"))
}

/// The corpus of a target, in the checkout.
fn corpus(name: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.join("corpus").join(format!("{name}.pack"))
}
