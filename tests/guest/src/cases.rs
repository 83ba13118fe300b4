// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The cases, one file a theme. A new theme is a new file here and a new row in `THEMES`; a theme
//! of several files has a row for each.

mod bounds;
mod control;
mod corrupt;
mod dm;
mod errors;
mod faults;
mod files;
mod fixtures;
mod lifecycle;
mod machine;
mod reads;
mod support;
mod trace;
mod variants;

use crate::case::Case;

/// Cases that have the names of their functions.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$($crate::case::Case { name: stringify!($name), run: $name }),*]
    };
}
use cases;

/// Every theme with its cases, for any kernel.
pub(crate) const THEMES: &[(&str, &[Case])] = &[
    ("machine", machine::CASES),
    ("fixtures", fixtures::CASES),
    ("variants", variants::COMPRESSED),
    ("variants", variants::CASES),
    ("reads", reads::CASES),
    ("reads", reads::heads::CASES),
    ("reads", reads::ways::CASES),
    ("lifecycle", lifecycle::CASES),
    ("lifecycle", lifecycle::backing::CASES),
    ("lifecycle", lifecycle::leaks::CASES),
    ("lifecycle", lifecycle::loading::CASES),
    ("lifecycle", lifecycle::partitions::CASES),
    ("lifecycle", lifecycle::writing::CASES),
    ("errors", errors::files::CASES),
    ("errors", errors::metadata::CASES),
    ("errors", errors::metadata::zfile::CASES),
    ("errors", errors::truncation::CASES),
    ("errors", errors::blocks::CASES),
    ("errors", errors::neighbours::CASES),
    ("errors", errors::joined::CASES),
    ("errors", errors::lines::CASES),
    ("errors", errors::stacked::CASES),
    ("errors", errors::storage::CASES),
    ("corrupt", corrupt::CASES),
    ("corrupt", corrupt::NESTED),
    ("corrupt", corrupt::BOMBS),
    ("bounds", bounds::memory::CASES),
    ("bounds", bounds::sharing::CASES),
    ("bounds", bounds::blocks::CASES),
    ("bounds", bounds::buffers::CASES),
    ("control_attributes", control::attributes::CASES),
    ("control_direct", control::direct::CASES),
    ("control_looks", control::looks::CASES),
    ("control_many", control::many::CASES),
    ("control_races", control::races::CASES),
    ("control_vbdctl", control::vbdctl::CASES),
    ("dm", dm::module::CASES),
    ("dm", dm::answers::CASES),
    ("dm", dm::beside::CASES),
    ("dm", dm::tables::CASES),
    ("dm", dm::refused::CASES),
    ("dm", dm::reads::CASES),
    ("dm", dm::reload::CASES),
    ("dm", dm::damage::CASES),
    ("dm", dm::neighbours::CASES),
    ("dm", dm::cycles::CASES),
    ("dm_fixtures", dm::fixtures::CASES),
    ("trace", trace::CASES),
    ("faults", faults::storage::CASES),
    ("faults", faults::surroundings::CASES),
    ("files", files::CASES),
    ("files", files::watched::CASES),
    ("files", files::charged::CASES),
];

/// What only a kernel that checks itself can be asked for: it fails where it is told to.
pub(crate) const DEBUG_THEMES: &[(&str, &[Case])] = &[
    ("faults_injected", faults::memory::CASES),
    ("faults_injected", faults::shortage::CASES),
    ("faults_injected", faults::requests::CASES),
    ("faults_injected", dm::memory::CASES),
];

/// Further themes of the long form.
pub(crate) const LONG: &[(&str, &[Case])] = &[("corrupt", corrupt::LONG)];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut names = BTreeSet::new();
        for (theme, cases) in THEMES.iter().chain(LONG).chain(DEBUG_THEMES) {
            assert!(!cases.is_empty(), "a row of {theme} is empty");
            for case in *cases {
                let name = format!("{theme}::{}", case.name);
                assert!(!name.contains(char::is_whitespace), "{name}");
                assert!(names.insert(name.clone()), "{name} is there twice");
            }
        }
    }
}
