// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The format core beside [`crate::decoder`], on any bytes.

use crate::decoder::{self, Outcome, Sector};
use crate::mem::Mem;
use crate::open::Stack;
use vbd_format::Rule;

/// Bytes of an index that [`crate::open`] takes at a time.
pub const CHUNK: usize = 4096;

/// Most sectors of a disk that are compared; of a larger one, those around records.
pub const MOST: u64 = 4096;

/// Sectors of a disk that are worth comparing.
pub fn sectors(stack: &decoder::Stack) -> Vec<u64> {
    let all = stack.virtual_size.div_ceil(512);
    if all <= MOST {
        (0..all).collect()
    } else {
        let mut edges = stack.edges();
        edges.truncate(MOST as usize);
        edges
    }
}

/// Opens and reads files in both ways; says what became of them, or how the ways differ.
pub fn agrees(files: &[Vec<u8>]) -> Result<&'static str, String> {
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
    compare(&got, stack)
}

fn compare(got: &Stack<Mem>, want: &decoder::Stack) -> Result<&'static str, String> {
    let mut outcome = "reads";
    for sector in sectors(want) {
        let mut bytes = vec![0xee; 512];
        let read = got.read(sector * 512, &mut bytes);
        let wanted = want.sector(sector);
        let good = match (&wanted, &read) {
            (Sector::Exact(want), Ok(())) => bytes == *want,
            (Sector::Perhaps(want), Ok(())) => bytes == *want,
            (Sector::Undefined, Ok(())) => true,
            (Sector::Bad, Ok(())) | (Sector::Exact(_), Err(_)) => false,
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
