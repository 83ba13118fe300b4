// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbd-guest bench`: the load generator of `cargo xtask bench`.
//!
//! All contenders of a load are set up side by side in one machine and measured in turn; the order
//! rotates from round to round. Each measurement is one line of JSON on standard output, and what
//! is to be made of them is the host's business.

mod attach;
mod contender;
mod decoder;
mod load;
mod meter;
mod tree;

use anyhow::{bail, Context, Result};
use std::path::Path;
use std::process::ExitCode;

/// The module by which User-Mode Linux knows its processor time, if this is one.
const HOST_CLOCK: &str = "/host_clock.ko";

/// What the host asks for, as words `name=value`.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Times that everything is measured.
    rounds: u32,
    /// Random reads in one measurement.
    reads: usize,
    /// Parts of the names of the loads to run; empty for all.
    only: Vec<String>,
    /// Parts of the names of loads that are not to run whatever was asked for.
    without: Vec<String>,
    /// Whether instructions are counted: only loads for which the number means something.
    count: bool,
}

impl Settings {
    fn parse(words: &[String]) -> Result<Settings> {
        let mut settings = Settings {
            rounds: 1,
            reads: 512,
            only: Vec::new(),
            without: Vec::new(),
            count: false,
        };
        for word in words {
            let (name, value) = word.split_once('=').context("a word without =")?;
            match name {
                "rounds" => settings.rounds = value.parse()?,
                "reads" => settings.reads = value.parse()?,
                "count" => settings.count = value == "1",
                "only" => settings.only = list(value),
                "without" => settings.without = list(value),
                _ => bail!("{word} is no setting"),
            }
        }
        Ok(settings)
    }

    /// Whether a load was asked for.
    fn wants(&self, load: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|part| load.contains(part.as_str()));
        (self.only.is_empty() || named(&self.only)) && !named(&self.without)
    }
}

/// The words of a list with commas between them.
fn list(text: &str) -> Vec<String> {
    let words = text.split(',').filter(|word| !word.is_empty());
    words.map(str::to_string).collect()
}

/// `vbd-guest bench [name=value…]`.
pub(crate) fn main(words: &[String]) -> ExitCode {
    match Settings::parse(words).and_then(|settings| run(&settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> Result<()> {
    if !crate::modules::probe(&["loop", "dm_mod", "erofs", "squashfs", "vbd", "vbd_dm"]) {
        bail!("cannot load the modules of the contenders");
    }
    if Path::new(HOST_CLOCK).exists() {
        crate::modules::load(HOST_CLOCK, "").context("insmod host_clock.ko")?;
    }
    load::run(settings, "inline")?;
    tree::run(settings)?;
    attach::run(settings)?;

    // The other way to serve reads needs the module loaded anew; loop goes along as the yardstick.
    crate::modules::unload("vbd").context("rmmod vbd")?;
    crate::modules::load("/vbd.ko", "inline=0").context("insmod vbd.ko inline=0")?;
    load::run(settings, "workers")?;
    meter::end();
    Ok(())
}

/// Element `number` of a list whose order rotates with the rounds.
fn turn<T>(list: &[T], round: u32, number: usize) -> Option<&T> {
    let at = number.checked_add(usize::try_from(round).ok()?)?;
    list.get(at.checked_rem(list.len())?)
}
