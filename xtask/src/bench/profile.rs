// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Where the kernel's instructions of a measurement are spent, by function.

use super::plugin::PROFILE;
use super::rows::Output;
use crate::run;
use anyhow::{bail, Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Has the guest tell where its functions are; the modules must not be loaded anew after that.
pub(crate) const SYMBOLS: &str = "modprobe -a loop dm_mod erofs squashfs vbd vbd_dm && \
     grep -i ' t ' /proc/kallsyms";
/// Functions that are told of each measurement.
const TOP: usize = 30;

/// Functions by address.
pub(crate) struct Symbols(BTreeMap<u64, String>);

impl Symbols {
    /// Reads lines of /proc/kallsyms: address, type, name, and perhaps a module in brackets.
    pub(crate) fn parse(text: &str) -> Result<Symbols> {
        let mut symbols = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let address = words.next().context("no address")?;
            let name = words.nth(1).context("no name")?;
            let module = words.next().unwrap_or_default();
            let address = u64::from_str_radix(address, 16)?;
            symbols.insert(address, format!("{name} {module}"));
        }
        if symbols.keys().all(|&address| address == 0) {
            bail!("the guest hides its addresses");
        }
        Ok(Symbols(symbols))
    }

    /// The function that an address lies in, and how far behind its begin.
    fn place(&self, address: u64) -> (&str, u64) {
        let below = self.0.range(..=address).next_back();
        below.map_or(("?", 0), |(begin, name)| (name.trim(), address - begin))
    }
}

/// Instructions by block, for each mark.
fn parse(text: &str) -> Result<Vec<BTreeMap<u64, u64>>> {
    let mut marks: Vec<BTreeMap<u64, u64>> = Vec::new();
    for line in text.lines() {
        if line == "mark" {
            marks.push(BTreeMap::new());
            continue;
        }
        let (address, count) = line.split_once(' ').context(line.to_string())?;
        let mark = marks.last_mut().context("a block before the first mark")?;
        *mark.entry(u64::from_str_radix(address, 16)?).or_default() += count.parse::<u64>()?;
    }
    Ok(marks)
}

/// Writes `profile.txt`, with demangled names where the host can do that.
pub(crate) fn write(place: &Path, output: &Output, symbols: &Symbols) -> Result<()> {
    let path = place.join(PROFILE);
    let marks = parse(&fs::read_to_string(&path).context("the profile")?)?;
    let mut text = String::new();
    // Modules are loaded anew, and elsewhere, for the other phase.
    for row in output.rows.iter().filter(|row| row.phase == "inline") {
        // What stands at the second mark was run since the first one.
        let blocks = marks.get(usize::try_from(row.mark)? + 1);
        let blocks = blocks.context("a mark is missing")?;
        // By name: all of it, and each block with its place.
        type Sum = (u64, Vec<(u64, u64)>);
        let mut functions: BTreeMap<&str, Sum> = BTreeMap::new();
        for (&address, &count) in blocks {
            let (name, offset) = symbols.place(address);
            let (sum, parts) = functions.entry(name).or_default();
            *sum += count;
            parts.push((offset, count));
        }
        let mut functions: Vec<_> = functions.into_iter().collect();
        functions.sort_by_key(|(_, (sum, _))| std::cmp::Reverse(*sum));
        let kib = (row.bytes as f64 / 1024.0).max(1.0);
        let total: u64 = functions.iter().map(|(_, (sum, _))| sum).sum();
        let per_kib = |count: u64| count as f64 / kib;
        text += &format!("{} {}: {:.0}\n", row.load, row.contender, per_kib(total));
        for (name, (sum, parts)) in functions.iter().take(TOP) {
            text += &format!("  {:8.1}  {name}\n", per_kib(*sum));
            // Where in a long function, for whoever has its disassembly.
            for (offset, count) in parts.iter().filter(|(_, count)| *count > total / 50) {
                text += &format!("            {:8.1}  +{offset:#x}\n", per_kib(*count));
            }
        }
        text.push('\n');
    }
    let plain = place.join("profile.txt");
    fs::write(&plain, text)?;
    fs::remove_file(path)?;
    demangle(&plain);
    Ok(())
}

/// Names stay mangled where there is no c++filt, which knows Rust's as well.
fn demangle(path: &Path) {
    let Ok(file) = fs::File::open(path) else {
        return;
    };
    if let Ok(text) = run::stdout(std::process::Command::new("c++filt").stdin(file)) {
        let _ = fs::write(path, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_belong_to_the_function_that_begins_before_them() {
        let text = "ffffffff81000000 T first\nffffffffc0000010 t second\t[vbd]\n";
        let symbols = Symbols::parse(text).unwrap();
        assert_eq!(symbols.place(0xffff_ffff_8100_0123), ("first", 0x123));
        assert_eq!(symbols.place(0xffff_ffff_c000_0010), ("second [vbd]", 0));
        assert_eq!(symbols.place(1), ("?", 0));
        assert!(Symbols::parse("0 T first\n").is_err());
    }

    #[test]
    fn a_block_that_was_translated_twice_is_one() {
        let marks = parse("mark\nff 3\nmark\nfe 1\nff 2\nff 5\n").unwrap();
        assert_eq!(marks[1], BTreeMap::from([(0xfe, 1), (0xff, 7)]));
        assert!(parse("ff 3\n").is_err());
    }
}
