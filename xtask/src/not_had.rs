// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What cannot be had on this machine, which is no failure of ours and is never left out in silence.

/// Something that is looked for elsewhere and is not there: no failure of ours.
#[derive(Debug)]
pub(crate) struct NotHad(pub(crate) String);

impl NotHad {
    /// Exit status of a command that ends so, as automake's tests have it.
    pub(crate) const STATUS: u8 = 77;
}

impl std::fmt::Display for NotHad {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "NOT HAD: {}", self.0)
    }
}

impl std::error::Error for NotHad {}
