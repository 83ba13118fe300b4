// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Everything at once: whatever comes together, each operation has one of few answers, everything
//! ends, and nothing is left.

use crate::case::Case;
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, plain, stack, Dir, Done, ROOT};
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool;
use crate::modules;
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::RwLock;
use std::thread;
use std::time::{Duration, Instant};
use vbd_tests_host::rng::Rng;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "thirty_two_threads",
        run: thirty_two_threads,
    },
    Case {
        name: "one_device_and_everybody",
        run: one_device_and_everybody,
    },
    Case {
        name: "thirty_two_programs",
        run: thirty_two_programs,
    },
    Case {
        name: "detach_while_reads_run",
        run: detach_while_reads_run,
    },
    Case {
        name: "unload_while_devices_come_and_go",
        run: unload_while_devices_come_and_go,
    },
];

/// Seconds that each of the longer cases takes, unless `VBD_RACE_SECONDS` says another number.
const SECONDS: u64 = 5;

const THREADS: usize = 32;

/// Bytes of each disk.
const BYTES: usize = 1 << 20;

fn end() -> Instant {
    let seconds = std::env::var("VBD_RACE_SECONDS");
    let seconds = seconds
        .ok()
        .map(|text| text.parse().expect("VBD_RACE_SECONDS"));
    Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS))
}

