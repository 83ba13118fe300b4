// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Rust source taken apart into code and comments, a line each.

/// One line of a source file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Line {
    /// The code, with comments left out and the contents of literals too.
    pub(super) code: String,
    /// The comments, with their marks.
    pub(super) comment: String,
}

impl Line {
    /// Whether `word` stands in the code as a word of its own.
    pub(super) fn has_word(&self, word: &str) -> bool {
        self.words().any(|found| found == word)
    }

    /// The words and marks of the code: identifiers, and every other character alone.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.code.as_str();
        std::iter::from_fn(move || {
            rest = rest.trim_start();
            let first = rest.chars().next()?;
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let end = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            let (word, left) = rest.split_at(end);
            rest = left;
            Some(word)
        })
    }

    /// Whether the line holds a comment and nothing else.
    pub(super) fn is_comment(&self) -> bool {
        self.code.trim().is_empty() && !self.comment.is_empty()
    }

    /// Whether the line holds an attribute and nothing else.
    pub(super) fn is_attribute(&self) -> bool {
        let code = self.code.trim();
        (code.starts_with("#[") || code.starts_with("#![")) && code.ends_with(']')
    }
}

/// Takes source text apart.
pub(super) fn lines(source: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = Line::default();
    let mut rest = source;
    let mut depth = 0;
    while let Some(first) = rest.chars().next() {
        let mut len = first.len_utf8();
        if first == '\n' {
            lines.push(std::mem::take(&mut line));
        } else if rest.starts_with("/*") {
            depth += 1;
            len = 2;
            line.comment.push_str("/*");
        } else if depth > 0 && rest.starts_with("*/") {
            depth -= 1;
            len = 2;
            line.comment.push_str("*/");
        } else if depth > 0 {
            line.comment.push(first);
        } else if rest.starts_with("//") {
            len = rest.find('\n').unwrap_or(rest.len());
            line.comment.push_str(&rest[..len]);
        } else if let Some(literal) = literal(rest, &line.code) {
            // A literal may span lines, which keep their numbers.
            len = literal;
            line.code.push_str("\"\"");
            for _ in rest[..len].matches('\n') {
                lines.push(std::mem::take(&mut line));
            }
        } else {
            line.code.push(first);
        }
        rest = &rest[len..];
    }
    lines.push(line);
    lines
}

/// Length of the string or character literal that `rest` begins with; `before` is the code that
/// stands before it in its line.
fn literal(rest: &str, before: &str) -> Option<usize> {
    let in_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    if let Some(body) = rest.strip_prefix('\'') {
        // A lifetime has no closing quote after its first character.
        let first = body.chars().next()?;
        let closed = body[first.len_utf8()..].starts_with('\'');
        return (first == '\\' || closed).then(|| quoted(rest, '\''));
    }
    if in_word {
        return None;
    }
    let begin = ["r", "br", "cr"].into_iter().find(|begin| {
        let after = rest.strip_prefix(begin);
        after.is_some_and(|after| after.trim_start_matches('#').starts_with('"'))
    })?;
    let hashes = rest[begin.len()..].find('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let body = begin.len() + hashes + 1;
    let len = rest[body..].find(&end)?;
    Some(body + len + end.len())
}

/// Length of a literal in quotes, with them.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> Vec<String> {
        lines(source).into_iter().map(|line| line.code).collect()
    }

    #[test]
    fn comments_are_no_code() {
        let found = lines("a(); // unsafe\n/* unsafe\n /* deep */ unsafe */ b();");
        assert_eq!(found[0].code, "a(); ");
        assert_eq!(found[0].comment, "// unsafe");
        assert_eq!(found[1].code, "");
        assert_eq!(found[2].code, " b();");
        assert!(!found.iter().any(|line| line.has_word("unsafe")));
    }

    #[test]
    fn literals_are_no_code() {
        assert_eq!(code(r#"f("unsafe // x", 'a', '"')"#), [r#"f("", "", "")"#]);
        assert_eq!(
            code(r##"f(r#"un"safe"#, br"x\", c"y")"##),
            [r#"f("", "", c"")"#]
        );
        assert_eq!(code("f(\"a\\\"unsafe\\\\\", b)"), ["f(\"\", b)"]);
        assert_eq!(code("f('\\'', '\\u{41}', x)"), ["f(\"\", \"\", x)"]);
        assert_eq!(code("\"one\ntwo\" + x"), ["\"\"", " + x"]);
    }

    #[test]
    fn lifetimes_and_words_that_end_in_r_are_no_literals() {
        assert_eq!(code("fn f<'a>(x: &'a str)"), ["fn f<'a>(x: &'a str)"]);
        assert_eq!(code("for x in iter"), ["for x in iter"]);
        assert_eq!(code("'outer: loop"), ["'outer: loop"]);
    }

    #[test]
    fn words_are_whole() {
        let line = &lines("allow(unsafe_code); unsafe{x}")[0];
        assert!(line.has_word("unsafe") && line.has_word("unsafe_code"));
        assert!(!lines("not_unsafe unsafely")[0].has_word("unsafe"));
    }
}
