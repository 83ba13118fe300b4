// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Stacks in all forms, opened and read by both readers.

use crate::image::file;
use crate::input::Input;
use vbd_tests_host::compare::agrees_on;

/// Layers at most.
const LAYERS: usize = 4;
/// Sectors that are compared.
const SECTORS: u64 = 64;

/// Number of layers, and each of them; what is left cuts the last file or changes it.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut files: Vec<Vec<u8>> = Vec::new();
    for _ in 0..1 + input.below(LAYERS) {
        files.push(file(&mut input));
        if input.is_empty() {
            break;
        }
    }
    let last = files.last_mut().expect("a file");
    match input.byte() {
        0 => (),
        1 => last.truncate(last.len().saturating_sub(input.short() as usize)),
        bits => {
            let at = input.short() as usize % last.len().max(1);
            if let Some(byte) = last.get_mut(at) {
                *byte ^= bits;
            }
        }
    }
    agrees_on(&files, SECTORS).unwrap_or_else(|how| panic!("{how}"));
}
