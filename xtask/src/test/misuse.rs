// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! That the compiler refuses safe code of the module which misuses what `kmod/sys/` offers.
//!
//! Each file of `tests/misuse` is compiled as a module of vbd.ko. A line of it that has to be refused
//! ends with `//~` and the errors' numbers, or the first word of an error that has none; nothing else
//! may be found. There is a file for each of the compiler's passes, since one that finds something
//! keeps those after it from looking.

use super::steps::{Count, Step, Steps};
use crate::kit::Kit;
use crate::module::{make, Place};
use anyhow::{ensure, Context, Result};
use std::collections::BTreeSet;
use std::fs;

const PASSES: [&str; 3] = ["types", "borrows", "fields"];

/// What becomes of a line: its number, and an error.
type Refusal = (usize, String);

pub(super) fn check(steps: &mut Steps, kit: Option<&Kit>) -> Result<()> {
    let name = "misuse of the module's wrappers is refused";
    let Some(kit) = kit else {
        steps.blocked(name, "the kernel kit");
        return Ok(());
    };
    steps.step(name, |step| {
        let mut count = Count::default();
        for pass in PASSES {
            count += compile(step, kit, pass)?;
        }
        Ok(count)
    })?;
    Ok(())
}

/// Compiles a file, and compares what is found with what is marked.
fn compile(step: &Step, kit: &Kit, pass: &str) -> Result<Count> {
    let source = crate::checkout()?.join(format!("tests/misuse/{pass}.rs"));
    let source = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
    let wanted = marked(&source);
    ensure!(!wanted.is_empty(), "{pass}.rs has no marked line");

    let place = Place::aside("misuse")?;
    let put = |name: &str, change: &dyn Fn(String) -> String| -> Result<()> {
        let path = place.directory.join(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        Ok(fs::write(path, change(text))?)
    };
    put("kmod/misuse.rs", &|_| source.clone())?;
    put("kmod/vbd.rs", &|text| {
        text + "\n#[allow(dead_code)]\nmod misuse;\n"
    })?;
    put("Kbuild", &|text| {
        text.replace("obj-m := vbd.o vbd_dm.o", "obj-m := vbd.o")
    })?;
    let mark = step.length()?;
    let (made, log) = step.try_run(&mut make(kit, &place.directory))?;
    ensure!(!made, "{pass}.rs was compiled");
    let found = refused(log.get(mark..).unwrap_or_default());

    let mut count = Count::default();
    for (line, error) in wanted.union(&found) {
        let both = (*line, error.clone());
        if wanted.contains(&both) && found.contains(&both) {
            count.passed += 1;
            continue;
        }
        count.failed += 1;
        let what = if found.contains(&both) {
            "is refused with"
        } else {
            "is not refused with"
        };
        step.note(format!("tests/misuse/{pass}.rs:{line} {what} {error}"));
    }
    Ok(count)
}

/// The lines that have to be refused.
fn marked(source: &str) -> BTreeSet<Refusal> {
    let lines = source.lines().enumerate();
    let marks = lines.filter_map(|(at, line)| Some((at + 1, line.split_once("//~")?.1)));
    marks
        .flat_map(|(line, words)| {
            words
                .split_whitespace()
                .map(move |word| (line, word.to_string()))
        })
        .collect()
}

/// The lines that the compiler has refused: `error[E0499]: …` or `error: lifetime …`, and then where.
fn refused(log: &str) -> BTreeSet<Refusal> {
    let mut found = BTreeSet::new();
    let mut error = None;
    for line in log.lines() {
        if let Some(rest) = line.strip_prefix("error") {
            let number = rest
                .strip_prefix('[')
                .and_then(|rest| rest.split(']').next());
            let word = rest
                .strip_prefix(": ")
                .and_then(|rest| rest.split(' ').next());
            error = number.or(word).map(str::to_string);
        } else if let Some((_, place)) = line.split_once("--> ") {
            let place = place.split_once("misuse.rs:").map(|(_, place)| place);
            let number = place.and_then(|place| place.split(':').next()?.parse().ok());
            // What is pointed at afterwards explains the same error.
            if let (Some(number), Some(error)) = (number, error.take()) {
                found.insert((number, error));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_and_what_is_refused_is_read_alike() {
        let source = "fn f() {\n    g(); //~ E0133\n    h(); //~ lifetime E0499\n}\n";
        let log = "  RUSTC [M] kmod/vbd.o\nerror[E0133]: call to unsafe function\n  --> \
                   kmod/misuse.rs:2:5\n   |\nnote: because\n  --> kmod/stack.rs:7:1\nerror: lifetime \
                   may not live long enough\n  --> /x/kmod/misuse.rs:3:5\nerror[E0499]: cannot \
                   borrow\n  --> kmod/misuse.rs:3:9\nerror: aborting due to 3 previous errors\n";
        assert_eq!(refused(log), marked(source));
        assert_eq!(marked(source).len(), 3);
    }
}
