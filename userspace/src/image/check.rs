// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Verifies layers and stacks, and goes on after a defect.
//!
//! The JSON of `vbdctl check --json` is a [`Report`]; fields are never renamed or removed:
//!
//! | field | meaning |
//! |---|---|
//! | `ok` | whether there is no defect |
//! | `defects`, `notes` | how many there are |
//! | `layers` | for each layer: `file`, `file_size`, `blocks` and `block_bytes` (decoded and compared with their checksums), `records`, `unreferenced_bytes` (stored, and no record points at them), `defects`, `notes` |
//! | `findings` | at most 10,000 for a layer, in the order of the checks |
//!
//! and of a finding:
//!
//! | field | meaning |
//! |---|---|
//! | `file` | the layer's path; `null` for the stack |
//! | `layer` | its number, 0 = bottom |
//! | `defect` | `true`, or `false` for a note |
//! | `rule` | name of the rule, as in `docs/format-*.md` or in [`findings::Extra`] |
//! | `part` | `tar`, `zfile`, `lsmt` or `stack`: what `offset` counts in (the file, the tar payload, the decompressed bytes) |
//! | `offset` | byte |
//! | `found` | the value found there |
//! | `text` | the rule, as a sentence |

mod blocks;
pub mod findings;
mod records;
mod table;

use self::blocks::check_blocks;
use self::findings::{Extra, Finding, Findings};
use self::table::Located;
use super::backing::Backing;
use super::codec::Crc;
use super::stack::Stack;
use crate::error::{Error, ReadError, Result};
use serde::Serialize;
use std::path::Path;
use vbd_format::limits::MAX_LAYERS;
use vbd_format::lsmt::{Lsmt, UUID_NONE};
use vbd_format::tar::{self, Wrapper};
use vbd_format::zfile::{self, Header, ZFile};
use vbd_format::{ReadAt as _, Rule, Window};

/// What became of a check.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether there is no defect.
    pub ok: bool,
    /// Defects in all.
    pub defects: u64,
    /// Notes in all.
    pub notes: u64,
    /// The layers, bottom first.
    pub layers: Vec<LayerReport>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// What was verified of a layer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LayerReport {
    /// Path, as given.
    pub file: String,
    /// Bytes of the file.
    pub file_size: u64,
    /// Blocks that were decoded.
    pub blocks: u64,
    /// Stored bytes of those.
    pub block_bytes: u64,
    /// Index records, without padding.
    pub records: u64,
    /// Stored bytes that no record points at.
    pub unreferenced_bytes: u64,
    /// Defects of this layer.
    pub defects: u64,
    /// Notes on this layer.
    pub notes: u64,
}

/// Verifies layer files, bottom first, as layers and as a stack.
///
/// `found` is told each finding when it is made; `progress` bytes of files that are done.
pub fn check<P: AsRef<Path>>(
    paths: &[P],
    jobs: usize,
    found: &mut dyn FnMut(&Finding),
    progress: &mut dyn FnMut(u64),
) -> Report {
    let mut all = Vec::new();
    let mut layers = Vec::new();
    let mut metadata = Vec::new();
    let mut done = 0;
    for (number, path) in paths.iter().enumerate() {
        let path = path.as_ref();
        let mut findings = Findings::new(Some((number, path)), found);
        let mut report = LayerReport {
            file: path.display().to_string(),
            ..LayerReport::default()
        };
        let lsmt = check_layer(path, jobs, &mut report, &mut findings, &mut |bytes| {
            progress(done + bytes);
        });
        done += report.file_size;
        progress(done);
        (report.defects, report.notes) = findings.counts();
        all.extend(findings.into_list());
        layers.push(report);
        metadata.push(lsmt);
    }
    let mut findings = Findings::new(None, found);
    let sound = layers.iter().all(|layer| layer.defects == 0);
    check_stack(paths, &metadata, sound, &mut findings);
    let (mut defects, mut notes) = findings.counts();
    all.extend(findings.into_list());
    for layer in &layers {
        defects += layer.defects;
        notes += layer.notes;
    }
    Report {
        ok: defects == 0,
        defects,
        notes,
        layers,
        findings: all,
    }
}

