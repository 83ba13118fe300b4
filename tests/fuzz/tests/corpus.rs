// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Every input that fuzzing found worth keeping, and all seeds, once more through their targets.

use std::path::Path;
use vbd_fuzz::{pack, seeds, TARGETS};

#[test]
fn the_corpus_finds_nothing() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut bytes = 0;
    for target in TARGETS {
        let inputs = pack::read(&directory.join(format!("{}.pack", target.name))).unwrap();
        assert!(
            inputs.len() > 20,
            "{}: {} inputs",
            target.name,
            inputs.len()
        );
        for input in &inputs {
            assert!(input.len() <= target.max_len, "{}", target.name);
            bytes += input.len() + 4;
            (target.run)(input);
        }
    }
    assert!(bytes < 1 << 20, "a corpus of {bytes} bytes");
}

#[test]
fn seeds_find_nothing() {
    for target in TARGETS {
        let seeds = seeds(target.name, None).unwrap();
        assert!(seeds.len() > 20, "{}: {} seeds", target.name, seeds.len());
        for seed in seeds {
            (target.run)(&seed);
        }
    }
}
