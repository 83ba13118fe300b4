// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl compare`: tells where two disks differ.

use super::print::print;
use super::progress::progress_bar;
use super::Failed;
use crate::cli::layers::CompareArgs;
use anyhow::Result;
use vbdctl::image::compare::{compare, Comparison};
use vbdctl::image::{parallel, Disk};

/// Compares, and prints what differs.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    let a = Disk::open(&args.a)?;
    let b = Disk::open(&args.b)?;
    let bar = progress_bar(a.size().max(b.size()));
    let jobs = parallel::readers(args.jobs.map(usize::from));
    let comparison = compare(&a, &b, args.all, jobs, &mut |done| bar.set_position(done))?;
    bar.finish_and_clear();
    let text = if args.json {
        comparison.json()?
    } else {
        describe(&comparison)
    };
    print(&text)?;
    if comparison.equal {
        Ok(())
    } else {
        Err(Failed.into())
    }
}

fn describe(comparison: &Comparison) -> String {
    let (size_a, size_b) = (comparison.size_a, comparison.size_b);
    if comparison.equal {
        return format!("equal: {size_a} bytes\n");
    }
    let mut text = String::new();
    if size_a != size_b {
        text += &format!("sizes differ: {size_a} and {size_b} bytes\n");
    }
    for range in &comparison.ranges {
        text += &format!(
            "{} bytes from {} differ, the first at {}:\n  {}\n  {}\n",
            range.length,
            range.offset,
            range.first_byte,
            spaced(&range.a),
            spaced(&range.b)
        );
    }
    if comparison.ranges.is_empty() {
        text += "what only one of them has is zero\n";
    }
    text
}

/// Hexadecimal digits in pairs.
fn spaced(digits: &str) -> String {
    let pairs: Vec<String> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).into_owned())
        .collect();
    pairs.join(" ")
}
