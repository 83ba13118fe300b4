// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The layer proper: header, trailer and every record.

use super::findings::{Extra, Findings};
use super::table::Located;
use super::LayerReport;
use crate::error::ReadError;
use vbd_format::limits::SECTOR;
use vbd_format::lsmt::{self, Lsmt, Segment, HEADER_BYTES, RECORD_BYTES};
use vbd_format::{ReadAt as _, Rule};

/// Bytes of the index that are read at a time: what one damaged block hides is no more.
const PIECE: u64 = 4096;

/// Verifies header, trailer and index; returns what the layer says of itself, if that is known.
pub(super) fn check_records(
    located: &Located<'_>,
    report: &mut LayerReport,
    findings: &mut Findings<'_>,
) -> Result<Option<Lsmt>, ReadError> {
    let compressed = located.zfile.is_some();
    let mut broken = Vec::new();
    let inspected = lsmt::inspect(located, |error| {
        broken.push(error);
        Ok(())
    });
    let not_a_layer = broken
        .first()
        .filter(|error| error.rule == Rule::LsmtHeaderMagic);
    if let (Some(&error), Err(ReadError::Format(_))) = (not_a_layer, &inspected) {
        // Neither end is one of a layer: what else they are not says nothing.
        findings.rule(error);
        return Ok(None);
    }
    let index_usable = !broken
        .iter()
        .any(|error| matches!(error.rule, Rule::LsmtIndexLimit | Rule::LsmtIndexBounds));
    for error in broken {
        findings.rule(error);
    }
    let lsmt = match inspected {
        Ok(lsmt) => lsmt,
        // The blocks' own defects have been told.
        Err(ReadError::Format(error)) if compressed && error.rule.part() == "zfile" => {
            findings.extra(Extra::NotVerified, "lsmt", 0, "header and trailer".into());
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if !index_usable {
        return Ok(Some(lsmt));
    }
    let segments = check_index(located, &lsmt, report, findings)?;
    check_use(&lsmt, segments, report, findings);
    Ok(Some(lsmt))
}

/// Order and range of every record; returns the ones that store something.
fn check_index(
    located: &Located<'_>,
    lsmt: &Lsmt,
    report: &mut LayerReport,
    findings: &mut Findings<'_>,
) -> Result<Vec<Segment>, ReadError> {
    let mut segments = Vec::new();
    let mut previous_end = 0;
    let mut past = None;
    let end = lsmt.index_offset + lsmt.index_size * RECORD_BYTES as u64;
    let mut at = lsmt.index_offset;
    while at < end {
        let mut piece = vec![0; PIECE.min(end - at) as usize];
        match located.read_exact_at(at, &mut piece) {
            Ok(()) => {}
            Err(ReadError::Format(_)) => {
                let found = format!("{} records", piece.len() / RECORD_BYTES);
                findings.extra(Extra::NotVerified, "lsmt", at, found);
                at += piece.len() as u64;
                continue;
            }
            Err(error) => return Err(error),
        }
        for raw in piece.chunks_exact(RECORD_BYTES) {
            let segment = Segment::from_bytes(raw.try_into().unwrap_or_default());
            if !segment.is_padding() {
                report.records += 1;
                let order = lsmt::check_order(segment, previous_end, at);
                let range = lsmt::check_range(segment, lsmt.index_offset, at);
                for error in [order, range].into_iter().filter_map(Result::err) {
                    findings.rule(error);
                }
                previous_end = segment.end();
                if segment.sectors() != 0 && range.is_ok() {
                    if previous_end > lsmt.virtual_size.div_ceil(SECTOR) {
                        past = past.or(Some((at, 0))).map(|(first, n)| (first, n + 1));
                    }
                    segments.push(segment);
                }
            }
            at += RECORD_BYTES as u64;
        }
    }
    if let Some((first, count)) = past.filter(|_| lsmt.virtual_size != 0) {
        findings.extra(Extra::PastTheEnd, "lsmt", first, format!("{count} records"));
    }
    Ok(segments)
}

/// How much of the data area the records point at.
fn check_use(
    lsmt: &Lsmt,
    mut segments: Vec<Segment>,
    report: &mut LayerReport,
    findings: &mut Findings<'_>,
) {
    let area = lsmt.index_offset.saturating_sub(HEADER_BYTES);
    segments.retain(|segment| !segment.zeroed());
    segments.sort_unstable_by_key(|segment| segment.moffset());
    let mut used = 0;
    let mut end = 0;
    for segment in segments {
        let stored = segment.moffset() + segment.sectors();
        used += stored.saturating_sub(end.max(segment.moffset()));
        end = end.max(stored);
    }
    let unused = area.saturating_sub(used * SECTOR);
    if lsmt.index_size == 0 {
        // An empty index may lie anywhere: its place says nothing of the data.
        return;
    }
    report.unreferenced_bytes = unused;
    // Stored data keeps its place within a page: a few sectors between are how layers are written.
    if unused != 0 && unused * 20 > area {
        let percent = unused as f64 * 100.0 / area as f64;
        let found = format!("{unused}, {percent:.1} % of the data");
        findings.extra(Extra::Unreferenced, "lsmt", HEADER_BYTES, found);
    }
}
