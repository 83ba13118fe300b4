// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Every block of a ZFile, on all processors; every byte of a layer that is not compressed.

use super::findings::{Extra, Findings};
use super::table::{Located, Places};
use super::LayerReport;
use crate::error::ReadError;
use crate::image::codec::{Crc, Decoders};
use crate::image::parallel::in_order;
use std::ops::ControlFlow;
use vbd_format::zfile::{check_lz4, unpack, Algorithm, Stored, ZFile};
use vbd_format::{Error, ReadAt as _, Rule, Window};

/// Stored bytes that are read at once.
const FETCH: usize = 256 * 1024;

/// What a worker makes of adjacent blocks.
struct Verified {
    blocks: u64,
    bytes: u64,
    /// Byte of the file up to which all is done.
    end: u64,
    defects: Vec<ReadError>,
}

/// Memory of a worker.
#[derive(Default)]
struct Memory {
    decoders: Decoders,
    stored: Vec<u8>,
    decoded: Vec<u8>,
}

/// Decodes every block that the jump table locates, and reads all of what is not compressed.
pub(super) fn check_blocks(
    located: &Located<'_>,
    jobs: usize,
    report: &mut LayerReport,
    findings: &mut Findings<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), ReadError> {
    let payload = located.payload;
    let mut failed = None;
    let mut runs = Runs::new(located);
    let zfile = located.zfile;
    let walked = in_order(
        jobs,
        Memory::default,
        |memory, run: Places| verify(payload, zfile.as_ref(), &run, memory),
        || {
            runs.next().or_else(|error| {
                failed = Some(error);
                Ok(None)
            })
        },
        |verified: Verified| {
            report.blocks += verified.blocks;
            report.block_bytes += verified.bytes;
            for defect in verified.defects {
                super::fatal(defect, findings);
            }
            progress(verified.end);
            Ok(ControlFlow::Continue(()))
        },
    );
    // Neither tasks nor sink fail.
    debug_assert!(matches!(walked, Ok(())), "{walked:?}");
    if let Some(error) = failed {
        return Err(error);
    }
    if let Some(zfile) = zfile {
        let hidden = zfile.blocks() - report.blocks;
        if hidden != 0 {
            let at = zfile.index_offset;
            findings.extra(Extra::NotLocated, "zfile", at, hidden.to_string());
        }
    }
    Ok(())
}

/// Groups of adjacent blocks that one read fetches.
struct Runs<'a> {
    pieces: Box<dyn Iterator<Item = Result<Places, ReadError>> + 'a>,
    piece: std::vec::IntoIter<(u64, Stored)>,
    ahead: Option<(u64, Stored)>,
    /// The next byte of a payload without blocks, and its end.
    plain: (u64, u64),
}

impl<'a> Runs<'a> {
    fn new(located: &'a Located<'_>) -> Self {
        let plain = match located.zfile {
            Some(_) => (0, 0),
            None => (0, located.payload.size()),
        };
        Self {
            pieces: Box::new(located.pieces()),
            piece: Vec::new().into_iter(),
            ahead: None,
            plain,
        }
    }

    fn next_place(&mut self) -> Result<Option<(u64, Stored)>, ReadError> {
        loop {
            if let Some(place) = self.ahead.take().or_else(|| self.piece.next()) {
                return Ok(Some(place));
            }
            match self.pieces.next() {
                None => return Ok(None),
                Some(piece) => self.piece = piece?.into_iter(),
            }
        }
    }

    fn next(&mut self) -> Result<Option<Places>, ReadError> {
        let (at, end) = self.plain;
        if at < end {
            let len = (end - at).min(FETCH as u64);
            self.plain.0 += len;
            let len = len as usize;
            return Ok(Some(vec![(0, Stored { offset: at, len })]));
        }
        let mut run = Places::new();
        let mut bytes = 0;
        while let Some((block, stored)) = self.next_place()? {
            let adjacent = run
                .last()
                .is_none_or(|(_, last)| last.offset + last.len as u64 == stored.offset);
            if !adjacent || bytes + stored.len > FETCH && !run.is_empty() {
                self.ahead = Some((block, stored));
                break;
            }
            bytes += stored.len;
            run.push((block, stored));
        }
        Ok((!run.is_empty()).then_some(run))
    }
}

fn verify<S>(
    payload: &Window<S>,
    zfile: Option<&ZFile>,
    run: &[(u64, Stored)],
    memory: &mut Memory,
) -> Verified
where
    S: vbd_format::ReadAt<Error = ReadError>,
{
    let mut verified = Verified {
        blocks: 0,
        bytes: 0,
        end: payload.offset(),
        defects: Vec::new(),
    };
    let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) else {
        return verified;
    };
    let len = (last.offset - first.offset) as usize + last.len;
    verified.end += last.offset + last.len as u64;
    verified.bytes = len as u64;
    memory.stored.resize(len.max(memory.stored.len()), 0);
    let bytes = &mut memory.stored[..len];
    if let Err(error) = payload.read_exact_at(first.offset, bytes) {
        verified.defects.push(error);
        verified.blocks = zfile.map_or(0, |_| run.len() as u64);
        return verified;
    }
    let Some(zfile) = zfile else {
        return verified;
    };
    for (block, stored) in run {
        let at = (stored.offset - first.offset) as usize;
        let packed = &bytes[at..at + stored.len];
        memory.decoded.resize(zfile.decoded_len(*block), 0);
        let result = unpack(
            zfile,
            &Crc,
            &mut memory.decoders,
            true,
            packed,
            memory.decoded.as_mut_slice(),
        )
        .and_then(|()| strictly(zfile, packed, memory.decoded.len()));
        if let Err(rule) = result {
            let error = Error::new(rule, stored.offset, *block);
            verified.defects.push(ReadError::Format(error));
        }
        verified.blocks += 1;
    }
    verified
}

/// What decoders let pass.
fn strictly(zfile: &ZFile, packed: &[u8], decoded: usize) -> Result<(), Rule> {
    match zfile.algorithm {
        Algorithm::Lz4 => check_lz4(&packed[..packed.len() - zfile.crc_bytes()], decoded),
        Algorithm::Zstd => Ok(()),
    }
}
