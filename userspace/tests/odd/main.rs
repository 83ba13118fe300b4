// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Every verb with every odd thing in place of each of its files, and in odd surroundings: it answers
//! within a bound, with a status and words that fit, leaves nothing behind and everything as it was.
//!
//! The verbs are those of `vbdctl --help`: a new one needs rows in [`table::VERBS`].

#[path = "../common/mod.rs"]
mod common;
mod place;
mod surroundings;
mod table;

use place::{Answer, Place};
use std::collections::BTreeSet;
use table::{Line, Odd, Wanted, VERBS};

#[test]
fn every_verb_has_its_rows() {
    let place = Place::new();
    let help = place.run(&["--help"]).text;
    let commands = help.split("Commands:\n").nth(1).unwrap();
    let listed: BTreeSet<&str> = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|&verb| verb != "help")
        .collect();
    let rows: BTreeSet<&str> = VERBS.iter().map(|(verb, _)| *verb).collect();
    assert_eq!(rows, listed);
}

#[test]
fn odd_files_are_answered() {
    let place = Place::new();
    let before = place.contents();
    let mut wrong = Vec::new();
    let mut rows = 0;
    for (verb, lines) in VERBS {
        for line in *lines {
            for odd in Odd::ALL {
                let Some(wanted) = table::answer(verb, line, odd) else {
                    continue;
                };
                rows += 1;
                let words = line.words(verb, odd.name());
                let found = match odd.needs_nobody() {
                    true => place.run_as_nobody(&words),
                    false => place.run(&words),
                };
                let mut faults: Vec<String> = fault(&found, &wanted, odd).into_iter().collect();
                let made = made(line, &wanted, odd);
                faults.extend(place.changes(&before, made));
                let shown = words.join(" ").escape_debug().to_string();
                for fault in faults {
                    wrong.push(format!("vbdctl {shown}: {fault}; it said {:?}", found.text));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows > 300, "{rows} rows");
}

/// The file that a line makes, if all is well.
fn made(line: &Line, wanted: &Wanted, odd: Odd) -> Option<&'static str> {
    let output = match line.text.contains(" {}") && line.is_output() {
        true => Some(odd.name()).filter(|&name| name != "-"),
        false => line.text.ends_with(" out").then_some("out"),
    };
    output.filter(|_| wanted.status == 0)
}

/// What is wrong with an answer.
fn fault(found: &Answer, wanted: &Wanted, odd: Odd) -> Option<String> {
    if found.status != Some(wanted.status) {
        return Some(format!("status {:?}, not {}", found.status, wanted.status));
    }
    if found.text.contains("panicked") {
        return Some("it panicked".to_owned());
    }
    let control = odd.name().chars().any(char::is_control);
    // A script has to have the very name.
    if control && found.text.contains(odd.name()) && !found.text.contains("losetup") {
        return Some("a name is printed as it is".to_owned());
    }
    (!found.text.contains(wanted.words)).then(|| format!("no word of {:?}", wanted.words))
}