/// Each thread has a device of its own, attaches it, reads from it and detaches it.
fn thirty_two_threads() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, BYTES);
    let (disk, layers) = (&disk, &layers);
    let rounds = AtomicU64::new(0);
    let end = end();
    thread::scope(|scope| {
        for number in 0..THREADS {
            let rounds = &rounds;
            scope.spawn(move || {
                let mut rng = Rng(number as u64);
                while Instant::now() < end {
                    let dir = Dir::attach(&format!("t{number}"), layers);
                    let offset = rng.below((BYTES - 65536) as u64) & !511;
                    read::check(&read::buffered(&dir.disk()), disk, offset, 65536);
                    dir.detach();
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("note {THREADS} threads: {} attaches", rounds.into_inner());
    assert_nothing_left();
    module.unload();
}

/// Threads do whatever comes to their minds to the same few devices.
fn one_device_and_everybody() {
    const NAMES: [&str; 3] = ["x", "y", "z"];
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, BYTES);
    let (disk, layers) = (&disk, &layers);
    let end = end();
    let count = AtomicU64::new(0);
    let attached = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..8 {
            let (count, attached) = (&count, &attached);
            scope.spawn(move || {
                let mut rng = Rng(number + 100);
                while Instant::now() < end {
                    let dir = Dir::named(rng.pick(&NAMES));
                    if anything(&dir, &mut rng, disk, layers) {
                        attached.fetch_add(1, Ordering::Relaxed);
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    for name in NAMES {
        let dir = Dir::named(name);
        // Whatever it was left as, it goes.
        if dir.make() == Err(Errno::EXIST) {
            dir.set("power", "0").unwrap();
        }
        dir.clear().unwrap();
    }
    let (count, attached) = (count.into_inner(), attached.into_inner());
    println!("note everybody at once: {count} operations, {attached} attaches");
    assert!(attached > 0, "nothing was ever attached");
    assert_nothing_left();
    module.unload();
}

/// One operation; whether it switched a device on.
fn anything(dir: &Dir, rng: &mut Rng, disk: &[u8], layers: &[PathBuf]) -> bool {
    let layer = rng.below(3);
    let path = layers[layer as usize % layers.len()].display().to_string();
    // A device or layer may be gone at any time.
    let gone = [Errno::NOENT, Errno::NODEV];
    let (what, result, answers): (_, Done, &[Errno]) = match rng.below(12) {
        0 => ("mkdir", dir.make(), &[Errno::EXIST]),
        1 => ("rmdir", dir.remove(), &[Errno::NOTEMPTY, Errno::BUSY]),
        2 | 3 => {
            let made = dir.make_below(&layer.to_string());
            ("mkdir of a layer", made, &[Errno::EXIST, Errno::BUSY])
        }
        4 => {
            let gone = dir.remove_below(&layer.to_string());
            ("rmdir of a layer", gone, &[Errno::BUSY])
        }
        5 | 6 => {
            let set = dir.set(&format!("{layer}/path"), &path);
            ("path", set, &[Errno::BUSY])
        }
        7 | 8 => {
            let on = dir.set("power", "1");
            if on.is_ok() {
                return true;
            }
            // Layers may be missing; another thread may be switching it.
            ("power on", on, &[Errno::INVAL, Errno::BUSY])
        }
        9 => ("power off", dir.set("power", "0"), &[Errno::BUSY]),
        10 => {
            let attribute = rng.pick(&["state", "error", "stat", "device", "size", "power"]);
            ("reading", dir.try_get(attribute).map(|_| ()), &[])
        }
        _ => ("use", read_some(dir, rng, disk), &[Errno::NXIO]),
    };
    if let Err(errno) = result {
        assert!(
            answers.contains(&errno) || gone.contains(&errno),
            "{what}: {errno:?}"
        );
    }
    false
}

/// Opens the disk if there is one and reads from it. The stack may be any of the two layers.
fn read_some(dir: &Dir, rng: &mut Rng, disk: &[u8]) -> Done {
    let node = dir.try_get("device")?;
    if node.is_empty() {
        return Ok(());
    }
    let file = plain(File::open(format!("/dev/{node}")))?;
    let mut bytes = vec![0; 4096];
    let offset = rng.below((disk.len() - bytes.len()) as u64) & !511;
    plain(file.read_exact_at(&mut bytes, offset))
}

/// Programs attach and detach a few devices under shared names.
fn thirty_two_programs() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, BYTES);
    let words: Vec<String> = layers
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let (words, disk) = (&words, &disk);
    let end = end();
    let counts = [const { AtomicU64::new(0) }; 2];
    thread::scope(|scope| {
        for number in 0..THREADS {
            let counts = &counts;
            scope.spawn(move || {
                let mut rng = Rng(number as u64 + 1000);
                while Instant::now() < end {
                    let name = format!("p{}", rng.below(6));
                    let done = match rng.below(5) {
                        0..=2 => program_attaches(&name, words, disk),
                        3 => program("detach", &["--timeout=20", &name], &["no such device"]),
                        _ => program("list", &["--json"], &[]),
                    };
                    counts[usize::from(done)].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    tool::run("vbdctl", &["detach", "--all"]);
    let [refused, done] = counts.map(AtomicU64::into_inner);
    println!("note {THREADS} programs: {done} done, {refused} refused");
    assert!(done > 0);
    assert_nothing_left();
    module.unload();
}

fn program_attaches(name: &str, words: &[String], disk: &[u8]) -> bool {
    let mut attach = vec!["--timeout=20", "--name", name];
    attach.extend(words.iter().map(String::as_str));
    let output = tool::output("vbdctl", &[&["attach"][..], &attach].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "attach {name}: {said}");
    let node = String::from_utf8_lossy(&output.stdout).trim().to_string();
    // Another program may have detached it, and its number may be another device of the same stack.
    if let Ok(file) = File::open(&node) {
        read::check(&file, disk, 0, 4096);
    }
    true
}

/// Runs vbdctl, which may be refused with one of some reasons; whether it was not.
fn program(verb: &str, arguments: &[&str], reasons: &[&str]) -> bool {
    let output = tool::output("vbdctl", &[&[verb][..], arguments].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() || reasons.iter().any(|reason| said.contains(reason)),
        "{verb} {arguments:?}: {said}"
    );
    output.status.success()
}

/// Detaching has to wait for readers by being refused, and works when they are gone.
fn detach_while_reads_run() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, BYTES);
    for direct in [true, false] {
        let dir = Dir::attach("a", &layers);
        let node = dir.disk();
        let (stop, refused) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let mut readers = Vec::new();
            for number in 0..4 {
                let file = if direct {
                    read::direct(&node)
                } else {
                    read::buffered(&node)
                };
                let (stop, disk) = (&stop, &disk);
                readers.push(scope.spawn(move || {
                    let mut rng = Rng(number);
                    while !stop.load(Ordering::Relaxed) {
                        let offset = rng.below((BYTES - 32768) as u64) & !511;
                        read::check(&file, disk, offset, 32768);
                    }
                }));
            }
            let end = Instant::now() + Duration::from_secs(1);
            while Instant::now() < end {
                assert_eq!(dir.set("power", "0"), Err(Errno::BUSY));
                refused.fetch_add(1, Ordering::Relaxed);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(refused.into_inner() > 0);
        let begin = Instant::now();
        dir.detach();
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{:?}",
            begin.elapsed()
        );
    }
    assert_nothing_left();
    module.unload();
}

/// The module is asked to go all the time while devices come and go; it may go between two, and
/// then everything below it is gone.
fn unload_while_devices_come_and_go() {
    drop(Module::load(""));
    let scratch = Scratch::new();
    let (_, layers) = stack(&scratch, BYTES);
    let end = Instant::now() + Duration::from_secs(SECONDS.min(3));
    let patience = Instant::now() + Duration::from_secs(60);
    let stop = AtomicBool::new(false);
    // A slow machine has few moments without a device: everybody waits here now and then, to set out
    // together.
    let gate = RwLock::new(());
    let (unloads, attaches) = (AtomicU64::new(0), AtomicU64::new(0));
    let enough = || {
        let both = [&unloads, &attaches].map(|count| count.load(Ordering::Relaxed));
        Instant::now() > if both.contains(&0) { patience } else { end }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0u64..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                if number % 100 == 99 {
                    drop(gate.write().expect("the gate"));
                }
                match modules::unload("vbd") {
                    Ok(()) => {
                        unloads.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(Errno::NOENT) => {
                        modules::load(modules::DRIVER, "").expect("insmod");
                        // Or it would be gone before anybody sees it.
                        thread::sleep(Duration::from_millis(100));
                    }
                    Err(Errno::WOULDBLOCK | Errno::BUSY) => {
                        thread::sleep(Duration::from_micros(300));
                    }
                    Err(errno) => panic!("rmmod: {errno:?}"),
                }
            }
        });
        let workers: Vec<_> = (0..4)
            .map(|number| {
                let (layers, attaches, enough, gate) = (&layers, &attaches, &enough, &gate);
                scope.spawn(move || {
                    while !enough() {
                        let pass = gate.read().expect("the gate");
                        if comes_and_goes(&format!("u{number}"), layers) {
                            attaches.fetch_add(1, Ordering::Relaxed);
                        }
                        drop(pass);
                        thread::sleep(Duration::from_millis(10 * (number + 1)));
                    }
                })
            })
            .collect();
        // The one above must be stopped however these end.
        let ends: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        stop.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.expect("a worker"));
    });
    let (attaches, unloads) = (attaches.into_inner(), unloads.into_inner());
    println!("note come and go: {attaches} attaches, {unloads} unloads");
    assert!(attaches > 0 && unloads > 0);
    if !modules::is_loaded("vbd") {
        modules::load(modules::DRIVER, "").expect("insmod");
    }
    assert_nothing_left();
    assert!(Path::new(ROOT).exists());
    let unloaded = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(20));
        modules::unload("vbd") == Ok(())
    });
    assert!(unloaded, "the module cannot be unloaded at the end");
    assert!(fs::metadata(ROOT).is_err());
}

/// Attaches and detaches a device, unless the module goes away before its directory is made.
fn comes_and_goes(name: &str, layers: &[PathBuf]) -> bool {
    let dir = Dir::named(name);
    match dir.make() {
        Ok(()) => {}
        // The last one is configfs's word for a module that is going (fs/configfs/dir.c,
        // configfs_mkdir()).
        Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => return false,
        Err(errno) => panic!("mkdir: {errno:?}"),
    }
    // The directory pins the module from here on.
    for (number, layer) in layers.iter().enumerate() {
        dir.layer(number, layer).expect("a layer");
    }
    dir.set("power", "1").expect("power on");
    dir.detach();
    true
}
