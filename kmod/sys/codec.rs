// SPDX-License-Identifier: GPL-2.0

//! The kernel's own decoders.
//!
//! C headers: `include/linux/lz4.h`, `include/linux/zstd.h`.

use super::generated;
use super::pages::Chunk;
use core::ptr::NonNull;
use kernel::prelude::*;

/// Decompresses a raw LZ4 block into `dst`; [`None`] if it is malformed or does not fit.
pub(crate) fn lz4_decompress(src: &[u8], dst: &mut Chunk<'_>) -> Option<usize> {
    let src_len = i32::try_from(src.len()).ok()?;
    let dst_len = i32::try_from(dst.len()).ok()?;
    // SAFETY: Both pointers are valid for the lengths given with them, which the decoder respects
    // whatever the input. Bytes of `dst` that change under it can only change what it decodes: no
    // offset or length is read from there.
    let len = unsafe {
        generated::LZ4_decompress_safe(src.as_ptr().cast(), dst.as_ptr().cast(), src_len, dst_len)
    };
    usize::try_from(len).ok()
}

/// Decompresses the first bytes of a raw LZ4 block, as many as `dst` takes; [`None`] if it is malformed
/// so far.
pub(crate) fn lz4_decompress_head(src: &[u8], dst: &mut Chunk<'_>) -> Option<usize> {
    let src_len = i32::try_from(src.len()).ok()?;
    let dst_len = i32::try_from(dst.len()).ok()?;
    // SAFETY: As for [`lz4_decompress`]; what is wanted and what there is room for are the same.
    let len = unsafe {
        let (src, dst) = (src.as_ptr().cast(), dst.as_ptr().cast());
        generated::LZ4_decompress_safe_partial(src, dst, src_len, dst_len, dst_len)
    };
    usize::try_from(len).ok()
}

/// A ZSTD decompression context.
///
/// # Invariants
///
/// `dctx` lies in `workspace`, which is large and aligned enough for it and is neither moved nor
/// freed before this is dropped.
pub(crate) struct Zstd {
    dctx: NonNull<generated::zstd_dctx>,
    _workspace: KVVec<u64>,
}

// SAFETY: The context is plain memory that belongs to this value alone.
unsafe impl Send for Zstd {}

impl Zstd {
    /// Allocates a context: about 160 KiB.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Computes a number.
        let bytes = unsafe { generated::zstd_dctx_workspace_bound() };
        let mut workspace = KVVec::from_elem(0u64, bytes.div_ceil(8), GFP_KERNEL)?;
        let room = workspace.len().saturating_mul(8);
        // SAFETY: The workspace is valid for writes of `room` bytes and aligned to 8.
        let dctx = unsafe { generated::zstd_init_dctx(workspace.as_mut_ptr().cast(), room) };
        // INVARIANT: The allocation of a vector stays in place while the vector is moved.
        Ok(Self {
            dctx: NonNull::new(dctx).ok_or(EINVAL)?,
            _workspace: workspace,
        })
    }

    /// Decompresses ZSTD frames into `dst`; [`None`] if they are malformed or do not fit.
    pub(crate) fn decompress(&mut self, src: &[u8], dst: &mut Chunk<'_>) -> Option<usize> {
        // SAFETY: The context is live by the type invariant, and `self` is borrowed exclusively.
        // Both pointers are valid for the lengths given with them, which the decoder respects.
        // Bytes of `dst` that change under it can only change what it decodes: literals may pass
        // through there, lengths and offsets live in the context.
        let len = unsafe {
            generated::zstd_decompress_dctx(
                self.dctx.as_ptr(),
                dst.as_ptr().cast(),
                dst.len(),
                src.as_ptr().cast(),
                src.len(),
            )
        };
        // SAFETY: Inspects a number.
        let failed = unsafe { generated::zstd_is_error(len) } != 0;
        (!failed).then_some(len)
    }
}
