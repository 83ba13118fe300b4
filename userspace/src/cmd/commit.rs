// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `vbdctl commit`: a writable layer becomes a sealed one.

use super::progress::progress_bar;
use crate::cli::{self, layers::CommitArgs};
use anyhow::Result;
use vbd_format::lsmt::LogEnd;
use vbdctl::error::complain;
use vbdctl::image::commit::{commit, CommitOptions};
use vbdctl::image::layer::Contents;
use vbdctl::image::parallel;
use vbdctl::image::upper::Upper;

/// Makes the layer.
pub(crate) fn run(args: &CommitArgs) -> Result<()> {
    let container = args.form.container("commit", &args.work)?;
    let upper = match (args.files.as_slice(), args.sparse) {
        ([data, index], false) => Upper::open_pair(data, index)?,
        ([file], true) => Upper::open_sparse(file)?,
        (_, false) => {
            let message = "a pair has a data file and an index file; --sparse is for one file";
            return Err(cli::misuse("commit", message.into()));
        }
        (_, true) => {
            let message = "a sparse layer is one file, without an index file";
            return Err(cli::misuse("commit", message.into()));
        }
    };
    let options = CommitOptions {
        container,
        uuid: args.name.uuid,
        parent_uuid: args.parent,
        message: args.name.message.clone(),
    };
    let bar = progress_bar(Contents::of(upper.segments()).data_bytes);
    let jobs = parallel::readers(args.work.jobs());
    commit(&upper, &args.output, &options, jobs, &mut |done| {
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let (end, index) = &upper.log_end;
    if let Some(left_out) = left_out(*end) {
        complain(&format!("warning: {}: {left_out}", index.display()));
    }
    Ok(())
}

/// What was left out of a log that a crash has cut.
fn left_out(end: LogEnd) -> Option<String> {
    match end {
        LogEnd::Whole => None,
        LogEnd::Torn(at) => Some(format!(
            "offset {at}: the file ends inside a record, which was left out"
        )),
        LogEnd::Zeroes(at) => Some(format!(
            "offset {at}: zeroes in place of a record; it and what follows was left out"
        )),
        LogEnd::Group(at) => Some(format!(
            "offset {at}: a group of records that did not arrive whole, which was left out"
        )),
        LogEnd::NoData(at) => Some(format!(
            "offset {at}: a record of data that the data file does not reach; it and what follows \
             was left out"
        )),
    }
}
