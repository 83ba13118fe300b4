// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Suspending the machine to memory under a load that believes no block. To idle it cannot be suspended: the
//! emulated clock is no source of interrupts that end that.

use super::fio::{self, report};
use super::guest::{self, Check, Group, Judge, Needs, TOOLS};
use super::layers::Layers;
use super::Place;
use crate::test::steps::{Count, Step};
use anyhow::{ensure, Result};

/// How often the machine is suspended.
const ROUNDS: u32 = 2;

/// Reads through the cache and past it, for longer than the suspending takes.
const LOADS: [(&str, &str); 2] = [
    (
        "past the cache",
        "--direct=1 --ioengine=libaio --iodepth=16",
    ),
    ("through the cache", "--ioengine=psync --invalidate=1"),
];

pub(super) fn run(place: &Place, step: &Step) -> Result<Count> {
    let layers = Layers::new(place, step, "suspend")?;
    fio::write_text(place, &layers, step, "text")?;
    layers.create("text", "lz4", &["-f", "lz4"], &[])?;
    let group = Group {
        name: "lz4".into(),
        layers: vec!["lz4".into()],
        before: "true".into(),
        after: "true".into(),
        checks: LOADS.map(|(name, load)| check(name, load)).into(),
    };
    let needs = Needs {
        programs: &[fio::PROGRAM],
        ..Needs::default()
    };
    guest::run(place, &layers, step, needs, vec![group])
}

/// The clock wakes the machine three seconds after each time; fio then has to go on, and is ended.
fn check(name: &str, load: &str) -> Check {
    let verify = fio::verifying("/dev/vbd0");
    let text = format!(
        "echo deep >/sys/power/mem_sleep || exit 97; rm -f {TOOLS}/tmp/fio.json; \
         chroot {TOOLS} {fio} {verify} --rw=randread --bsrange=4k-64k --blockalign=4k --numjobs=2 --time_based \
         --runtime=600 {load} --output-format=json --output=/tmp/fio.json & fio=$!; sleep 1; \
         for round in $(seq {ROUNDS}); do \
         echo 0 >/sys/class/rtc/rtc0/wakealarm; echo +3 >/sys/class/rtc/rtc0/wakealarm; \
         echo mem >/sys/power/state || exit 98; \
         read reads rest </sys/block/vbd0/stat; \
         for try in $(seq 120); do read more rest </sys/block/vbd0/stat; \
         test $more -gt $reads && echo suspended && break; sleep 0.5; done; done; \
         kill -INT $fio; wait $fio; status=$?; cat {TOOLS}/tmp/fio.json; exit $status",
        fio = fio::PROGRAM,
    );
    let reads = report::reads_something();
    let judge: Judge = Box::new(move |status, said| {
        let times = said.lines().filter(|line| *line == "suspended").count();
        ensure!(
            times == ROUNDS as usize,
            "suspended and went on {times} times of {ROUNDS}: {said}"
        );
        reads(status, said)
    });
    Check {
        name: name.to_string(),
        text,
        judge,
    }
}