impl Report {
    /// The report as JSON, in lines.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// A failure that ends the check of a layer.
fn fatal(error: ReadError, findings: &mut Findings<'_>) {
    match error {
        ReadError::Format(error) => findings.rule(error),
        ReadError::Io(offset, error) => {
            findings.extra(Extra::Unreadable, "file", offset, error.to_string());
        }
    }
}

fn check_layer(
    path: &Path,
    jobs: usize,
    report: &mut LayerReport,
    findings: &mut Findings<'_>,
    progress: &mut dyn FnMut(u64),
) -> Option<Lsmt> {
    let backing = match Backing::open(path) {
        Ok(backing) => backing,
        Err(Error::Io { action, error, .. }) => {
            let why = format!("{action}: {error}");
            findings.extra(Extra::Unreadable, "file", 0, why);
            return None;
        }
        Err(Error::Unfit { reason, .. }) => {
            findings.extra(Extra::Unreadable, "file", 0, reason);
            return None;
        }
        Err(error) => {
            findings.extra(Extra::Unreadable, "file", 0, error.to_string());
            return None;
        }
    };
    report.file_size = backing.size();
    let checked = tar::unwrap(backing).and_then(|(wrapper, payload)| {
        check_wrapper(wrapper, &payload, findings)?;
        let zfile = zfile::inspect(&payload, &Crc, |error| {
            findings.rule(error);
            Ok(())
        })?;
        let located = match zfile {
            None => Located::plain(&payload),
            Some(zfile) => {
                check_ends(&payload, &zfile, findings)?;
                Located::load(&payload, zfile, findings)?
            }
        };
        check_blocks(&located, jobs, report, findings, progress)?;
        records::check_records(&located, report, findings)
    });
    match checked {
        Ok(lsmt) => lsmt,
        Err(error) => {
            fatal(error, findings);
            None
        }
    }
}

/// The end of a tar archive, and what its two sizes say.
fn check_wrapper(
    wrapper: Wrapper,
    payload: &Window<Backing>,
    findings: &mut Findings<'_>,
) -> Result<(), ReadError> {
    const BLOCK: u64 = tar::BLOCK as u64;
    if wrapper == Wrapper::None {
        return Ok(());
    }
    let file = payload.inner();
    if wrapper == Wrapper::Pax {
        let mut field = [0; 12];
        let at = 2 * BLOCK + 124;
        file.read_exact_at(at, &mut field)?;
        let text = String::from_utf8_lossy(&field);
        let digits = text.trim_matches(|c: char| c == '\0' || c == ' ');
        // Upstream's tools leave a 0 there.
        match u64::from_str_radix(digits, 8) {
            Ok(size) if size != 0 && size != payload.size() => {
                findings.extra(Extra::TarSizesDiffer, "tar", at, size.to_string());
            }
            _ => {}
        }
    }
    let end = payload.offset() + payload.size();
    let padding = end.next_multiple_of(BLOCK) - end;
    let mut rest = vec![0; (padding + 2 * BLOCK) as usize];
    let there = (file.size() - end).min(rest.len() as u64) as usize;
    file.read_exact_at(end, &mut rest[..there])?;
    if there < rest.len() || rest.iter().any(|&byte| byte != 0) {
        findings.extra(Extra::TarEnd, "tar", end, there.to_string());
    }
    Ok(())
}

/// The trailer of a ZFile whose header was overwritten says the same as the header.
fn check_ends(
    payload: &Window<Backing>,
    zfile: &ZFile,
    findings: &mut Findings<'_>,
) -> Result<(), ReadError> {
    if zfile.index_crc.is_none() {
        findings.extra(Extra::NoDigest, "zfile", 0, String::new());
    }
    if !zfile.block_crc && zfile.blocks() != 0 {
        findings.extra(Extra::NoBlockChecksums, "zfile", 88, "0".into());
    }
    if !zfile.from_header {
        return Ok(());
    }
    let table_end = zfile.index_offset + 4 * zfile.entries;
    let fits = |at: &u64| *at >= table_end;
    let last = payload.size().checked_sub(zfile::HEADER_BYTES);
    let Some(last) = last.filter(fits) else {
        findings.extra(Extra::NoTrailer, "zfile", payload.size(), String::new());
        return Ok(());
    };
    let header = Header::read(payload, 0)?;
    // It usually follows the table; otherwise it stands at the end.
    let mut at = table_end;
    let mut trailer = Header::read(payload, at)?;
    if !trailer.has_magic() {
        let Some(found) = zfile::find_trailer(payload)?.filter(fits) else {
            findings.extra(Extra::NoTrailer, "zfile", last, String::new());
            return Ok(());
        };
        at = found;
        trailer = Header::read(payload, at)?;
    }
    if let Err(error) = trailer.check_digest(&Crc, at) {
        findings.rule(error);
    }
    let flags = trailer.flags.get();
    let wanted = zfile::FLAG_DATA_FILE | zfile::FLAG_SEALED;
    if flags & (wanted | zfile::FLAG_HEADER) != wanted {
        findings.rule(vbd_format::Error::new(
            Rule::ZFileTrailerFlags,
            at + 32,
            flags,
        ));
    }
    let numbers = |h: &Header| {
        [
            (40, h.index_offset.get()),
            (48, h.index_size.get()),
            (56, h.original_file_size.get()),
            (64, u64::from(h.index_crc.get())),
            (72, u64::from(h.block_size.get())),
            (76, u64::from(h.algo)),
            (84, u64::from(h.dict_size.get())),
            (88, u64::from(h.verify)),
        ]
    };
    for ((field, header), (_, trailer)) in numbers(&header).into_iter().zip(numbers(&trailer)) {
        if header != trailer {
            let found = format!("{trailer}, {header} in the header");
            findings.extra(Extra::TrailerDiffers, "zfile", at + field, found);
        }
    }
    Ok(())
}

/// What the layers are together.
fn check_stack<P: AsRef<Path>>(
    paths: &[P],
    layers: &[Option<Lsmt>],
    sound: bool,
    findings: &mut Findings<'_>,
) {
    if paths.len() > MAX_LAYERS {
        let count = paths.len() as u64;
        findings.rule(vbd_format::Error::new(Rule::StackLayers, 0, count));
        return;
    }
    let known: Vec<(usize, &Lsmt)> = layers
        .iter()
        .enumerate()
        .filter_map(|(number, lsmt)| Some((number, lsmt.as_ref()?)))
        .collect();
    let size = known
        .iter()
        .rev()
        .map(|(_, lsmt)| lsmt.virtual_size)
        .find(|&size| size != 0)
        .unwrap_or(0);
    for &(number, lsmt) in &known {
        if lsmt.virtual_size != 0 && lsmt.virtual_size != size {
            let found = format!(
                "layer {number}: {}, the stack's is {size}",
                lsmt.virtual_size
            );
            findings.extra(Extra::SizesDiffer, "stack", 0, found);
        }
    }
    for pair in known.windows(2) {
        let [(below, lower), (number, upper)] = pair else {
            continue;
        };
        let parent = upper.trailer.parent_uuid;
        let none = [UUID_NONE, [0; 37]];
        if below + 1 == *number && !none.contains(&parent) && parent != lower.trailer.uuid {
            let text = String::from_utf8_lossy(&parent);
            let found = format!("layer {number}: {}", text.trim_end_matches('\0'));
            findings.extra(Extra::ParentDiffers, "stack", 0, found);
        }
    }
    if sound {
        // Merging finds what only the whole stack can break.
        match Stack::open(paths) {
            Err(Error::Stack(error) | Error::Format { error, .. }) => findings.rule(error),
            Err(error) => {
                findings.extra(Extra::Unreadable, "stack", 0, error.to_string());
            }
            Ok(_) => {}
        }
    }
}
