// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! LSMT layers: header, trailer and index as they come, by both readers.

use crate::input::Input;
use vbd_format::lsmt::inspect;
use vbd_tests_host::compare::agrees_on;
use vbd_tests_host::mem::Mem;

/// Bytes of header and trailer that mean something, besides texts.
const USED: usize = 56;
/// Sectors that are compared.
const SECTORS: u64 = 64;

/// Header, trailer, sectors of data; then what is between data and trailer.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let header: [u8; USED] = input.array();
    let trailer: [u8; USED] = input.array();
    let sectors = input.below(12);
    let mut file = vec![0; 4096];
    file[..USED].copy_from_slice(&header);
    for sector in 0..sectors {
        file.resize(file.len() + 512, sector as u8 + 1);
    }
    file.extend_from_slice(input.rest());
    let end = file.len();
    file.resize(end + 4096, 0);
    file[end..end + USED].copy_from_slice(&trailer);
    let _ = inspect(&Mem(file.clone()), |_| Ok(()));
    agrees_on(&[file], SECTORS).unwrap_or_else(|how| panic!("{how}"));
}
