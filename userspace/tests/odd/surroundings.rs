// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Every verb where something that it needs is not to be had: threads, memory, space, a reader.

use super::place::{nobody, Place};
use super::table::VERBS;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

/// A line of each verb that works without the driver, and whether it makes a file and prints.
const LINES: [(&str, bool, bool); 9] = [
    ("list", false, true),
    ("dm-table --losetup layer", false, true),
    ("create image out", true, false),
    ("info layer", false, true),
    ("check layer", false, true),
    ("compare image layer", false, true),
    ("export layer out", true, false),
    ("convert --format zstd layer out", true, false),
    ("merge layer out", true, false),
];

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn the_lines_are_of_every_verb_that_needs_no_driver() {
    let without = ["attach", "detach", "status", "commit"];
    for (verb, _) in VERBS.iter().filter(|(verb, _)| !without.contains(verb)) {
        assert!(
            LINES.iter().any(|(line, ..)| words(line)[0] == *verb),
            "{verb}"
        );
    }
}

#[test]
fn without_threads_the_work_is_done_all_the_same() {
    let place = Place::new();
    let before = place.contents();
    let mut under = nobody();
    under.extend(["prlimit", "--nproc=1"]);
    for (line, makes, _) in LINES {
        let usual = place.run(&words(line));
        assert_eq!(
            place.changes(&before, makes.then_some("out")),
            None,
            "{line}"
        );
        let found = place.run_under(&under, &words(line), Stdio::piped());
        assert_eq!(found.status, Some(0), "{line}: {}", found.text);
        assert_eq!(found.text, usual.text, "{line}");
        assert_eq!(
            place.changes(&before, makes.then_some("out")),
            None,
            "{line}"
        );
    }
}

#[test]
fn without_memory_it_fails_and_says_so() {
    let place = Place::new();
    let before = place.contents();
    let mut failed = 0;
    for half_mebibytes in 10..60 {
        let limit = format!("--as={}", half_mebibytes << 19);
        let run = |line| place.run_under(&["prlimit", &limit], &words(line), Stdio::piped());
        // Less than a program needs to begin says nothing of it.
        if run("--version").status != Some(0) {
            continue;
        }
        for line in ["check layer", "convert --format zstd layer out"] {
            let found = run(line);
            let makes = line.ends_with("out") && found.status == Some(0);
            let what = format!("{line}, {limit}: {:?}: {}", found.status, found.text);
            assert_eq!(
                place.changes(&before, makes.then_some("out")),
                None,
                "{what}"
            );
            if found.status != Some(0) {
                failed += 1;
                assert_eq!(found.status, Some(1), "{what}");
                assert!(found.text.to_lowercase().contains("memory"), "{what}");
                assert!(!found.text.contains("panicked"), "{what}");
            }
        }
    }
    assert!(failed > 0);
}

#[test]
fn where_nobody_hears_it_it_fails_quietly() {
    let place = Place::new();
    let before = place.contents();
    for (line, makes, prints) in LINES {
        let made = makes.then_some("out");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (gone, reader) = UnixStream::pair().unwrap();
        drop(reader);
        for (stdout, words_of_it) in [
            (Stdio::from(full), "No space left on device"),
            (Stdio::from(OwnedFd::from(gone)), "Broken pipe"),
        ] {
            let found = place.run_under(&[], &words(line), stdout);
            assert_eq!(
                found.status,
                Some(i32::from(prints)),
                "{line}: {}",
                found.text
            );
            let told = found.text.contains(words_of_it) && found.text.lines().count() == 1;
            assert!(told || !prints, "{line}: {}", found.text);
            assert_eq!(place.changes(&before, made), None, "{line}");
        }
        let shell = ["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"];
        let missing = line.replace("layer", "missing").replace("image", "missing");
        let status = i32::from(missing != line);
        let found = place.run_under(&shell, &words(&missing), Stdio::null());
        assert_eq!(found.status, Some(status), "{missing}");
        assert_eq!(place.changes(&before, None), None, "{missing}");
    }
    let found = place.run_under(&[], &["export", "layer", "-"], Stdio::from(full()));
    assert_eq!(found.status, Some(1), "{}", found.text);
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[test]
fn without_space_nothing_is_left() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("full")).unwrap();
    let before = place.contents();
    // A disk of its own, that no other process sees.
    let mount =
        "mount -t tmpfs -o size=16k none full || exit 99; \"$@\"; status=$?; ls -A full; exit $status";
    let disk = ["unshare", "--mount", "sh", "-c", mount, "sh"];
    let limit = ["prlimit", "--fsize=16384"];
    for (line, ..) in LINES.iter().filter(|(_, makes, _)| *makes) {
        let to_disk = line.replace(" out", " full/out");
        let found = place.run_under(&disk, &words(&to_disk), Stdio::piped());
        // Who may not mount is no root, or one of a container.
        if found.status == Some(99) || found.text.starts_with("unshare: unshare failed") {
            let skipped = format!("SKIPPED a full disk, {line}: {}", found.text);
            std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        } else {
            assert_eq!(found.status, Some(1), "{line}: {}", found.text);
            let told = found.text.contains("No space left on device");
            assert!(
                told && found.text.lines().count() == 1,
                "{line}: {}",
                found.text
            );
        }
        let found = place.run_under(&limit, &words(line), Stdio::piped());
        assert_eq!(found.status, Some(1), "{line}: {}", found.text);
        assert!(
            found.text.contains("File too large"),
            "{line}: {}",
            found.text
        );
        assert_eq!(place.changes(&before, None), None, "{line}");
    }
}
