// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A picture of all tables: a bar a contender, with the best and the worst round.

use super::report::short;
use super::summary::{Line, Table};

const WIDTH: f64 = 860.0;
/// Where bars begin and end.
const LEFT: f64 = 210.0;
const RIGHT: f64 = 640.0;
const STEP: f64 = 18.0;

/// The picture as SVG.
pub(crate) fn svg(machine: &str, tables: &[Table]) -> String {
    let lines: usize = tables.iter().map(|table| table.lines.len() + 3).sum();
    let height = 40.0 + STEP * lines as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    out += &label(10.0, 20.0, "start", machine);
    let mut y = 50.0;
    for table in tables {
        let better = if table.rate { "more" } else { "less" };
        let title = format!("{}, {}: {better} is better", table.title, table.unit());
        out += &label(10.0, y, "start", &title);
        y += STEP;
        let most = table.lines.iter().map(|line| line.value.most);
        let most = most.fold(f64::MIN_POSITIVE, f64::max);
        for line in &table.lines {
            out += &bar(line, y, most);
            y += STEP;
        }
        y += STEP * 2.0;
    }
    out + "</svg>\n"
}

fn bar(line: &Line, y: f64, most: f64) -> String {
    let x = |value: f64| LEFT + (RIGHT - LEFT) * value / most;
    let color = match &line.contender {
        name if name.contains("vbd") || name.contains("dm-") || name.contains("configfs") => {
            "#3b7dd8"
        }
        _ => "#a0a0a0",
    };
    let (end, top) = (x(line.value.median), y - 11.0);
    let (least, most) = (x(line.value.least), x(line.value.most));
    let middle = y - 4.5;
    let ratio = line
        .ratio
        .map(|ratio| format!("  ×{}", short(ratio.median)));
    let value = short(line.value.median) + &ratio.unwrap_or_default();
    label(LEFT - 8.0, y, "end", &line.contender)
        + &format!(
            "<rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"13\" fill=\"{color}\"/>\n\
             <path d=\"M{least:.1} {middle:.1}H{most:.1}M{least:.1} {top:.1}v13M{most:.1} {top:.1}v13\" \
             stroke=\"black\" fill=\"none\"/>\n",
            end - LEFT
        )
        + &label(RIGHT + 12.0, y, "start", &value)
}

fn label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::super::summary::Spread;
    use super::*;

    #[test]
    fn the_longest_bar_ends_at_the_right() {
        let value = Spread {
            median: 2.0,
            least: 1.0,
            most: 4.0,
        };
        let line = Line {
            contender: "a<b".into(),
            value,
            ratio: None,
            cpu: None,
            cpu_ratio: None,
            disk: None,
            instructions: None,
            peak_mib: None,
        };
        let table = Table {
            title: "t".into(),
            rate: true,
            lines: vec![line],
        };
        let svg = svg("machine", &[table]);
        assert!(svg.contains("a&lt;b"));
        assert!(svg.contains(&format!("H{RIGHT:.1}")), "{svg}");
        assert!(svg.contains("width=\"215.0\""), "{svg}");
    }
}
