// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What may be named from where: `kmod/sys/` stands by itself, so that whoever reads its reasons need
//! not read the module for them.

use super::text::lines;

const PLACE: &str = "kmod/sys/";

/// Checks one Rust source file.
pub(super) fn check(path: &str, source: &str) -> Vec<String> {
    let Some(inside) = path.strip_prefix(PLACE) else {
        return Vec::new();
    };
    // In `sys/a.rs`, `super` is `sys`; in `sys/a/b.rs` it is `sys::a`.
    let depth = inside.matches('/').count() + 1;
    let mut findings = Vec::new();
    for (number, line) in lines(source).iter().enumerate() {
        let words: Vec<&str> = line.words().collect();
        let outside = (0..words.len()).any(|at| leaves(&words[at..], depth));
        if outside {
            findings.push(format!(
                "{path}:{}: {PLACE} may not name what is outside of it",
                number + 1
            ));
        }
    }
    findings
}

/// Whether a path that begins here leads out of `sys`, which is `depth` modules above.
fn leaves(words: &[&str], depth: usize) -> bool {
    if let ["crate", ":", ":", next, ..] = words {
        return *next != "sys";
    }
    let supers = words
        .chunks(3)
        .take_while(|step| matches!(step, ["super", ":", ":"]));
    supers.count() > depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_inside_may_be_named() {
        let bad = |path: &str, source: &str| check(path, source).len();
        let file = "kmod/sys/a.rs";
        assert_eq!(bad(file, "use crate::sys::file::File;\n"), 0);
        assert_eq!(
            bad(file, "use super::file::File;\npub(crate) fn f() {}\n"),
            0
        );
        assert_eq!(bad(file, "// See crate::transfer.\n"), 0);
        assert_eq!(bad(file, "use crate::transfer::Verdict;\n"), 1);
        assert_eq!(bad(file, "use crate::{stack, sys};\n"), 1);
        assert_eq!(bad(file, "fn f(x: super::super::stack::Stack) {}\n"), 1);
        assert_eq!(
            bad("kmod/sys/dm/b.rs", "use super::super::file::File;\n"),
            0
        );
        assert_eq!(bad("kmod/sys/dm/b.rs", "use super::super::super::x;\n"), 1);
        assert_eq!(bad("kmod/stack.rs", "use crate::sys::file::File;\n"), 0);
    }
}
