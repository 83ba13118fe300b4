// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Whatever the bytes: opening does not panic and does not read outside the file, and what was
//! opened can be read, but for blocks whose own checks fail.

mod mutate;

use mutate::mutate;
use std::cell::Cell;
use std::collections::BTreeMap;
use vbd_format::lsmt::part_end;
use vbd_format::{ReadAt as _, Rule};
use vbd_tests_host::images::{self, good, Image};
use vbd_tests_host::mem::{Failing, Failure, Mem};
use vbd_tests_host::open::{layer, Payload, Stack};
use vbd_tests_host::rng::Rng;

/// Rules that opening must not report: they mean that a place was not checked before it was read.
const READ_UNCHECKED: [Rule; 3] = [
    Rule::WindowBounds,
    Rule::ZFileReadBounds,
    Rule::ZFileTableMemory,
];

/// Rules that reading an accepted stack may report: the stored bytes of a block are wrong.
const BLOCK: [Rule; 3] = [
    Rule::ZFileBlockCrc,
    Rule::ZFileBlockDecode,
    Rule::ZFileBlockLength,
];

/// Opens `files` as a stack and reads all of it that has an address; says which rule refused it.
fn exercise(files: Vec<Vec<u8>>) -> Option<Rule> {
    let count = files.len();
    let stack = match Stack::open(files.into_iter().map(Mem)) {
        Err(error) => {
            assert!(!READ_UNCHECKED.contains(&error.rule), "{error}");
            assert!(!error.to_string().is_empty());
            if BLOCK.contains(&error.rule) {
                // Header, trailer or index of the layer lie in blocks themselves.
                assert!(error.layer.is_some());
            }
            return Some(error.rule);
        }
        Ok(stack) => stack,
    };
    let mut places = vec![0, stack.virtual_size.saturating_sub(1000)];
    for segment in stack.index.iter().take(300) {
        assert!(usize::from(segment.tag()) < count);
        places.push((segment.offset() * 512).saturating_sub(700));
        places.push((segment.end() * 512).saturating_sub(700));
    }
    let mut buf = vec![0; 1500];
    for start in places {
        if let Err(error) = stack.read(start, &mut buf) {
            assert!(BLOCK.contains(&error.rule), "{error}");
            assert!(error.layer.is_some());
        }
        let next = part_end(
            stack.index(),
            start & !511,
            (start & !511) + 65536,
            512,
            |layer| match &stack.layers[usize::from(layer)].payload {
                Payload::Plain(_) => None,
                Payload::Packed(_, zfile, _) => Some(zfile.block_size),
            },
        );
        assert!(next > start & !511);
    }
    None
}

/// Counts by outcome, so that a test can tell that it tested something.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, u32>);

impl Tally {
    fn add(&mut self, outcome: Option<Rule>) {
        *self
            .0
            .entry(outcome.map_or("accepted", Rule::name))
            .or_default() += 1;
    }

