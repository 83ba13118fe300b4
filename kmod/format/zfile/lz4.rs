// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The sequences of an LZ4 block, followed without decoding.

use super::super::error::Rule;

/// Shortest match.
const MIN_MATCH: usize = 4;

/// Checks that an LZ4 block defines all of its output, which is `decoded` bytes long.
///
/// Decoders let a match of distance 0 pass, which copies the output onto itself: what a reader then
/// hands out depends on what stood in its memory. This finds it, and whatever makes a decoder fail.
pub fn check_lz4(block: &[u8], decoded: usize) -> Result<(), Rule> {
    let mut input = block.iter().copied();
    let mut output = 0usize;
    loop {
        let token = input.next().ok_or(Rule::ZFileBlockDecode)?;
        let literals = length(token >> 4, &mut input)?;
        output = output.saturating_add(literals);
        if let Some(last) = literals.checked_sub(1) {
            input.nth(last).ok_or(Rule::ZFileBlockDecode)?;
        }
        // The last sequence is literals alone.
        let Some(low) = input.next() else {
            break;
        };
        let high = input.next().ok_or(Rule::ZFileBlockDecode)?;
        let distance = usize::from(u16::from_le_bytes([low, high]));
        if distance == 0 || distance > output {
            return Err(Rule::ZFileBlockUndefined);
        }
        let copied = length(token & 15, &mut input)?.saturating_add(MIN_MATCH);
        output = output.saturating_add(copied);
        if output > decoded {
            return Err(Rule::ZFileBlockDecode);
        }
    }
    if output == decoded {
        Ok(())
    } else {
        Err(Rule::ZFileBlockLength)
    }
}

/// A length of four bits and, if they are all set, the bytes that add to it.
fn length(bits: u8, input: &mut impl Iterator<Item = u8>) -> Result<usize, Rule> {
    let mut length = usize::from(bits);
    if bits == 15 {
        loop {
            let more = input.next().ok_or(Rule::ZFileBlockDecode)?;
            length = length.saturating_add(usize::from(more));
            if more != 255 {
                break;
            }
        }
    }
    Ok(length)
}
