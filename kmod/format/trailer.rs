// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Where the trailer of a padded file stands: before zeroes that fill the file up to whole sectors.

use super::limits::MAX_PADDING;
use super::source::ReadAt;

/// Bytes of a magic.
const MAGIC_BYTES: usize = 8;

/// Places that are looked at with one read.
const CHUNK: u64 = 256;

/// Memory for that: the magic at the last place ends behind it. Kernel stacks are small.
type Buffer = [u8; CHUNK as usize + MAGIC_BYTES - 1];

/// The byte at which a trailer of `bytes` bytes begins that has the magic `magic`, and that is
/// followed by at most [`MAX_PADDING`] bytes, all zero; [`None`] if there is none.
///
/// `bytes` is at least that of a magic. The trailer does not begin before byte `bytes`, where the
/// header ends.
// Not inlined: the buffer shall not lie on the stack while others read.
#[inline(never)]
pub(super) fn before_padding<S: ReadAt>(
    src: &S,
    magic: &[u8; MAGIC_BYTES],
    bytes: u64,
) -> Result<Option<u64>, S::Error> {
    let mut buf: Buffer = [0; CHUNK as usize + MAGIC_BYTES - 1];
    // Behind the last place to look at.
    let mut end = src.size().saturating_sub(bytes);
    let first = end.saturating_sub(MAX_PADDING).max(bytes);
    while end > first {
        let start = end.saturating_sub(CHUNK).max(first);
        // At most CHUNK, so it fits.
        let len = (end.saturating_sub(start) as usize).saturating_add(MAGIC_BYTES - 1);
        let part = buf.get_mut(..len).unwrap_or_default();
        src.read_exact_at(start, part)?;
        let found = part
            .windows(MAGIC_BYTES)
            .rposition(|window| window == magic);
        if let Some(place) = found {
            let at = start.saturating_add(place as u64);
            let zero = is_zero(src, at.saturating_add(bytes), &mut buf)?;
            return Ok(zero.then_some(at));
        }
        end = start;
    }
    Ok(None)
}

/// Whether all bytes from byte `at` are zero.
fn is_zero<S: ReadAt>(src: &S, mut at: u64, buf: &mut Buffer) -> Result<bool, S::Error> {
    while at < src.size() {
        let left = src.size().saturating_sub(at).min(CHUNK);
        let part = buf.get_mut(..left as usize).unwrap_or_default();
        src.read_exact_at(at, part)?;
        if part.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        at = at.saturating_add(left);
    }
    Ok(true)
}