    fn count(&self, name: &str) -> u32 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

#[test]
fn good_images_are_good() {
    for image in good() {
        let stack = Stack::open([Mem(image.file.clone())]).expect(image.name);
        let mut disk = vec![0xee; stack.virtual_size as usize];
        stack.read(0, &mut disk).expect(image.name);
        assert!(disk == images::disk(), "{}", image.name);
        assert_eq!(exercise(vec![image.file]), None);
    }
}

#[test]
fn mutated_images() {
    let mut tally = Tally::default();
    for (i, image) in good().iter().enumerate() {
        let mut rng = Rng(0x5eed_0000 + i as u64);
        for _ in 0..1500 {
            tally.add(exercise(vec![mutate(image, &mut rng)]));
        }
    }
    assert!(tally.count("accepted") > 1000, "{:?}", tally.0);
    assert!(tally.0.len() > 20, "few rules were met: {:?}", tally.0);
}

#[test]
fn mutated_stacks() {
    let images = good();
    let mut rng = Rng(77);
    let mut tally = Tally::default();
    for _ in 0..400 {
        let files = (0..1 + rng.below(5))
            .map(|_| {
                let image = &images[rng.below(images.len() as u64) as usize];
                if rng.below(4) == 0 {
                    mutate(image, &mut rng)
                } else {
                    image.file.clone()
                }
            })
            .collect();
        tally.add(exercise(files));
    }
    assert!(tally.count("accepted") > 100, "{:?}", tally.0);
}

#[test]
fn every_truncation() {
    for Image { name, file, .. } in good() {
        let zfile_without_trailer = name.contains("overwritten");
        for len in 0..file.len() {
            // Every byte near the ends, and every 13th between.
            if len > 2500 && len + 2500 < file.len() && len % 13 != 0 {
                continue;
            }
            let outcome = exercise(vec![file[..len].to_vec()]);
            let trailer = zfile_without_trailer && file.len() - len <= images::tail(name);
            let padding = file.len() - len <= images::padding(name, &file);
            assert_eq!(
                outcome.is_none(),
                trailer || padding,
                "{name}: {len} {outcome:?}"
            );
        }
    }
}

#[test]
fn every_byte_of_the_structures() {
    for Image {
        name,
        file,
        structures,
    } in good()
    {
        let mut tally = Tally::default();
        // With digests nothing goes unnoticed but a change of a trailer that does not count.
        let digests = !name.contains("plain") && !name.contains("old");
        let trailer = structures[1].end - 112;
        for at in structures.into_iter().flatten() {
            let counts = at < trailer || !name.contains("overwritten");
            let noticed = digests && at >= images::payload_at(name) && counts;
            for change in [|_| 0xff, |b| b ^ 1, |b: u8| b.wrapping_sub(1)] {
                let mut file = file.clone();
                let new = change(file[at]);
                if new == file[at] {
                    continue;
                }
                file[at] = new;
                let outcome = exercise(vec![file]);
                assert!(outcome.is_some() || !noticed, "{name}: byte {at}");
                tally.add(outcome);
            }
        }
        assert!(tally.0.len() > 4, "{name}: {:?}", tally.0);
        assert_eq!(
            tally.count("accepted") == 0,
            name == "zstd trailer",
            "{name}"
        );
    }
}

#[test]
fn random_bytes() {
    let mut rng = Rng(4711);
    let starts: Vec<Vec<u8>> = good()
        .iter()
        .flat_map(|image| {
            [8, 24, 512, 1536, 4096].map(|n| image.file[..n.min(image.file.len())].to_vec())
        })
        .chain([Vec::new()])
        .collect();
    let mut tally = Tally::default();
    for _ in 0..3000 {
        let mut file = starts[rng.below(starts.len() as u64) as usize].clone();
        let len = rng.below(20_000) as usize;
        file.extend(rng.noise(len));
        tally.add(exercise(vec![file]));
    }
    assert!(tally.0.len() > 5, "{:?}", tally.0);
}

#[test]
fn read_errors_are_handed_on() {
    for Image { name, file, .. } in good() {
        let open = |reads| {
            layer(Failing {
                inner: Mem(file.clone()),
                left: Cell::new(reads),
            })
        };
        let needed = (0..).find(|&reads| open(reads).is_ok()).expect("an end");
        assert!(needed >= 4, "{name}: {needed} reads");
        for reads in 0..needed {
            let failure = open(reads).expect_err("a failed read");
            assert_eq!(failure, Failure::Io, "{name} after {reads} reads");
        }
        // The same for data: one read more is needed.
        let opened = open(needed).expect(name);
        let failure = opened.payload.read_exact_at(4096, &mut [0; 512]);
        assert_eq!(failure, Err(Failure::Io), "{name}");
    }
}

#[test]
fn a_refusal_reaches_the_caller_as_its_own_error() {
    let source = Failing {
        inner: Mem(vec![0; 9000]),
        left: Cell::new(100),
    };
    let Err(Failure::Format(error)) = layer(source) else {
        panic!("not refused");
    };
    assert_eq!(error.rule, Rule::LsmtHeaderMagic);
}
