// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the guest's program prints, line by line, against the cases that it was told to run.

use super::super::steps::{Count, Step};
use std::collections::BTreeMap;

/// Results as they come in.
pub(super) struct Results {
    /// Every case that was asked for; whether it passed, once it is known.
    cases: BTreeMap<String, Option<bool>>,
    /// Seconds of each theme.
    seconds: BTreeMap<String, f32>,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// What was said since the last result: the words of the case that runs.
    said: Vec<String>,
    /// Numbers that cases report, a line each.
    notes: Vec<String>,
    verbose: bool,
}

impl Results {
    pub(super) fn new(cases: Vec<String>, verbose: bool) -> Results {
        Results {
            cases: cases.into_iter().map(|name| (name, None)).collect(),
            seconds: BTreeMap::new(),
            partial: Vec::new(),
            said: Vec::new(),
            notes: Vec::new(),
            verbose,
        }
    }

    /// Takes a piece of the output, of any length.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_string();
            self.line(line);
        }
    }

    fn line(&mut self, line: String) {
        if let Some(note) = line.strip_prefix("note ") {
            self.notes.push(note.to_string());
            return;
        }
        let Some((passed, name, seconds)) = result(&line) else {
            self.said.push(line);
            return;
        };
        let theme = name.split("::").next().unwrap_or_default().to_string();
        *self.seconds.entry(theme).or_default() += seconds;
        if !passed {
            // In one piece: other boots print as well.
            println!("      {line}{}", self.words());
        } else if self.verbose {
            println!("      {line}");
        }
        self.said.clear();
        // A case that nobody asked for counts as well.
        self.cases.insert(name.to_string(), Some(passed));
    }

    /// What was said since the last result, to be shown below a line.
    fn words(&self) -> String {
        let said = self.said.iter().map(|said| format!("\n      | {said}"));
        said.collect()
    }

    /// The sum, with a note to the step for each theme. A case without a result has failed.
    pub(super) fn finish(self, step: &Step) -> Count {
        let mut total = Count::default();
        let mut themes: BTreeMap<&str, Count> = BTreeMap::new();
        for (name, passed) in &self.cases {
            let theme = name.split("::").next().unwrap_or_default();
            let good = *passed == Some(true);
            let one = Count {
                passed: u64::from(good),
                failed: u64::from(!good),
            };
            *themes.entry(theme).or_default() += one;
            total += one;
            if passed.is_none() {
                println!("      FAIL {name}: the guest did not come to its end");
            }
        }
        if self.cases.values().any(Option::is_none) {
            println!("      the last words of the guest:{}", self.words());
        }
        for (theme, Count { passed, failed }) in themes {
            let seconds = self.seconds.get(theme).copied().unwrap_or_default();
            step.note(format!(
                "{theme}: {passed} passed, {failed} failed ({seconds:.1} s)"
            ));
        }
        for note in self.notes {
            step.note(note);
        }
        total
    }
}

/// Whether a line is a case's result: passed or not, which, and in what time.
fn result(line: &str) -> Option<(bool, &str, f32)> {
    let (mark, rest) = line.split_at_checked(5)?;
    let passed = match mark {
        "ok   " => true,
        "FAIL " => false,
        _ => return None,
    };
    let (name, time) = rest.split_once(" (")?;
    let seconds = time.strip_suffix(" s)")?.parse().ok()?;
    name.contains("::").then_some((passed, name, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(cases: &[&str], output: &[&str]) -> (Count, Vec<String>) {
        let cases = cases.iter().map(ToString::to_string).collect();
        let mut results = Results::new(cases, false);
        for piece in output {
            results.take(piece.as_bytes());
        }
        let step = Step::without_log();
        (results.finish(&step), step.notes())
    }

    #[test]
    fn pieces_of_lines_are_put_together() {
        let output = [
            "ok   a::x (0.",
            "50 s)\nhello\nFAIL a::y (1.25 s)\n",
            "2 passed",
        ];
        let (count, shown) = results(&["a::x", "a::y"], &output);
        assert_eq!(
            count,
            Count {
                passed: 1,
                failed: 1
            }
        );
        assert_eq!(shown, ["a: 1 passed, 1 failed (1.8 s)"]);
    }

    #[test]
    fn a_case_without_a_result_has_failed() {
        let (count, _) = results(&["a::x", "a::y"], &["ok   a::x (0.50 s)\n"]);
        assert_eq!(count.failed, 1);
        let (count, _) = results(&["a::x"], &["ok   a::x (0.50"]);
        assert_eq!(count.failed, 1);
    }

    #[test]
    fn a_cases_own_words_are_not_taken_for_results() {
        for line in ["ok   computer (fine)", "FAIL ", "ok", "okay a::x (1.0 s)"] {
            assert_eq!(result(line), None, "{line}");
        }
        assert_eq!(result("ok   a::x (2.00 s)"), Some((true, "a::x", 2.0)));
    }

    #[test]
    fn notes_come_after_the_themes() {
        let (_, shown) = results(&["a::x"], &["note 3 of 4\nok   a::x (0.00 s)\n"]);
        assert_eq!(shown[1], "3 of 4");
    }
}
