// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! How far long work has come.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `size` bytes on standard error; invisible unless that is a terminal.
pub(crate) fn progress_bar(size: u64) -> ProgressBar {
    let bar = ProgressBar::new(size);
    let template = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
