// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Schedulers of requests, and processors that come and go, under a load that believes no block.

use super::fio::{self, report};
use super::guest::{self, Check, Group, Judge, Needs, TOOLS};
use super::layers::Layers;
use super::Place;
use crate::test::steps::{Count, Step};
use anyhow::{ensure, Context, Result};

/// All that the kernel has.
const SCHEDULERS: [&str; 4] = ["none", "mq-deadline", "kyber", "bfq"];

const NEEDS: Needs = Needs {
    programs: &[fio::PROGRAM],
    modules: &["bfq", "kyber_iosched", "mq_deadline"],
};

/// Reads of many sizes by two jobs, until all has been read.
const LOAD: &str =
    "--rw=randread --bsrange=4k-256k --blockalign=4k --direct=1 --ioengine=libaio --iodepth=32 \
    --numjobs=2 --output-format=json --output=/tmp/fio.json";

/// What goes on beside the load: while fio lives, `$round` counts.
const ONE_PROCESSOR: &str =
    "echo 0 >/sys/devices/system/cpu/cpu1/online; echo 1 >/sys/devices/system/cpu/cpu1/online";
const ANOTHER_SCHEDULER: &str =
    "case $((round % 4)) in 0) name=bfq;; 1) name=none;; 2) name=kyber;; \
    3) name=mq-deadline;; esac; echo $name >/sys/block/vbd0/queue/scheduler; sleep 0.2";

pub(super) fn run(place: &Place, step: &Step) -> Result<Count> {
    let layers = Layers::new(place, step, "schedulers")?;
    fio::write_text(place, &layers, step, "text")?;
    layers.create("text", "lz4", &["-f", "lz4", "-b", "64K"], &[])?;
    let mut checks = Vec::new();
    for name in SCHEDULERS {
        checks.push(check(
            format!("{name}, processors that come and go"),
            &chosen(name),
            ONE_PROCESSOR,
        ));
    }
    checks.push(check(
        "a change of scheduler under load".into(),
        "true",
        ANOTHER_SCHEDULER,
    ));
    let group = Group {
        name: "lz4".into(),
        layers: vec!["lz4".into()],
        before: "modprobe -a mq-deadline kyber-iosched bfq".into(),
        after: chosen("none"),
        checks,
    };
    guest::run(place, &layers, step, NEEDS, vec![group])
}

/// Chooses a scheduler, which the kernel has to say that it has.
fn chosen(name: &str) -> String {
    let file = "/sys/block/vbd0/queue/scheduler";
    format!("echo {name} >{file} && grep -qF '[{name}]' {file}")
}

fn check(name: String, before: &str, beside: &str) -> Check {
    let verify = fio::verifying("/dev/vbd0");
    let text = format!(
        "{before} || exit 99; rm -f {TOOLS}/tmp/fio.json; chroot {TOOLS} {fio} {verify} {LOAD} & fio=$!; round=0; \
         while kill -0 $fio 2>/dev/null; do round=$((round + 1)); {beside} || exit 98; done; \
         wait $fio; status=$?; echo \"rounds: $round\"; cat {TOOLS}/tmp/fio.json; exit $status",
        fio = fio::PROGRAM,
    );
    let reads = report::reads_all(2 * fio::SIZE);
    let judge: Judge = Box::new(move |status, said| {
        reads(status, said)?;
        let rounds = said.lines().find_map(|line| line.strip_prefix("rounds: "));
        let rounds: u64 = rounds.context("no count of rounds")?.parse()?;
        ensure!(rounds > 1, "the load was over at once");
        Ok(())
    });
    Check { name, text, judge }
}
