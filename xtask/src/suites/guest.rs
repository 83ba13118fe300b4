// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A suite's boot: stacks are attached one after another, and checks run on each.

use super::layers::Layers;
use super::Place;
use crate::test::steps::{Count, Step};
use crate::vm::{self, Ended, Spec, Vm};
use anyhow::{bail, Result};
use std::io::Write;
use std::time::Duration;

/// The directory of the guest that has the tools; they run with it as their root.
pub(super) const TOOLS: &str = "/suites";

/// Run once in a boot, before anything else.
const SETUP: &str =
    "set -e; mkdir -p /suites/usr; cd /suites; mkdir -p dev etc proc run/lock run/mdadm sys tmp; \
    for name in bin lib lib64 sbin; do ln -s usr/$name $name; done; \
    for name in dev proc sys; do mount --rbind /$name $name; done";

/// What says whether a check has succeeded, by its exit status and what it printed.
pub(super) type Judge = Box<dyn Fn(i32, &str) -> Result<()>>;

/// One command, and what it has to come to.
pub(super) struct Check {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) judge: Judge,
}

/// What a machine has besides what every machine has.
#[derive(Clone, Copy, Default)]
pub(super) struct Needs<'a> {
    /// Programs of the tools, by their paths in the root.
    pub(super) programs: &'a [&'a str],
    /// Modules of the kernel.
    pub(super) modules: &'a [&'a str],
}

/// A stack, and what is checked on it.
pub(super) struct Group {
    pub(super) name: String,
    /// Names of layers, bottom first; none for checks that attach themselves.
    pub(super) layers: Vec<String>,
    /// Run after the stack was attached and before it is detached; has to succeed.
    pub(super) before: String,
    pub(super) after: String,
    pub(super) checks: Vec<Check>,
}

/// Boots a machine that has what they need, and runs all checks.
pub(super) fn run(
    place: &Place,
    layers: &Layers,
    step: &Step,
    needs: Needs,
    groups: Vec<Group>,
) -> Result<Count> {
    let mut files = place.files.clone();
    for path in place.tools.with_libraries(needs.programs)? {
        files.push((place.tools.file(&path), format!("{TOOLS}{path}")));
    }
    let spec = Spec {
        memory_mib: 1536,
        share: Some(layers.share()),
        files,
        modules: needs.modules.iter().map(ToString::to_string).collect(),
        timeout: Duration::from_secs(1200),
        ..Spec::default()
    };
    let mut guest = Guest {
        vm: vm::boot(&place.kit, &spec)?,
        step,
        count: Count::default(),
    };
    let done = guest.all(groups);
    let Guest { vm, mut count, .. } = guest;
    let report = vm.shut_down()?;
    if !report.complaints.is_empty() {
        // Complaints are failures by themselves, whatever the checks say.
        report.show();
        count.failed += 1;
    }
    done?;
    Ok(count)
}

struct Guest<'a> {
    vm: Vm,
    step: &'a Step,
    count: Count,
}

impl Guest<'_> {
    fn all(&mut self, groups: Vec<Group>) -> Result<()> {
        self.has_to("set up", SETUP)?;
        for group in groups {
            let paths: Vec<String> = group
                .layers
                .iter()
                .map(|name| format!("/share/{name}"))
                .collect();
            let attached = !paths.is_empty();
            if attached {
                let attach = format!("insmod /vbd.ko backfile={}", paths.join(","));
                self.has_to(&group.name, &attach)?;
            }
            self.has_to(&group.name, &group.before)?;
            for check in group.checks {
                let (status, text) = self.exec(&check.text)?;
                match (check.judge)(status, &text) {
                    Ok(()) => self.count.passed += 1,
                    Err(reason) => {
                        self.count.failed += 1;
                        let (group, name) = (&group.name, &check.name);
                        self.step.note(format!("FAIL {group}: {name}: {reason:#}"));
                    }
                }
            }
            self.has_to(&group.name, &group.after)?;
            if attached {
                self.has_to(&group.name, "rmmod vbd")?;
            }
        }
        Ok(())
    }

    fn has_to(&mut self, group: &str, text: &str) -> Result<()> {
        match self.exec(text)? {
            (0, _) => Ok(()),
            (status, said) => bail!("{group}: {text}: status {status}: {}", said.trim()),
        }
    }

    /// Runs a command to its end; what it prints goes to the log too.
    fn exec(&mut self, text: &str) -> Result<(i32, String)> {
        let mut log = self.step.log()?;
        writeln!(log, "guest# {text}")?;
        let mut said = Vec::new();
        let text = format!("exec 2>&1; {text}");
        let ended = self.vm.exec(&text, &mut said, &mut std::io::stderr())?;
        log.write_all(&said)?;
        match ended {
            Ended::Status(status) => Ok((status, String::from_utf8_lossy(&said).into_owned())),
            Ended::Lost(reason) => bail!("the machine was lost: {reason}"),
        }
    }
}
