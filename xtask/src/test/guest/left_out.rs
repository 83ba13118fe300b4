// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Cases that a kernel cannot be asked for.
//!
//! Which these are is said here, by the kind of the kernel, and every run prints them: a case that
//! found out by itself that it cannot run would be left out in silence.

use crate::kit::Own;
use anyhow::{bail, Result};

/// A case, the kind of kernel that cannot run it, and why.
type Row = (&'static str, Own, &'static str);

const LEFT_OUT: &[Row] = &[
    (
        "machine::two_processors",
        Own::UmlKasan,
        "that kernel has room for one processor (xtask/kernel/uml-kasan.config)",
    ),
    (
        "faults::processors_come_and_go",
        Own::UmlKasan,
        "the processor of User-Mode Linux cannot be switched off",
    ),
    (
        "errors::requests_of_device_mapper",
        Own::UmlKasan,
        MULTIPATH,
    ),
    ("errors::requests_of_device_mapper", Own::Light, MULTIPATH),
    (
        "files::holes_are_filled_before_they_are_read",
        Own::UmlKasan,
        FANOTIFY,
    ),
    (
        "files::readers_wait_for_permission",
        Own::UmlKasan,
        FANOTIFY,
    ),
    (
        "files::a_limit_of_bandwidth_holds",
        Own::UmlKasan,
        THROTTLING,
    ),
    (
        "files::a_bad_block_costs_no_other_processor",
        Own::UmlKasan,
        PROBES,
    ),
    (
        "files::holes_are_filled_before_they_are_read",
        Own::Light,
        FANOTIFY,
    ),
    ("files::readers_wait_for_permission", Own::Light, FANOTIFY),
    ("files::a_limit_of_bandwidth_holds", Own::Light, THROTTLING),
    (
        "files::a_bad_block_costs_no_other_processor",
        Own::Light,
        PROBES,
    ),
];

const FANOTIFY: &str = "that kernel has no fanotify that asks (xtask/kernel/base.config)";
const THROTTLING: &str = "that kernel cannot slow control groups down (xtask/kernel/base.config)";
const PROBES: &str = "that kernel cannot count calls of functions (xtask/kernel/base.config)";
/// Its only target that stacks requests on requests.
const MULTIPATH: &str = "that kernel has no multipath (xtask/kernel/base.config)";

/// Takes those cases out of `all`, the names of all cases for that kernel; returns a line for each.
pub(super) fn take_out(all: &mut Vec<String>, kernel: Option<Own>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (name, _, reason) in LEFT_OUT.iter().filter(|row| Some(row.1) == kernel) {
        let Some(place) = all.iter().position(|case| case == name) else {
            bail!("xtask/src/test/guest/left_out.rs leaves out {name}, and there is no such case");
        };
        all.remove(place);
        lines.push(format!("LEFT OUT {name}: {reason}"));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        let cases = LEFT_OUT.iter().map(|(name, ..)| name.to_string());
        cases.chain(["other::case".to_string()]).collect()
    }

    #[test]
    fn only_the_kernel_that_cannot_run_a_case_goes_without() {
        let (mut stock, mut uml) = (names(), names());
        assert!(take_out(&mut stock, None).unwrap().is_empty());
        assert_eq!(stock, names());
        let lines = take_out(&mut uml, Some(Own::UmlKasan)).unwrap();
        assert_eq!(lines.len() + uml.len(), names().len());
        assert!(uml.contains(&"other::case".to_string()));
    }

    #[test]
    fn a_case_that_is_no_more_is_an_error() {
        let error = take_out(&mut vec!["other::case".to_string()], Some(Own::UmlKasan));
        assert!(error.unwrap_err().to_string().contains("no such case"));
    }
}
