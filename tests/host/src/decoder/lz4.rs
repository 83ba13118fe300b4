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
    /// Nothing, unless somebody wants the first bytes only, and stops there.
    Bad(Head),
}

/// How far a block can be decoded that cannot be decoded to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// These bytes come first.
    pub bytes: Vec<u8>,
    /// Whether a decoder may have more bytes, and which ones is not defined.
    pub open: bool,
}

/// Bytes at a block's end that are literals.
const LAST_LITERALS: usize = 5;
/// Bytes before a block's end where the last match begins at the latest.
const LAST_MATCH: usize = 12;

/// What has been found out of a block.
#[derive(Default)]
struct Found {
    out: Vec<u8>,
    loose: bool,
    /// Byte from which on the output is not defined.
    undefined: Option<usize>,
    /// Whether the input has ended in the length of literals. Decoders take the last bytes of the
    /// input for literals then, and see that these are too few only if they have to get to their end.
    open: bool,
}

/// Decodes a block that has to be `wanted` bytes long.
pub(super) fn decode(block: &[u8], wanted: usize) -> Decoded {
    let mut found = Found::default();
    let ended = found.follow(block, wanted).is_some();
    let Found {
        mut out,
        loose,
        undefined,
        open,
    } = found;
    if !ended || out.len() != wanted {
        out.truncate(wanted.min(undefined.unwrap_or(wanted)));
        let open = open || undefined.is_some();
        return Decoded::Bad(Head { bytes: out, open });
    }
    match (undefined, loose) {
        (Some(_), _) => Decoded::Undefined,
        (None, true) => Decoded::Loose(out),
        (None, false) => Decoded::Exact(out),
    }
}

impl Found {
    /// Follows the sequences to the end of the input; [`None`] where they make no sense.
    fn follow(&mut self, block: &[u8], wanted: usize) -> Option<()> {
        let mut at = 0;
        loop {
            let token = *block.get(at)?;
            at += 1;
            let literals = length(block, &mut at, token >> 4);
            self.open = literals.is_none();
            let literals = literals?;
            let there = &block[at..(at + literals).min(block.len())];
            self.out.extend_from_slice(there);
            at += literals;
            if at > block.len() || self.out.len() > wanted {
                return None;
            }
            if at == block.len() {
                return Some(());
            }
            let before = self.out.len();
            self.loose |= before + LAST_MATCH > wanted || block.len() - at < 3 + LAST_LITERALS;
            let distance = block.get(at..at + 2)?;
            let distance = usize::from(u16::from_le_bytes([distance[0], distance[1]]));
            at += 2;
            let copied = length(block, &mut at, token & 15)? + 4;
            if distance > before {
                return None;
            }
            if distance == 0 {
                self.undefined.get_or_insert(before);
            }
            self.loose |= before + copied + LAST_LITERALS > wanted;
            for _ in 0..copied.min(wanted - before) {
                let byte = match distance {
                    0 => 0,
                    _ => self.out[self.out.len() - distance],
                };
                self.out.push(byte);
            }
            if before + copied > wanted {
                return None;
            }
        }
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
        let bad = |n: usize, open| {
            let bytes = vec![7; n];
            Decoded::Bad(Head { bytes, open })
        };
        assert_eq!(decode(&literals(9), 9), Decoded::Exact(vec![7; 9]));
        assert_eq!(decode(&literals(9), 10), bad(9, false));
        assert_eq!(decode(&literals(9), 8), bad(8, false));
        assert_eq!(decode(&literals(9)[..6], 9), bad(5, false));
        assert_eq!(decode(&[], 1), bad(0, false));
        assert_eq!(decode(&[0xf0, 255, 255, 255], 99), bad(0, true));
        // One literal, a match of eight at distance 1, and literals.
        let with_match = |distance: u8, last: u8| {
            let mut block = vec![0x14, 7, distance, 0];
            block.extend(literals(last));
            block
        };
        assert_eq!(decode(&with_match(1, 9), 18), Decoded::Exact(vec![7; 18]));
        assert_eq!(decode(&with_match(1, 4), 13), Decoded::Loose(vec![7; 13]));
        assert_eq!(decode(&with_match(0, 9), 18), Decoded::Undefined);
        assert_eq!(decode(&with_match(2, 9), 18), bad(1, false));
        assert_eq!(decode(&with_match(1, 9), 6), bad(6, false));
        assert_eq!(decode(&with_match(0, 9), 19), bad(1, true));
    }
}
