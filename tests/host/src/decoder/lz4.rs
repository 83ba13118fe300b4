// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! LZ4 blocks, sequence by sequence.

/// What an LZ4 block comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// These bytes, by every decoder.
    Exact(Vec<u8>),
    /// These bytes, or nothing: the block ends in a way that no writer may make it end.
    Loose(Vec<u8>),
    /// As many bytes as wanted, or nothing; which ones is not defined.
    Undefined,
    /// Nothing.
    Bad,
}

/// Bytes at a block's end that are literals.
const LAST_LITERALS: usize = 5;
/// Bytes before a block's end where the last match begins at the latest.
const LAST_MATCH: usize = 12;

/// Decodes a block that has to be `wanted` bytes long.
pub(super) fn decode(block: &[u8], wanted: usize) -> Decoded {
    let mut out: Vec<u8> = Vec::with_capacity(wanted);
    let mut at = 0;
    let (mut loose, mut undefined) = (false, false);
    loop {
        let Some(&token) = block.get(at) else {
            return Decoded::Bad;
        };
        at += 1;
        let Some(literals) = length(block, &mut at, token >> 4) else {
            return Decoded::Bad;
        };
        let Some(bytes) = block.get(at..at + literals) else {
            return Decoded::Bad;
        };
        out.extend_from_slice(bytes);
        at += literals;
        if out.len() > wanted {
            return Decoded::Bad;
        }
        if at == block.len() {
            break;
        }
        loose |= out.len() + LAST_MATCH > wanted || block.len() - at < 3 + LAST_LITERALS;
        let Some(distance) = block.get(at..at + 2) else {
            return Decoded::Bad;
        };
        let distance = usize::from(u16::from_le_bytes([distance[0], distance[1]]));
        at += 2;
        let Some(more) = length(block, &mut at, token & 15) else {
            return Decoded::Bad;
        };
        let copied = more + 4;
        if distance > out.len() || out.len() + copied > wanted {
            return Decoded::Bad;
        }
        undefined |= distance == 0;
        loose |= out.len() + copied + LAST_LITERALS > wanted;
        for _ in 0..copied {
            let byte = if distance == 0 {
                0
            } else {
                out[out.len() - distance]
            };
            out.push(byte);
        }
    }
    match out.len() == wanted {
        false => Decoded::Bad,
        true if undefined => Decoded::Undefined,
        true if loose => Decoded::Loose(out),
        true => Decoded::Exact(out),
    }
}

/// A length of four bits, and of the bytes that follow if these are all set.
fn length(block: &[u8], at: &mut usize, bits: u8) -> Option<usize> {
    let mut length = usize::from(bits);
    if bits == 15 {
        loop {
            let more = *block.get(*at)?;
            *at += 1;
            length += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_each_kind() {
        let literals = |n: u8| [&[n << 4], &vec![7; usize::from(n)][..]].concat();
        assert_eq!(decode(&literals(9), 9), Decoded::Exact(vec![7; 9]));
        assert_eq!(decode(&literals(9), 10), Decoded::Bad);
        assert_eq!(decode(&literals(9), 8), Decoded::Bad);
        assert_eq!(decode(&[], 1), Decoded::Bad);
        // One literal, a match of eight at distance 1, and literals.
        let with_match = |distance: u8, last: u8| {
            let mut block = vec![0x14, 7, distance, 0];
            block.extend(literals(last));
            block
        };
        assert_eq!(decode(&with_match(1, 9), 18), Decoded::Exact(vec![7; 18]));
        assert_eq!(decode(&with_match(1, 4), 13), Decoded::Loose(vec![7; 13]));
        assert_eq!(decode(&with_match(0, 9), 18), Decoded::Undefined);
        assert_eq!(decode(&with_match(2, 9), 18), Decoded::Bad);
    }
}
