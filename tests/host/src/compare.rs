// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The format core beside [`crate::decoder`], on any bytes.

use crate::decoder::{self, Outcome, Sector};
use crate::mem::Mem;
use crate::open::Stack;
use vbd_format::Rule;

/// Bytes of an index that [`crate::open`] takes at a time.
pub const CHUNK: usize = 4096;

/// Sectors of a disk that are compared in tests that do not run for ever.
pub const MOST: u64 = 4096;

/// Sectors of a disk that are worth comparing: all, or of a larger one those around records, and of
/// these at most `most`.
pub fn sectors(stack: &decoder::Stack, most: u64) -> Vec<u64> {
    let all = stack.virtual_size.div_ceil(512);
    if all <= most {
        (0..all).collect()
    } else {
        let mut edges = stack.edges();
        edges.truncate(most as usize);
        edges
    }
}

/// Opens and reads files in both ways; says what became of them, or how the ways differ.
pub fn agrees(files: &[Vec<u8>]) -> Result<&'static str, String> {
    agrees_on(files, MOST)
}

/// As [`agrees`], on at most so many sectors.
pub fn agrees_on(files: &[Vec<u8>], most: u64) -> Result<&'static str, String> {
    let wanted = decoder::open(files, CHUNK);
    let got = Stack::open(files.iter().cloned().map(Mem));
    let stack = match (&wanted, &got) {
        (Outcome::Undefined, _) => return Ok("undefined"),
        (Outcome::Refused(refusal), Err(error)) => {
            let named = error.layer.is_none() || error.layer == refusal.layer;
            return match refusal.has(*error) && named {
                true => Ok(error.rule.name()),
                false => Err(format!("{error}, and not one of {refusal:?}")),
            };
        }
        (Outcome::Refused(refusal), Ok(_)) => return Err(format!("opened, for {refusal:?}")),
        (Outcome::Open(stack), Err(error)) => {
            let plain = vbd_format::Error {
                layer: None,
                ..*error
            };
            return match stack.doubts.contains(&plain) {
                true => Ok("refused in doubt"),
                false => Err(format!("{error}, for a good stack")),
            };
        }
        (Outcome::Open(stack), Ok(_)) => stack,
    };
    let Ok(got) = got else {
        return Err("unreachable".into());
    };
    if got.virtual_size != stack.virtual_size {
        return Err(format!(
            "{} bytes, not {}",
            got.virtual_size, stack.virtual_size
        ));
    }
    compare(&got, stack, most)
}

/// Sectors that are read at once, as long as they can be.
const AT_ONCE: u64 = 8;

fn compare(got: &Stack<Mem>, want: &decoder::Stack, most: u64) -> Result<&'static str, String> {
    let mut outcome = "reads";
    let mut whole: Option<(u64, Vec<u8>)> = None;
    for sector in sectors(want, most) {
        let first = sector - sector % AT_ONCE;
        if whole.as_ref().is_none_or(|(place, _)| *place != first) {
            let mut bytes = vec![0xee; 512 * AT_ONCE as usize];
            let read = got.read(first * 512, &mut bytes);
            whole = read.is_ok().then_some((first, bytes));
        }
        let mut bytes = vec![0xee; 512];
        let read = match &whole {
            Some((first, whole)) => {
                bytes.copy_from_slice(&whole[512 * (sector - first) as usize..][..512]);
                Ok(())
            }
            None => got.read(sector * 512, &mut bytes),
        };
        let wanted = want.sector(sector);
        let good = match (&wanted, &read) {
            (Sector::Exact(want) | Sector::Perhaps(want), Ok(())) => bytes == *want,
            (Sector::Undefined, Ok(())) => true,
            (Sector::Bad | Sector::Head { .. }, Ok(())) | (Sector::Exact(_), Err(_)) => false,
            (_, Err(error)) => {
                outcome = "reads in part";
                BLOCK.contains(&error.rule) && error.layer.is_some()
            }
        };
        if !good {
            return Err(format!("sector {sector}: {read:?} for {wanted:?}"));
        }
    }
    Ok(outcome)
}

/// Rules that reading an accepted stack may report.
const BLOCK: [Rule; 3] = [
    Rule::ZFileBlockCrc,
    Rule::ZFileBlockDecode,
    Rule::ZFileBlockLength,
];
