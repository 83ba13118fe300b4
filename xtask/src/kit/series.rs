// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Which series of kernels there are kits of, and where Debian has them.
//!
//! The series themselves stand in `kmod/kernels.mk`, from which make takes the range that it accepts.

use crate::not_had::NotHad;
use anyhow::{bail, Result};

/// The only place that names series.
const KERNELS: &str = include_str!("../../../kmod/kernels.mk");

/// A series of stock kernels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Series {
    /// The one that every test runs on.
    Kit,
    /// The one that shows early what will change.
    Next,
}

/// Where Debian has a kernel.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Archive {
    /// The suite that the kernel was built in: the root is made of it.
    pub(super) suite: &'static str,
    /// The suite that carries the kernel.
    pub(super) carrier: &'static str,
}

/// The archives, in the order in which they are asked.
const ARCHIVES: &[Archive] = &[
    Archive {
        suite: "trixie",
        carrier: "trixie-backports",
    },
    Archive {
        suite: "sid",
        carrier: "experimental",
    },
];

impl Series {
    /// Its first two numbers, such as `7.2`.
    pub(crate) fn number(self) -> Result<&'static str> {
        match self {
            Series::Kit => value(KERNELS, "KERNEL_KIT"),
            Series::Next => value(KERNELS, "KERNEL_NEXT"),
        }
    }

    /// As part of file names; the kit's own series needs none.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Series::Kit => None,
            Series::Next => Some("next"),
        }
    }

    /// The name of its file of a kind in the cache.
    pub(super) fn file(self, stem: &str, ending: &str) -> String {
        match self.name() {
            None => format!("{stem}.{ending}"),
            Some(name) => format!("{stem}-{name}.{ending}"),
        }
    }

    /// Arguments of every make of the modules.
    pub(super) fn make_arguments(self) -> &'static [&'static str] {
        match self {
            Series::Kit => &[],
            // It need not be among those that are accepted yet.
            Series::Next => &["ANY_KERNEL=1"],
        }
    }

    /// Where it may be. Tests run on what Debian supports, so only the other one may be a candidate.
    pub(super) fn archives(self) -> &'static [Archive] {
        match self {
            Series::Kit => &ARCHIVES[..1],
            Series::Next => ARCHIVES,
        }
    }

    /// That no archive has it: no failure for the lane that only looks ahead.
    pub(super) fn not_had(self, reason: String) -> anyhow::Error {
        match self {
            Series::Kit => anyhow::anyhow!(reason),
            Series::Next => NotHad(reason).into(),
        }
    }
}

/// The value of a variable in the text of a makefile that only assigns words.
fn value<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(" := "));
    match line {
        Some(value) if is_series(value) => Ok(value),
        Some(value) => bail!("kmod/kernels.mk: {name} is {value}, which is no series such as 7.2"),
        None => bail!("kmod/kernels.mk does not set {name}"),
    }
}

fn is_series(word: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    word.split_once('.')
        .is_some_and(|(major, minor)| number(major) && number(minor))
}

/// Whether a kernel's release, such as `7.2.12+deb13-cloud-amd64`, is of a series.
pub(super) fn is_of(release: &str, series: &str) -> bool {
    let rest = release.strip_prefix(series);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(series: &str) -> Vec<u32> {
        series
            .split('.')
            .map(|part| part.parse().unwrap())
            .collect()
    }

    #[test]
    fn the_series_of_the_kits_stand_in_the_makefiles_range() {
        let of = |name| numbers(value(KERNELS, name).unwrap());
        let (first, last) = (of("KERNEL_FIRST"), of("KERNEL_LAST"));
        assert!(first <= of("KERNEL_KIT") && of("KERNEL_KIT") <= last);
        assert!(of("KERNEL_KIT") < of("KERNEL_NEXT"));
    }

    #[test]
    fn a_variable_that_is_missing_or_no_series_is_named() {
        let said = |text, name| value(text, name).unwrap_err().to_string();
        assert_eq!(said("A := 7.2\n", "B"), "kmod/kernels.mk does not set B");
        assert!(said("A := 7\n", "A").contains("A is 7, which is no series"));
        assert!(said("A := 7.2 # x\n", "A").contains("no series"));
    }

    #[test]
    fn releases_are_told_apart_by_whole_numbers() {
        assert!(is_of("7.2.12+deb13-cloud-amd64", "7.2"));
        assert!(is_of("7.3-cloud-amd64", "7.3"));
        assert!(!is_of("7.20.1-cloud-amd64", "7.2"));
        assert!(!is_of("6.7.2", "7.2"));
    }
}
