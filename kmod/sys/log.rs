// SPDX-License-Identifier: GPL-2.0

//! Rate limit of messages that image data can cause.
//!
//! C header: `include/linux/ratelimit.h`.

use super::generated;

/// Whether a message about bad data may be printed now: 10 in 5 seconds, for the whole module.
pub(crate) fn allowed() -> bool {
    // SAFETY: The function takes no arguments and may be called from any context.
    unsafe { generated::vbd_log_allowed() }
}
