// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The tests that need no virtual machine: those of cargo.

use super::lint;
use super::steps::{Count, Step};
use anyhow::{bail, Context, Result};

/// Builds all tests of the workspace.
pub(super) fn build(step: &Step) -> Result<Count> {
    let mut build = lint::cargo()?;
    step.run(build.args(["test", "--locked", "--workspace", "--no-run"]))?;
    Ok(Count::default())
}

/// Runs all tests of the workspace.
pub(super) fn tests(step: &Step) -> Result<Count> {
    let mut test = lint::cargo()?;
    test.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
    let (success, text) = step.try_run(&mut test)?;
    let count = sum(&text)?;
    for line in text.lines().filter(|line| is_failure(line)) {
        step.note(line.to_string());
    }
    if count.failed > 0 {
        step.note(format!("(whole log: {})", step.path().display()));
    }
    // A program that cannot be started or that dies has no summary.
    if !success && count.failed == 0 {
        bail!("cargo test failed without a test that says so");
    }
    if count.passed == 0 {
        bail!("cargo test ran no test");
    }
    Ok(count)
}

/// The sum of the summaries in the output of `cargo test`. Tests that are ignored are refused.
fn sum(text: &str) -> Result<Count> {
    let mut total = Count::default();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("test result: ") else {
            continue;
        };
        let field = |name: &str| -> Result<u64> {
            let word = rest.split([';', '.']).find_map(|part| {
                let (number, what) = part.trim().split_once(' ')?;
                (what == name).then_some(number)
            });
            let word = word.with_context(|| format!("no number of {name} in: {line}"))?;
            word.parse().with_context(|| line.to_string())
        };
        let skipped = field("ignored")? + field("filtered out")?;
        if skipped > 0 {
            bail!("{skipped} tests are ignored, and none may be");
        }
        total += Count {
            passed: field("passed")?,
            failed: field("failed")?,
        };
    }
    Ok(total)
}

fn is_failure(line: &str) -> bool {
    line.starts_with("test ") && line.ends_with("FAILED") || line.contains("panicked at")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_summaries_are_added() {
        let text = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; \
            finished in 0.00s\n\n\
            test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished \
            in 1.25s\n";
        let count = sum(text).unwrap();
        assert_eq!(
            count,
            Count {
                passed: 31,
                failed: 1
            }
        );
        assert!(is_failure("test b ... FAILED"));
        assert!(!is_failure("test a ... ok"));
    }

    #[test]
    fn an_ignored_test_is_an_error() {
        let text = "test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        assert!(sum(text).unwrap_err().to_string().contains("1 tests"));
    }

    #[test]
    fn a_summary_of_another_form_is_an_error() {
        assert!(sum("test result: fine. 1 passed").is_err());
        assert_eq!(sum("no tests here").unwrap(), Count::default());
    }
}
