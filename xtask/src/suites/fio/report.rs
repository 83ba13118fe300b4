// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What fio says, and whether that is as it has to be.

use crate::suites::guest::Judge;
use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

/// That all went well, and that so many bytes were read.
pub(super) fn reads_all(bytes: u64) -> Judge {
    Box::new(move |status, said| {
        // The options say the word too, and only they are quoted.
        let mut lines = said.lines().map(str::trim_start);
        if let Some(line) = lines.find(|line| line.contains("verify") && !line.starts_with('"')) {
            bail!("{line}");
        }
        ensure!(status == 0, "fio ended with status {status}: {said}");
        let read = read_bytes(said)?;
        ensure!(read == bytes, "fio read {read} bytes of {bytes}");
        Ok(())
    })
}

/// That fio fails and says these words.
pub(super) fn finds(words: &'static str) -> Judge {
    Box::new(move |status, said| {
        ensure!(status != 0, "fio found nothing wrong");
        ensure!(said.contains(words), "fio did not say: {words}");
        Ok(())
    })
}

/// The bytes that all jobs together have read, by fio's report.
fn read_bytes(said: &str) -> Result<u64> {
    let begin = said.find("\n{").map_or(0, |at| at + 1);
    let report: Value = serde_json::from_str(&said[begin..]).context("fio printed no report")?;
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
