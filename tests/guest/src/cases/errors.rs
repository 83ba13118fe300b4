// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Bad input: files that are no layers, layers that contradict themselves, blocks that are damaged,
//! storage that fails.

pub(super) mod blocks;
pub(super) mod files;
pub(super) mod joined;
pub(super) mod lines;
pub(super) mod metadata;
pub(super) mod neighbours;
pub(super) mod stacked;
pub(super) mod storage;
pub(super) mod truncation;

use super::support::device::{backfile, Module, DEVICE};
use super::support::kmsg::Log;
use super::support::read;
use super::support::scratch::Scratch;
use crate::modules;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use vbd_tests_host::lsmt::{numbered, Record, Spec};

/// Says what a failed attach has to say: one line at the level of errors, and no other. A `*` in it
/// stands for a number.
#[track_caller]
fn refused(parameters: &str, errno: Errno, line: &str) {
    let log = Log::mark();
    let result = Module::try_load(parameters);
    let said = log.errors();
    match result {
        Ok(_module) => panic!("insmod vbd.ko {parameters} succeeded, without: {line}"),
        Err(found) => assert_eq!(found, errno, "insmod vbd.ko {parameters}: {said:#?}"),
    }
    let [text] = said.as_slice() else {
        panic!("not one error in the log but {}: {said:#?}", said.len());
    };
    assert!(
        matches(text, &format!("vbd: {line}")),
        "{text:?} is not {line:?}"
    );
    assert!(!modules::is_loaded("vbd"));
    assert!(
        !Path::new(DEVICE).exists(),
        "{DEVICE} after a failed insmod"
    );
}

fn matches(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((begin, end)) => {
            let rest = text.strip_prefix(begin);
            let number = rest.and_then(|rest| rest.strip_suffix(end));
            number.is_some_and(|number| number.parse::<u64>().is_ok())
        }
    }
}

/// A stack of three layers, of which the middle one can be replaced by a bad one.
struct Sandwich {
    scratch: Scratch,
    bottom: PathBuf,
    top: PathBuf,
}

impl Sandwich {
    fn new() -> Sandwich {
        let scratch = Scratch::new();
        let layer = |data, sector| Spec::new(32 * 512, data, &[Record::data(sector, 2, 8)]).build();
        let bottom = scratch.file("bottom", &layer(numbered(2), 0));
        let top = scratch.file("top", &layer(vec![0xee; 1024], 1));
        Sandwich {
            scratch,
            bottom,
            top,
        }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        self.scratch.file(name, content)
    }

    /// The stack with `middle` has to be refused, with a line about layer 1; and the stack without
    /// it is there at once.
    #[track_caller]
    fn refused(&self, middle: &Path, more: &str, errno: Errno, rule: &str) {
        let layers = [&*self.bottom, middle, &*self.top];
        let parameters = format!("{} {more}", backfile(&layers));
        let line = format!("layer 1 ({}): {rule}", middle.display());
        refused(&parameters, errno, &line);
    }

    /// The stack without a bad layer works.
    fn works(&self) {
        let module = Module::stack(&[&self.bottom, &self.top], "");
        let mut disk = vec![0; 32 * 512];
        disk[..512].fill(1);
        disk[512..1536].fill(0xee);
        read::check_all(DEVICE, &disk);
        module.unload();
    }
}
