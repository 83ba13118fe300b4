// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Test cases and the program that runs them.
//!
//! A case is a function that panics when something is wrong, which keeps the place where it was.
//! Cases run one after another in one machine, so each leaves it as it found it.

use crate::cases;
use crate::leftovers;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

/// One test case; its full name is `<theme>::<name>`.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(),
}

/// `vbd-guest list [--debug]` and `vbd-guest run [--debug] [--exact] [pattern…]`.
///
/// Which cases there are depends on what kernel they are for, and that is said by the caller: a case
/// that found out by itself that it cannot run would be left out in silence.
pub(crate) fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut flag = |name: &str| {
        let given = arguments.iter().position(|argument| argument == name);
        given.map(|at| arguments.remove(at)).is_some()
    };
    let (debug, exact) = (flag("--debug"), flag("--exact"));
    match arguments.split_first() {
        Some((verb, [])) if verb == "list" && !exact => {
            for (name, _) in all(debug) {
                println!("{name}");
            }
            ExitCode::SUCCESS
        }
        Some((verb, names)) if verb == "run" && exact => run(debug, names, |name| {
            names.iter().any(|wanted| name == wanted)
        }),
        Some((verb, patterns)) if verb == "run" => run(debug, patterns, |name| {
            patterns.is_empty() || patterns.iter().any(|part| name.contains(part.as_str()))
        }),
        _ => {
            eprintln!(
                "usage: vbd-guest list [--debug] | vbd-guest run [--debug] [--exact] [pattern…]"
            );
            ExitCode::from(2)
        }
    }
}

/// Whether this is the long form, which `cargo xtask test --long` asks for: all there is where a
/// sample would do, and cases that take minutes.
pub(crate) fn long() -> bool {
    std::env::var_os("VBD_LONG").is_some()
}

/// The cases for the stock kernel; with `debug`, those for a kernel that checks itself, which are
/// the same and more.
fn all(debug: bool) -> impl Iterator<Item = (String, &'static Case)> {
    let long = if long() { cases::LONG } else { &[] };
    let injected = if debug { cases::DEBUG_THEMES } else { &[] };
    let themes = cases::THEMES.iter().chain(long).chain(injected);
    themes.flat_map(|(theme, cases)| {
        cases
            .iter()
            .map(move |case| (format!("{theme}::{}", case.name), case))
    })
}

/// Runs the cases whose full name is wanted: of that name with `--exact`, else those whose name
/// contains a pattern, and all of them if there is none.
fn run(debug: bool, patterns: &[String], wanted: impl Fn(&str) -> bool) -> ExitCode {
    let mut passed = 0;
    let mut failed = Vec::new();
    for (name, case) in all(debug).filter(|(name, _)| wanted(name)) {
        let begin = Instant::now();
        let good = catch_unwind(case.run).is_ok();
        let left = leftovers::remove();
        if !left.is_empty() {
            println!("left behind: {}", left.join("; "));
        }
        let good = good && left.is_empty();
        let seconds = begin.elapsed().as_secs_f32();
        println!(
            "{} {name} ({seconds:.2} s)",
            if good { "ok  " } else { "FAIL" }
        );
        if good {
            passed += 1;
        } else {
            failed.push(name);
        }
    }
    println!("{passed} passed, {} failed", failed.len());
    if passed == 0 && failed.is_empty() {
        // A pattern that matches nothing must not look like a success.
        eprintln!("no case matches {}", patterns.join(" "));
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(!failed.is_empty()))
}
