// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `cargo xtask suites`: what others have written to try disks and file systems, run on disks of vbd.
//!
//! The programs are Debian's, from a root of their own; layers are made by vbdctl on the host, and one
//! boot of the stock kernel serves each suite. Suites that Debian does not package are fetched at a
//! pinned commit; where that cannot be done, one line says so.

mod cgroups;
mod checkers;
mod file_systems;
mod fio;
mod guest;
mod ioctls;
mod layers;
mod schedulers;
mod sources;
mod stacks;
mod stress;
mod suspend;
mod tools;

use crate::kit::{Kit, Series};
use crate::module;
use crate::not_had::NotHad;
use crate::test::steps::{Count, Step, Steps};
use crate::vm::program;
use anyhow::{bail, Result};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use tools::Tools;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Suites; all if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// How a suite is had.
#[derive(Clone, Copy)]
enum Kind {
    /// Its programs are packaged.
    Packaged(fn(&Place, &Step) -> Result<Count>),
    /// It is fetched from where it is developed.
    Source(sources::Source),
}

/// All suites, by name.
const SUITES: &[(&str, Kind)] = &[
    ("fio", Kind::Packaged(fio::run)),
    ("stress-ng", Kind::Packaged(stress::run)),
    ("checkers", Kind::Packaged(checkers::run)),
    ("ioctls", Kind::Packaged(ioctls::run)),
    ("stacks", Kind::Packaged(stacks::run)),
    ("schedulers", Kind::Packaged(schedulers::run)),
    ("suspend", Kind::Packaged(suspend::run)),
    ("cgroups", Kind::Packaged(cgroups::run)),
    ("blktests", Kind::Source(sources::BLKTESTS)),
    ("xfstests", Kind::Source(sources::XFSTESTS)),
];

/// What suites with packaged programs work with.
struct Place {
    kit: Kit,
    tools: Tools,
    vbdctl: PathBuf,
    /// Files of the host and their paths in the guest.
    files: Vec<(PathBuf, String)>,
    /// Where suites make their images; each has a directory of its own.
    work: PathBuf,
}

/// `cargo xtask suites`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let wanted = choose(&args.names)?;
    let mut steps = Steps::new("suites")?;
    let mut place = None;
    if wanted
        .iter()
        .any(|(_, kind)| matches!(kind, Kind::Packaged(_)))
    {
        steps.step("kernel kit, tools and modules", |_| {
            place = Some(prepare()?);
            Ok(Count::default())
        })?;
    }
    for (name, kind) in wanted {
        match (kind, &place) {
            (Kind::Packaged(run), Some(place)) => {
                steps.step(name, |step| run(place, step))?;
            }
            (Kind::Packaged(_), None) => steps.blocked(name, "the kit, the tools and the modules"),
            (Kind::Source(source), _) => {
                let reason = source.why_not(name);
                // Who names a suite wants it; who names none wants those that there are.
                steps.step(name, |_| match args.names.is_empty() {
                    true => Err(NotHad(reason).into()),
                    false => bail!("NOT HAD: {reason}"),
                })?;
            }
        }
    }
    Ok(steps.finish())
}

fn prepare() -> Result<Place> {
    let kit = Kit::prepare(Series::Kit, false)?;
    let tools = Tools::prepare()?;
    let vbd = module::build(&kit)?;
    let targets = vbd.with_file_name("vbd_dm.ko");
    let work = crate::checkout()?.join("target/suites-content");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let vbdctl = program::build("vbdctl", "vbdctl")?;
    Ok(Place {
        files: vec![
            (vbd, "/vbd.ko".into()),
            (targets, "/vbd_dm.ko".into()),
            (vbdctl.clone(), "/usr/bin/vbdctl".into()),
        ],
        vbdctl,
        kit,
        tools,
        work,
    })
}

/// The suites of these names, in our order; all if there is none.
fn choose(names: &[String]) -> Result<Vec<(&'static str, Kind)>> {
    let known = |name: &String| SUITES.iter().any(|(known, _)| known == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let known: Vec<&str> = SUITES.iter().map(|(name, _)| *name).collect();
        bail!("no suite {name}; there are {}", known.join(", "));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let chosen = SUITES.iter().filter(|(name, _)| wanted(name));
    Ok(chosen.copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_chosen_by_name() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            choose(&words).map(|chosen| chosen.iter().map(|(name, _)| *name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), SUITES.len());
        assert_eq!(names(&["checkers", "fio"]).unwrap(), ["fio", "checkers"]);
        let error = names(&["foi"]).unwrap_err().to_string();
        assert!(
            error.starts_with("no suite foi; there are fio, "),
            "{error}"
        );
    }
}
