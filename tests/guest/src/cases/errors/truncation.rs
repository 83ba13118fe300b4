// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Layers that end early, wherever that is.

use super::super::support::device::{backfile, Module, DEVICE};
use super::super::support::kmsg::Log;
use super::super::support::scratch::Scratch;
use super::super::support::{content, layers, read};
use crate::case::Case;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::path::PathBuf;

pub(in super::super) const CASES: &[Case] =
    crate::cases::cases![cut_plain, cut_lz4, cut_zstd_trailer_only, cut_tar_archive];

/// Cuts a layer at many places: around all multiples of what formats count in near both ends, and
/// some in between. Each of these has to be refused with one line; the whole one works.
fn cut(options: &[&str], complete: impl Fn(usize) -> bool) {
    let scratch = Scratch::new();
    let disk = content::disk(110, 128 << 10);
    let layer = layers::create(&scratch, "layer", &disk, options);
    let whole = std::fs::read(&layer).expect("the layer");
    let size = whole.len();
    let around = |at: usize| [at.saturating_sub(1), at, at + 1];
    let mut places = BTreeSet::new();
    for unit in [512, 1536, 4096, 4096 + 512] {
        places.extend(around(unit));
        places.extend(around(size.saturating_sub(unit)));
    }
    places.extend((1..8).map(|part| size / 8 * part));
    places.extend([0, size - 1]);
    let mut cuts = 0;
    for place in places
        .into_iter()
        .filter(|&place| place < size && !complete(place))
    {
        let path: PathBuf = scratch.file("cut", &whole[..place]);
        let log = Log::mark();
        let result = Module::try_load(&backfile(&[&path]));
        let said = log.errors();
        let errno = result
            .err()
            .unwrap_or_else(|| panic!("cut at {place} of {size}: it loads"));
        let known = [
            Errno::INVAL,
            Errno::UCLEAN,
            Errno::BADMSG,
            Errno::OPNOTSUPP,
            Errno::FBIG,
        ];
        assert!(
            known.contains(&errno),
            "cut at {place} of {size}: {errno:?} {said:#?}"
        );
        let begin = format!("vbd: layer 0 ({}): ", path.display());
        let [line] = said.as_slice() else {
            panic!("cut at {place} of {size}: {said:#?}");
        };
        let rule = line.strip_prefix(&begin);
        let rule = rule.unwrap_or_else(|| panic!("cut at {place} of {size}: {line}"));
        let parts = ["tar offset ", "zfile offset ", "lsmt offset "];
        assert!(
            parts.iter().any(|part| rule.starts_with(part)),
            "cut at {place}: {line}"
        );
        cuts += 1;
    }
    assert!(cuts > 20, "{cuts} cuts");
    let module = Module::stack(&[layer], "");
    read::check_all(DEVICE, &disk);
    module.unload();
}

fn cut_plain() {
    cut(&["--format=plain"], |_| false);
}

/// The header has all numbers, and so the layer is complete without the trailer.
fn cut_lz4() {
    let scratch = Scratch::new();
    let disk = content::disk(110, 128 << 10);
    let layer = layers::create(&scratch, "layer", &disk, &["--format=lz4"]);
    let size = std::fs::metadata(layer).expect("the layer").len();
    let size = usize::try_from(size).unwrap();
    cut(&["--format=lz4"], |place| place >= size - 512);
}

fn cut_zstd_trailer_only() {
    cut(
        &["--format=zstd", "--trailer-only", "--block-size=16K"],
        |_| false,
    );
}

/// The archive's own end carries nothing: without it the layer is complete.
fn cut_tar_archive() {
    let scratch = Scratch::new();
    let disk = content::disk(110, 128 << 10);
    let options = ["--format=lz4", "--tar"];
    let layer = layers::create(&scratch, "layer", &disk, &options);
    let bytes = std::fs::read(layer).expect("the layer");
    // Upstream's own trailer magic ends 488 bytes before the payload does.
    let magic = bytes
        .windows(8)
        .rposition(|window| window == b"ZFile\0\x01\0");
    let payload_end = magic.expect("the trailer") + 512;
    cut(&options, |place| place >= payload_end);
    let path = scratch.file("cut", &bytes[..payload_end]);
    let module = Module::stack(&[path], "");
    read::check_all(DEVICE, &disk);
    module.unload();
}
