// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Tables as text for the terminal and for `docs/performance.md`.

use super::summary::{Line, Spread, Table};

/// Heads of the columns after the contender and its value.
const HEADS: [&str; 6] = ["× first", "CPU", "CPU × first", "disk", "insn", "peak MiB"];

/// Aligned with blanks; what was `left_out` comes last.
pub(crate) fn text(tables: &[Table], left_out: &[String]) -> String {
    let mut out = String::new();
    for table in tables {
        let mut cells = vec![head(table)];
        cells.extend(table.lines.iter().map(cells_of));
        let kept = kept(&cells);
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max();
        out += &format!("{}\n", table.title);
        for row in &cells {
            let mut line = String::new();
            for &column in &kept {
                let cell = &row[column];
                let pad = " ".repeat(width(column).unwrap_or(0) - cell.chars().count());
                line += &match column {
                    0 => format!("  {cell}{pad}"),
                    _ => format!("  {pad}{cell}"),
                };
            }
            out += &format!("{}\n", line.trim_end());
        }
        out += "\n";
    }
    for line in left_out {
        out += &format!("not measured here: {line}\n");
    }
    out
}

/// As tables of Markdown; what was `left_out` comes last.
pub(crate) fn markdown(machine: &str, tables: &[Table], left_out: &[String]) -> String {
    let mut out = format!("{machine}\n");
    for table in tables {
        let mut cells = vec![head(table)];
        cells.extend(table.lines.iter().map(cells_of));
        let kept = kept(&cells);
        out += &format!("\n### {}\n\n", table.title);
        for (number, row) in cells.iter().enumerate() {
            let words: Vec<&str> = kept.iter().map(|&column| row[column].as_str()).collect();
            out += &format!("| {} |\n", words.join(" | "));
            if number == 0 {
                out += &format!("|---|{}\n", "---:|".repeat(kept.len() - 1));
            }
        }
    }
    if !left_out.is_empty() {
        out += "\n### Not measured here\n\n";
    }
    for line in left_out {
        out += &format!("* {line}\n");
    }
    out
}

fn head(table: &Table) -> Vec<String> {
    let (cpu, instructions) = match table.rate {
        true => ("CPU s/GiB", "insn/KiB"),
        false => ("CPU ms", "M insn"),
    };
    let mut words = vec![String::new(), table.unit().to_string()];
    words.extend(HEADS.iter().map(|&head| match head {
        "CPU" => cpu.to_string(),
        "insn" => instructions.to_string(),
        head => head.to_string(),
    }));
    words
}

fn cells_of(line: &Line) -> Vec<String> {
    let number = |value: Option<f64>| value.map(short).unwrap_or_default();
    vec![
        line.contender.clone(),
        spread(&line.value),
        line.ratio.as_ref().map(spread).unwrap_or_default(),
        number(line.cpu),
        line.cpu_ratio.as_ref().map(spread).unwrap_or_default(),
        number(line.disk),
        number(line.instructions),
        number(line.peak_mib),
    ]
}

/// The columns in which something stands.
fn kept(cells: &[Vec<String>]) -> Vec<usize> {
    let used = |column: &usize| cells[1..].iter().any(|row| !row[*column].is_empty());
    (0..HEADS.len() + 2).filter(used).collect()
}

fn spread(spread: &Spread) -> String {
    let Spread {
        median,
        least,
        most,
    } = spread;
    if least == most {
        return short(*median);
    }
    format!("{} ({}–{})", short(*median), short(*least), short(*most))
}

/// Three digits that count.
pub(crate) fn short(value: f64) -> String {
    match value {
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let value = |median| Spread {
            median,
            least: median / 2.0,
            most: median,
        };
        Table {
            title: "seq".into(),
            rate: true,
            lines: vec![Line {
                contender: "loop".into(),
                value: value(123.4),
                ratio: Some(value(1.0)),
                cpu: Some(12.34),
                cpu_ratio: None,
                disk: None,
                instructions: None,
                peak_mib: None,
            }],
        }
    }

    #[test]
    fn columns_without_numbers_are_left_out() {
        let text = text(&[table()], &[]);
        assert_eq!(
            text,
            "seq\n                  MB/s           × first  CPU s/GiB\n  \
             loop  123 (61.7–123)  1.00 (0.50–1.00)       12.3\n\n"
        );
        let text = markdown("machine", &[table()], &[]);
        assert!(text.contains("|  | MB/s | × first | CPU s/GiB |\n|---|---:|---:|---:|\n"));
    }

    #[test]
    fn what_was_left_out_is_told() {
        let left_out = ["attach: too large".to_string()];
        let out = text(&[table()], &left_out);
        assert!(
            out.ends_with("\nnot measured here: attach: too large\n"),
            "{out}"
        );
        let out = markdown("machine", &[table()], &left_out);
        assert!(
            out.ends_with("\n### Not measured here\n\n* attach: too large\n"),
            "{out}"
        );
    }
}
