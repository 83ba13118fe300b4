// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The cases, one file a theme. A new theme is a new file here and a new row in `THEMES`.

mod control;
mod dm;
mod fixtures;
mod machine;
mod support;

use crate::case::Case;

/// Every theme with its cases.
pub(crate) const THEMES: &[(&str, &[Case])] = &[
    ("machine", machine::CASES),
    ("fixtures", fixtures::CASES),
    ("control_attributes", control::attributes::CASES),
    ("control_many", control::many::CASES),
    ("control_races", control::races::CASES),
    ("control_vbdctl", control::vbdctl::CASES),
    ("dm", dm::module::CASES),
    ("dm", dm::answers::CASES),
    ("dm", dm::tables::CASES),
    ("dm", dm::refused::CASES),
    ("dm", dm::reads::CASES),
    ("dm", dm::reload::CASES),
    ("dm", dm::damage::CASES),
    ("dm", dm::neighbours::CASES),
    ("dm", dm::cycles::CASES),
    ("dm_fixtures", dm::fixtures::CASES),
];
