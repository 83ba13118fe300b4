// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Which kernel a command line asks for.

use super::own::Own;
use super::series::Series;
use super::Kit;
use anyhow::Result;

/// The choice of a kernel, on the command lines that have one.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Choice {
    /// Instead of the stock kernel, one of our own that checks itself; light if no kind is named
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "light"
    )]
    pub(crate) debug: Option<Own>,
    /// Instead of the stock kernel, the stock kernel of the next series, where Debian has one
    #[arg(long, conflicts_with = "debug")]
    pub(crate) next: bool,
}

/// The choice of any kernel, where it need not be one that checks itself.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct KernelChoice {
    #[command(flatten)]
    choice: Choice,
    /// Instead of the stock kernel, User-Mode Linux: a program of the host, at the host's speed
    #[arg(long, conflicts_with_all = ["debug", "next"])]
    uml: bool,
}

impl Choice {
    /// The series that is asked for.
    pub(super) fn series(self) -> Series {
        match self.next {
            true => Series::Next,
            false => Series::Kit,
        }
    }

    /// The kit with that kernel, made if it is not there.
    pub(crate) fn kit(self) -> Result<Kit> {
        match self.debug {
            Some(_) => Kit::choose(self.debug),
            None => Kit::prepare(self.series(), false),
        }
    }

    /// What the kernel is called in names of files; nothing if it is the one that is not asked for.
    pub(crate) fn name(self) -> Option<&'static str> {
        self.debug.map(Own::name).or(self.series().name())
    }
}

impl KernelChoice {
    pub(super) fn series(self) -> Series {
        self.choice.series()
    }

    /// The kit with that kernel, made if it is not there.
    pub(crate) fn kit(self) -> Result<Kit> {
        match self.uml {
            true => Kit::choose(Some(Own::Uml)),
            false => self.choice.kit(),
        }
    }

    /// The option that chooses it, after a space.
    pub(super) fn option(self) -> String {
        let own = self.choice.debug.or(self.uml.then_some(Own::Uml));
        match own {
            Some(own) => format!(" {}", own.option()),
            None if self.choice.next => " --next".to_string(),
            None => String::new(),
        }
    }
}
