// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Suites that no distribution packages: where they are developed, and at which commit.

use crate::{cache, run};
use anyhow::{bail, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A suite's source.
#[derive(Clone, Copy)]
pub(super) struct Source {
    address: &'static str,
    commit: &'static str,
}

pub(super) const BLKTESTS: Source = Source {
    address: "https://github.com/linux-blktests/blktests.git",
    commit: "f8528a5858423d562916187a0ece129f6b223dc8",
};

pub(super) const XFSTESTS: Source = Source {
    address: "https://git.kernel.org/pub/scm/fs/xfs/xfstests-dev.git",
    commit: "cc34c5f81f2613a5c1e5cad28100dc4c5e459212",
};

/// Seconds that fetching may take: where the host does not answer, nobody should wait for it.
const LIMIT: &str = "60";

/// Exit status of `timeout` when it had to end what it ran.
const TIMED_OUT: i32 = 124;

impl Source {
    /// Tries to have the source, and says why the suite is not run.
    ///
    /// Nothing here runs it: on no machine that this was written on could it be had, and what was
    /// never run is worth nothing.
    pub(super) fn why_not(self, name: &str) -> String {
        match self.fetch(name) {
            Ok(()) => format!("{} was fetched, and nothing here runs it yet", self.address),
            Err(reason) => format!(
                "Debian does not package it, and commit {} cannot be fetched: {reason:#}",
                &self.commit[..12]
            ),
        }
    }

    /// Has the commit in the cache.
    fn fetch(self, name: &str) -> Result<()> {
        let place = cache::directory()?.join("suites/sources").join(name);
        fs::create_dir_all(&place)?;
        run::stdout(git(&place).args(["init", "--quiet"]))?;
        let object = format!("{}^{{commit}}", self.commit);
        if run::stdout(git(&place).args(["cat-file", "-e", &object])).is_ok() {
            return Ok(());
        }
        let mut fetch = Command::new("timeout");
        fetch.arg(LIMIT).args(["git", "-C"]).arg(&place);
        fetch.args(["fetch", "--quiet", "--depth=1", self.address, self.commit]);
        let output = fetch.env("GIT_TERMINAL_PROMPT", "0").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => Ok(()),
            Some(TIMED_OUT) => bail!("{} did not answer within {LIMIT} s", self.address),
            _ => bail!("{}", said.lines().last().unwrap_or("git said nothing")),
        }
    }
}

fn git(place: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(place);
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_whole() {
        for source in [BLKTESTS, XFSTESTS] {
            let digits = source.commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(digits && source.commit.len() == 40, "{}", source.commit);
        }
    }
}
