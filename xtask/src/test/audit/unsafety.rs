// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Where `unsafe` may stand, and what has to stand before it.

use super::text::{lines, Line};

/// The only place for `unsafe`.
const PLACE: &str = "kmod/sys/";

/// Roots of the crates that cargo does not compile by itself, and so does not lint.
fn is_kernel_root(path: &str, lines: &[Line]) -> bool {
    let makes_module = |line: &Line| line.words().take(2).eq(["module", "!"]);
    path == "kmod/vbd.rs" || path == "kmod/dm.rs" || lines.iter().any(makes_module)
}

/// Checks one Rust source file.
pub(super) fn check(path: &str, source: &str) -> Vec<String> {
    let lines = lines(source);
    let mut findings = Vec::new();
    let mut find = |number: usize, what: &str| {
        findings.push(format!("{path}:{}: {what}", number + 1));
    };
    let root = is_kernel_root(path, &lines);
    let denied = lines.iter().any(|line| {
        let line = line.code.replace(' ', "");
        line == "#![deny(unsafe_code)]" || line == "#![forbid(unsafe_code)]"
    });
    if root && !denied {
        find(0, "a crate root must deny unsafe_code");
    }
    for (number, line) in lines.iter().enumerate() {
        // Whatever lifts the lint, under its own name or with a whole group, has to be this.
        if lifts(line) && !(root && opens_sys(&lines, number)) {
            find(
                number,
                "unsafe_code may be allowed for `mod sys` of a crate root only",
            );
        }
        let words: Vec<&str> = line.words().collect();
        for (at, _) in words
            .iter()
            .enumerate()
            .filter(|(_, word)| **word == "unsafe")
        {
            if !path.starts_with(PLACE) {
                find(number, &format!("unsafe stands outside of {PLACE}"));
                continue;
            }
            // What follows may stand in the next line.
            let following = lines.get(number + 1).map(|line| line.words());
            let next = words[at + 1..]
                .iter()
                .copied()
                .chain(following.into_iter().flatten());
            match kind(next) {
                Kind::Block if !explained(&lines, number, "SAFETY:") => {
                    find(
                        number,
                        "an unsafe block or impl without a SAFETY: comment before it",
                    );
                }
                Kind::Function
                    if !explained(&lines, number, "# Safety") && !in_trait_impl(&lines, number) =>
                {
                    find(number, "an unsafe function without a `# Safety` section");
                }
                Kind::Block | Kind::Function | Kind::Type => {}
            }
        }
    }
    findings
}

/// Checks a package's manifest: cargo's crates get the lint from the workspace.
pub(super) fn check_manifest(path: &str, text: &str) -> Option<String> {
    let plain: Vec<&str> = text.lines().map(str::trim).collect();
    let has = |header: &str, entry: &str| {
        let mut section = plain.iter().skip_while(|line| **line != header).skip(1);
        section
            .by_ref()
            .take_while(|line| !line.starts_with('['))
            .any(|line| *line == entry)
    };
    let good = if plain.contains(&"[workspace]") {
        has("[workspace.lints.rust]", "unsafe_code = \"deny\"")
    } else {
        has("[lints]", "workspace = true")
    };
    (!good).then(|| format!("{path}:1: unsafe_code must be denied (the workspace's lints)"))
}

/// What an `unsafe` belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// A block or an impl, which claims something.
    Block,
    /// A function or trait, which demands something.
    Function,
    /// The type of a function, or an attribute's `unsafe(…)`.
    Type,
}

fn kind<'a>(mut next: impl Iterator<Item = &'a str>) -> Kind {
    loop {
        match next.next() {
            // `unsafe extern "C"` goes on, with `fn` or with a block of declarations.
            Some("extern" | "\"") => {}
            Some("fn") => {
                // A function has a name; a type of functions has none.
                return if next.next() == Some("(") {
                    Kind::Type
                } else {
                    Kind::Function
                };
            }
            Some("trait") => return Kind::Function,
            Some("(") => return Kind::Type,
            _ => return Kind::Block,
        }
    }
}

/// Whether the comment before the statement or item in line `number` contains `mark`.
fn explained(lines: &[Line], number: usize, mark: &str) -> bool {
    // The comment may stand in the line itself, before the word.
    let mut above = number;
    while let Some(line) = above.checked_sub(1).and_then(|at| lines.get(at)) {
        above -= 1;
        if line.is_comment() {
            let comment = lines[..=above]
                .iter()
                .rev()
                .take_while(|line| line.is_comment());
            return comment.into_iter().any(|line| line.comment.contains(mark));
        }
        let ends = |mark: char| line.code.trim_end().ends_with(mark);
        let is_end = [';', '{', '}', ','].into_iter().any(ends) || line.code.trim().is_empty();
        if is_end && !line.is_attribute() {
            return false;
        }
    }
    false
}

/// Whether line `number` lies in the impl of a trait, where the trait says what is demanded.
///
/// rustfmt puts an item's begin and end at the left edge, and what is in it nowhere else.
fn in_trait_impl(lines: &[Line], number: usize) -> bool {
    let at_edge = |line: &Line| {
        line.code
            .starts_with(|c: char| c.is_alphabetic() || c == '}')
    };
    if at_edge(&lines[number]) {
        return false;
    }
    // A `where` at the edge belongs to the item's head.
    let is_head = |line: &&Line| at_edge(line) && !line.code.starts_with("where");
    let begin = lines[..number].iter().rposition(|line| is_head(&line));
    let Some(head) = begin.and_then(|begin| lines.get(begin..number)) else {
        return false;
    };
    let opens = head
        .iter()
        .position(|line| line.code.trim_end().ends_with('{'));
    let words: Vec<&str> = head[..opens.map_or(0, |opens| opens + 1)]
        .iter()
        .flat_map(Line::words)
        .collect();
    let is_impl = words.first() == Some(&"impl") || words.starts_with(&["unsafe", "impl"]);
    is_impl && words.contains(&"for")
}

fn lifts(line: &Line) -> bool {
    let level = ["allow", "expect", "warn"]
        .into_iter()
        .any(|level| line.has_word(level));
    level && line.has_word("unsafe_code")
}

/// Whether the attribute in line `number` is that of `mod sys`.
fn opens_sys(lines: &[Line], number: usize) -> bool {
    let item = lines
        .iter()
        .skip(number + 1)
        .find(|line| !line.is_attribute());
    item.is_some_and(|line| {
        let mut words = line.words();
        words.next() == Some("mod") && words.next() == Some("sys")
    }) && lines[number].is_attribute()
}

#[cfg(test)]
mod tests;
