// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! One crafted input at least for each rule: it breaks that rule and no other, and the error says
//! the right offset, value and class.

mod blocks;
mod lsmt;
mod stack;
mod tar;
mod writable;
mod zfile;

use std::collections::BTreeSet;
use vbd_format::{Class, Error, Rule};

/// What a crafted input must give, and what it gave.
pub(crate) struct Case {
    what: &'static str,
    want: Error,
    class: Class,
    got: Option<Error>,
}

impl Case {
    pub(crate) fn new<T>(
        what: &'static str,
        (rule, class): (Rule, Class),
        offset: u64,
        found: u64,
        got: Result<T, Error>,
    ) -> Self {
        Self {
            what,
            want: Error::new(rule, offset, found),
            class,
            got: got.err(),
        }
    }
}

fn all() -> Vec<Case> {
    let mut cases = tar::cases();
    cases.extend(zfile::cases());
    cases.extend(blocks::table_cases());
    cases.extend(blocks::block_cases());
    cases.extend(lsmt::header_cases());
    cases.extend(lsmt::index_cases());
    cases.extend(stack::cases());
    cases.extend(writable::cases());
    cases
}

#[test]
fn each_input_breaks_its_rule() {
    let mut wrong = Vec::new();
    for case in all() {
        if case.got != Some(case.want) {
            wrong.push(format!(
                "{}: want {:?}, got {:?}",
                case.what, case.want, case.got
            ));
        }
        if case.want.rule.class() != case.class {
            wrong.push(format!("{}: class {:?}", case.what, case.want.rule.class()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_an_input() {
    let covered: BTreeSet<&str> = all().iter().map(|case| case.want.rule.name()).collect();
    let expected: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(covered, expected);
}

#[test]
fn rules_are_told_apart() {
    let names: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    let texts: BTreeSet<(&str, &str)> = Rule::ALL
        .iter()
        .map(|rule| (rule.part(), rule.text()))
        .collect();
    assert_eq!(names.len(), Rule::ALL.len());
    assert_eq!(texts.len(), Rule::ALL.len());
    for rule in Rule::ALL {
        assert_eq!(rule.name(), format!("{rule:?}"));
        assert!(
            rule.name().to_lowercase().starts_with(rule.part()) || rule.part() == "file",
            "{rule:?} is said of {}",
            rule.part()
        );
    }
}

#[test]
fn an_error_names_layer_structure_offset_rule_and_value() {
    let error = Error::new(Rule::LsmtOrder, 4096, 7);
    assert_eq!(
        error.to_string(),
        "lsmt offset 4096: index records overlap or are not sorted (found 7)"
    );
    assert_eq!(
        error.in_layer(3).to_string(),
        "layer 3: lsmt offset 4096: index records overlap or are not sorted (found 7)"
    );
    assert_eq!(error.in_layer(3).layer, Some(3));
    assert_eq!(error.layer, None);
}
