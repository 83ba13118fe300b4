// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Measurements made into tables: a table a load, a line a contender.
//!
//! The first contender of a load is its yardstick. Ratios are taken within a round, where both
//! were measured shortly after each other, and then the median of the rounds is taken.

use super::plugin::Count;
use super::rows::Row;

/// A median with the best and the worst that there were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Spread {
            median,
            least,
            most,
        })
    }
}

/// What was found out about one contender.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) contender: String,
    /// Megabytes (10^6) a second, or milliseconds.
    pub(crate) value: Spread,
    /// How many times as fast as the yardstick.
    pub(crate) ratio: Option<Spread>,
    /// Processor seconds per GiB delivered, or milliseconds of processors where no bytes are.
    pub(crate) cpu: Option<f64>,
    /// How many times what it takes of the processors the yardstick takes.
    pub(crate) cpu_ratio: Option<Spread>,
    /// Bytes from disk per byte delivered.
    pub(crate) disk: Option<f64>,
    /// Instructions in the kernel per KiB delivered, or millions of them where no bytes are.
    pub(crate) instructions: Option<f64>,
    pub(crate) peak_mib: Option<f64>,
}

/// One load.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    /// Whether bytes a second are told, not milliseconds.
    pub(crate) rate: bool,
    pub(crate) lines: Vec<Line>,
}

impl Table {
    pub(crate) fn unit(&self) -> &'static str {
        if self.rate {
            "MB/s"
        } else {
            "ms"
        }
    }
}

/// A table for each load, in the order of the first round.
pub(crate) fn tables(rows: &[Row], counts: &[Count]) -> Vec<Table> {
    let mut tables: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        let key = (row.phase.as_str(), row.load.as_str());
        if !tables.contains(&key) {
            tables.push(key);
        }
    }
    let table = |(phase, load): (&str, &str)| {
        let same = |row: &&Row| row.phase == phase && row.load == load;
        let rows: Vec<&Row> = rows.iter().filter(same).collect();
        let counts: Vec<&Count> = counts
            .iter()
            .filter(|count| count.phase == phase && count.load == load)
            .collect();
        one(format!("{load} ({phase})"), &rows, &counts)
    };
    tables.into_iter().map(table).collect()
}

fn one(title: String, rows: &[&Row], counts: &[&Count]) -> Table {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.contender.as_str()) {
            names.push(&row.contender);
        }
    }
    // Looking at files and mounting read next to nothing, whatever the bytes of the files are.
    let timed = ["stat", "mount", "attach", "memory"];
    let rate = !timed.iter().any(|part| title.contains(part));
    let yardstick: Vec<&Row> = rows
        .iter()
        .filter(|row| Some(&row.contender.as_str()) == names.first())
        .copied()
        .collect();
    let lines = names.iter().filter_map(|name| {
        let own: Vec<&Row> = rows
            .iter()
            .filter(|row| row.contender == *name)
            .copied()
            .collect();
        line(name, &own, &yardstick, counts, rate)
    });
    let lines = lines.collect();
    Table { title, rate, lines }
}

fn line(
    name: &str,
    rows: &[&Row],
    yardstick: &[&Row],
    counts: &[&Count],
    rate: bool,
) -> Option<Line> {
    let float = |number: u64| number as f64;
    let median = |values: Vec<f64>| Spread::of(values).map(|spread| spread.median);
    let each = |of: &dyn Fn(&Row) -> f64| rows.iter().map(|row| of(row)).collect::<Vec<f64>>();
    let speed = |row: &Row| match rate {
        true => float(row.bytes) / float(row.ns),
        false => 1.0 / float(row.ns),
    };
    let value = each(&|row| match rate {
        true => float(row.bytes) * 1e3 / float(row.ns),
        false => float(row.ns) / 1e6,
    });
    let ratios = rows.iter().filter_map(|row| {
        let other = yardstick.iter().find(|other| other.round == row.round)?;
        Some(speed(row) / speed(other))
    });
    let thrift = |row: &Row| match rate {
        true => float(row.bytes) / float(row.cpu_ns),
        false => 1.0 / float(row.cpu_ns),
    };
    let cpu_ratios = rows.iter().filter_map(|row| {
        let other = yardstick.iter().find(|other| other.round == row.round)?;
        Some(thrift(row) / thrift(other))
    });
    let cpu = each(&|row| match rate {
        true => float(row.cpu_ns) / 1e9 / (float(row.bytes) / float(1 << 30)),
        false => float(row.cpu_ns) / 1e6,
    });
    let disk = each(&|row| float(row.disk_bytes) / float(row.bytes));
    let counted = counts.iter().find(|count| count.contender == name);
    let peak = rows.iter().map(|row| row.peak_bytes).max()?;
    Some(Line {
        contender: name.to_string(),
        value: Spread::of(value)?,
        // Verbs do different things, so none is a yardstick for the others.
        ratio: Spread::of(ratios.collect()).filter(|_| peak == 0 || rate),
        cpu: median(cpu),
        cpu_ratio: Spread::of(cpu_ratios.collect()).filter(|_| peak == 0 || rate),
        disk: median(disk).filter(|_| rate && rows.iter().all(|row| row.phase != "host")),
        instructions: counted.and_then(|count| match rate {
            true => count.kernel_per_kib(),
            false => Some(count.kernel_millions()),
        }),
        peak_mib: (peak > 0).then(|| float(peak) / float(1 << 20)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(contender: &str, round: u32, ns: u64) -> Row {
        Row {
            phase: "inline".into(),
            load: "seq".into(),
            contender: contender.into(),
            round,
            bytes: 1000,
            ns,
            cpu_ns: ns,
            disk_bytes: 500,
            peak_bytes: 0,
            mark: 0,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // A machine that is half as fast in the second round changes no ratio.
        let rows = [
            row("loop", 0, 100),
            row("vbd", 0, 50),
            row("vbd", 1, 100),
            row("loop", 1, 200),
            row("loop", 2, 100),
            row("vbd", 2, 25),
        ];
        let tables = tables(&rows, &[]);
        assert_eq!(tables.len(), 1);
        let vbd = &tables[0].lines[1];
        let ratio = vbd.ratio.unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most), (2.0, 2.0, 4.0));
        assert_eq!(vbd.disk, Some(0.5));
        assert_eq!(vbd.value.most, 40_000.0);
        assert_eq!(vbd.cpu_ratio, vbd.ratio);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_ones() {
        let spread = Spread::of(vec![4.0, 1.0, 2.0, f64::NAN, 3.0]).unwrap();
        assert_eq!((spread.median, spread.least, spread.most), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
