// SPDX-License-Identifier: GPL-2.0

//! Counters in debugfs: `vbd/<disk>/stats`, a name and a number a line.

use crate::stats::Stats;
use kernel::debugfs::{Dir, File};
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;

/// The file in debugfs, there until this is dropped.
pub(crate) struct StatsFile {
    _file: Pin<KBox<File<Arc<Stats>>>>,
    _dir: Dir,
}

impl StatsFile {
    /// Shows `stats` under the name of the disk.
    pub(crate) fn new(root: &Dir, disk: &CStr, stats: Arc<Stats>) -> Result<Self> {
        let dir = root.subdir(disk);
        let file = KBox::pin_init(
            dir.read_callback_file(c"stats", stats, &|stats: &Arc<Stats>, out| stats.show(out)),
            GFP_KERNEL,
        )?;
        Ok(Self {
            _file: file,
            _dir: dir,
        })
    }
}
