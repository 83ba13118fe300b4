// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Measurements as the guest prints them, one JSON object a line.

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// One measurement.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Row {
    /// How reads were served, or where it was measured.
    pub(crate) phase: String,
    pub(crate) load: String,
    pub(crate) contender: String,
    pub(crate) round: u32,
    /// Bytes that the reader got; 0 where time is all there is.
    pub(crate) bytes: u64,
    pub(crate) ns: u64,
    pub(crate) cpu_ns: u64,
    /// Bytes read from virtual disks.
    #[serde(default)]
    pub(crate) disk_bytes: u64,
    /// Most memory that a program held.
    #[serde(default)]
    pub(crate) peak_bytes: u64,
    /// Number of the mark at the begin; that at the end is the next one.
    #[serde(default)]
    pub(crate) mark: u32,
}

/// All that a guest printed.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) rows: Vec<Row>,
    pub(crate) marks: usize,
}

#[derive(Deserialize)]
struct Last {
    marks: usize,
}

/// Collects output, and shows that there is progress.
#[derive(Default)]
pub(crate) struct Lines {
    text: Vec<u8>,
    shown: usize,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        self.shown += lines;
        if self.shown >= 100 {
            eprintln!("bench: {} more measurements", self.shown);
            self.shown = 0;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// What the lines say; the last one says that nothing is missing.
    pub(crate) fn finish(self) -> Result<Output> {
        let text = String::from_utf8(self.text).context("output that is not UTF-8")?;
        let mut lines: Vec<&str> = text.lines().collect();
        let Some(last) = lines.pop() else {
            bail!("the load generator printed nothing");
        };
        let last: Last = serde_json::from_str(last).context("the end of the output is missing")?;
        let rows = lines.iter().map(|line| {
            let row = serde_json::from_str(line);
            row.with_context(|| format!("a line that is no measurement: {line}"))
        });
        Ok(Output {
            rows: rows.collect::<Result<_>>()?,
            marks: last.marks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{"phase":"inline","load":"a","contender":"b","round":1,"bytes":4096,"ns":10,"cpu_ns":5,"disk_bytes":0,"mark":2}"#;

    #[test]
    fn output_is_rows_and_a_last_line() {
        let mut lines = Lines::default();
        lines
            .write_all(format!("{ROW}\n{{\"ma").as_bytes())
            .unwrap();
        lines.write_all(b"rks\":4}\n").unwrap();
        let output = lines.finish().unwrap();
        assert_eq!((output.rows.len(), output.marks), (1, 4));
        assert_eq!(output.rows[0].mark, 2);
    }

    #[test]
    fn output_that_was_cut_off_is_an_error() {
        let mut lines = Lines::default();
        lines.write_all(format!("{ROW}\n").as_bytes()).unwrap();
        assert!(lines.finish().is_err());
        assert!(Lines::default().finish().is_err());
    }
}
