// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What fio says, and whether that is as it has to be.

use crate::suites::guest::Judge;
use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

/// "Input/output error".
const EIO: u64 = 5;

/// That all went well, and that so many bytes were read.
pub(in crate::suites) fn reads_all(bytes: u64) -> Judge {
    Box::new(move |status, said| {
        no_bad_block(said)?;
        ensure!(status == 0, "fio ended with status {status}: {said}");
        let read = read_bytes(said)?;
        ensure!(read == bytes, "fio read {read} bytes of {bytes}");
        Ok(())
    })
}

/// The same of a run that was ended, however much it had read.
pub(in crate::suites) fn reads_something() -> Judge {
    Box::new(move |_, said| {
        no_bad_block(said)?;
        ensure!(read_bytes(said)? > 0, "fio read nothing");
        Ok(())
    })
}

/// That fio fails and says these words.
pub(in crate::suites) fn finds(words: &'static str) -> Judge {
    Box::new(move |status, said| {
        ensure!(status != 0, "fio found nothing wrong");
        ensure!(said.contains(words), "fio did not say: {words}");
        Ok(())
    })
}

/// That blocks could not be read, at most so many, and that none was read wrong.
pub(in crate::suites) fn fails_to_read(most: u64) -> Judge {
    Box::new(move |_, said| {
        no_bad_block(said)?;
        let report = report(said)?;
        let job = &report["jobs"][0];
        let (errors, first) = (job["total_err"].as_u64(), job["first_error"].as_u64());
        let errors = errors.context("a job without total_err")?;
        ensure!(errors > 0, "every block was read: {said}");
        ensure!(first == Some(EIO), "the first error was {first:?}");
        ensure!(errors <= most, "{errors} reads failed");
        Ok(())
    })
}

/// That fio did not complain about what a block holds. The options say the word too, and only they are quoted.
fn no_bad_block(said: &str) -> Result<()> {
    let mut lines = said.lines().map(str::trim_start);
    if let Some(line) = lines.find(|line| line.contains("verify") && !line.starts_with('"')) {
        bail!("{line}");
    }
    Ok(())
}

fn report(said: &str) -> Result<Value> {
    let begin = said.find("\n{").map_or(0, |at| at + 1);
    let text = &said[begin..];
    let end = text.rfind("\n}").map_or(text.len(), |at| at + 2);
    serde_json::from_str(&text[..end]).context("fio printed no report")
}

/// The bytes that all jobs together have read, by fio's report.
fn read_bytes(said: &str) -> Result<u64> {
    let report = report(said)?;
    let jobs = report["jobs"].as_array().context("a report without jobs")?;
    let mut total = 0;
    for job in jobs {
        if job["error"] != 0 {
            bail!("a job ended with error {}", job["error"]);
        }
        total += job["read"]["io_bytes"]
            .as_u64()
            .context("a job without io_bytes")?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "note: x\n{ \"jobs\": [ { \"error\": 0, \"read\": { \"io_bytes\": 5 } }, \
        { \"error\": 0, \"read\": { \"io_bytes\": 7 } } ] }\n";

    #[test]
    fn bytes_of_all_jobs_are_added() {
        assert_eq!(read_bytes(REPORT).unwrap(), 12);
        assert!(read_bytes(&REPORT.replace("\"error\": 0", "\"error\": 84")).is_err());
        assert!(read_bytes("fio: nothing").is_err());
    }

    #[test]
    fn a_run_that_read_less_or_found_something_is_judged_so() {
        let judge = reads_all(12);
        assert!(judge(0, REPORT).is_ok());
        assert!(judge(1, REPORT).is_err());
        assert!(reads_all(13)(0, REPORT).is_err());
        let found = format!("crc32c: verify failed at file /dev/vbd0 offset 0\n{REPORT}");
        assert!(judge(0, &found).is_err());
        let option = REPORT.replace("note: x", "\"verify\" : 1");
        assert!(judge(0, &option).is_ok());
        assert!(finds("verify failed")(1, &found).is_ok());
        assert!(finds("verify failed")(0, &found).is_err());
        assert!(finds("verify failed")(1, REPORT).is_err());
    }
}
