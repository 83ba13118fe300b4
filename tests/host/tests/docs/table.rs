// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The tables of the format pages that are marked with `<!-- table: NAME -->`.

use std::path::Path;

/// The format pages.
pub(crate) const PAGES: [&str; 4] = [
    "format-wrapping.md",
    "format-zfile.md",
    "format-lsmt.md",
    "format-writable.md",
];

/// A marked table: the head's cells and the rows'.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) page: &'static str,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Text of a file of the checkout.
pub(crate) fn text(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').trim_end_matches('|');
    line.split('|')
        .map(|cell| cell.trim().to_string())
        .collect()
}

/// All marked tables of this name, page by page.
pub(crate) fn tables(name: &str) -> Vec<Table> {
    let mark = format!("<!-- table: {name} -->");
    let mut found = Vec::new();
    for page in PAGES {
        let text = text(&format!("docs/{page}"));
        let lines: Vec<&str> = text.lines().collect();
        for (i, _) in lines.iter().enumerate().filter(|(_, line)| **line == mark) {
            let body: Vec<Vec<String>> = lines[i + 1..]
                .iter()
                .take_while(|line| line.starts_with('|'))
                .map(|line| cells(line))
                .collect();
            assert!(body.len() > 2, "{page}: table {name} is empty");
            let width = body[0].len();
            assert!(
                body.iter().all(|row| row.len() == width),
                "{page}: {name} is ragged"
            );
            found.push(Table {
                page,
                head: body[0].clone(),
                rows: body[2..].to_vec(),
            });
        }
    }
    assert!(!found.is_empty(), "no table {name} in the format pages");
    found
}

/// The only marked table of this name.
pub(crate) fn table(name: &str) -> Table {
    let mut found = tables(name);
    assert_eq!(found.len(), 1, "tables {name}");
    found.remove(0)
}

impl Table {
    /// The cells of the columns with these heads, row by row, without code marks.
    pub(crate) fn columns<const N: usize>(&self, heads: [&str; N]) -> Vec<[String; N]> {
        let at = heads.map(|head| {
            let found = self.head.iter().position(|h| h == head);
            found.unwrap_or_else(|| panic!("{}: no column {head}", self.page))
        });
        self.rows
            .iter()
            .map(|row| at.map(|i| row[i].trim_matches('`').to_string()))
            .collect()
    }
}

/// Names of the constants in Rust source that begin with `prefix`.
pub(crate) fn constants(source: &str, prefix: &str) -> Vec<String> {
    source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "))
        .filter_map(|rest| rest.split_once(':'))
        .map(|(name, _)| name.to_string())
        .filter(|name| name.starts_with(prefix))
        .collect()
}
