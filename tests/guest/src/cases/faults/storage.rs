// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Storage below a layer that is away for a while, changes what it is asked for, waits, or goes away.

use super::mixed;
use crate::case::Case;
use crate::cases::support::device::{Module, DEVICE};
use crate::cases::support::dir::{assert_nothing_left, Dir};
use crate::cases::support::memory_disk::{self, MemoryDisk};
use crate::cases::support::scratch::{Mounted, Scratch};
use crate::cases::support::storage::{whole, Volume};
use crate::cases::support::tool::{self, Loop};
use crate::cases::support::{content, layers, read};
use rustix::io::Errno;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use vbd_tests_host::rng::Rng;

pub(in crate::cases) const CASES: &[Case] = crate::cases::cases![
    flakey_storage,
    changed_data,
    suspended_storage,
    attaching_waits,
    slow_storage,
    file_system_remounted,
    disk_unplugged,
    device_unplugged,
    fails_once,
];

const BYTES: usize = 256 << 10;

/// Longest time for something that must not wait for storage.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Reads pieces of a disk: how many are exact, and how many fail with `EIO`; nothing else may be.
fn tally(file: &File, disk: &[u8], piece: usize) -> (usize, usize) {
    let (mut good, mut bad) = (0, 0);
    for (number, want) in disk.chunks(piece).enumerate() {
        let offset = (number * piece) as u64;
        match read::pread(file, offset, want.len()) {
            Ok(got) => {
                read::same(&got, want, offset);
                good += 1;
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
                bad += 1;
            }
        }
    }
    (good, bad)
}

/// A file system on a volume that can be exchanged, with layers in it; unmounted before the volume
/// goes.
struct Store {
    place: PathBuf,
    mounted: Option<Mounted>,
    volume: Volume,
    below: Loop,
    _scratch: Scratch,
}

impl Store {
    fn new() -> Store {
        let scratch = Scratch::new();
        let image = scratch.join("image");
        File::create(&image)
            .and_then(|file| file.set_len(16 << 20))
            .expect("the image");
        // Without a journal nothing is written behind our back.
        let words = [
            "-q",
            "-F",
            "-O",
            "^has_journal",
            &image.display().to_string(),
        ];
        tool::run("mkfs.ext4", &words);
        let below = Loop::new(&image);
        let volume = Volume::new("case-store", &whole(&below.path(), "linear", ""));
        let place = scratch.join("place");
        let mounted = Mounted::new(&volume.path(), &place, "ext4", false);
        Store {
            place,
            mounted: Some(mounted),
            volume,
            below,
            _scratch: scratch,
        }
    }

    /// Puts another target in the volume's place.
    fn change(&self, target: &str, words: &str) {
        self.volume
            .change(&whole(&self.below.path(), target, words));
    }

    fn heal(&self) {
        self.change("linear", "");
    }

    fn unmount(&mut self) {
        self.mounted = None;
    }
}

/// Gone for good, back, and gone again, below a file system: reads are exact or fail, and exact once
/// the storage is back.
fn flakey_storage() {
    assert!(crate::modules::probe(&["dm-flakey"]), "modprobe dm-flakey");
    let mut store = Store::new();
    let disk = content::disk(340, BYTES);
    let layer = layers::create(&store.place, "layer", &disk, &["--format=lz4"]);
    rustix::fs::sync();
    let module = Module::stack(&[layer], "");
    let file = read::direct(DEVICE);
    for _ in 0..2 {
        // Never up.
        store.change("flakey", "0 1 1 error_reads");
        read::drop_caches();
        let (good, bad) = tally(&file, &disk, 4096);
        assert!(bad > 0, "{good} good");
        store.heal();
        assert_eq!(tally(&file, &disk, 65536).1, 0);
        read::drop_caches();
        assert_eq!(tally(&file, &disk, 4096).1, 0);
    }
    let faults = module.faults();
    assert!(faults.errors > 0 && faults.rereads >= faults.errors);
    assert_eq!((faults.crc, faults.decode), (0, 0));
    drop(file);
    module.unload();
    store.unmount();
}

/// Storage that changes a byte of what is read now and then: a compressed layer has checksums, so no
/// wrong byte gets through, and what was changed on the way only is right the second time.
fn changed_data() {
    assert!(crate::modules::probe(&["dm-flakey"]), "modprobe dm-flakey");
    let scratch = Scratch::new();
    for (number, form) in ["--format=lz4", "--format=zstd"].iter().enumerate() {
        let disk = Rng(341 + number as u64).noise(BYTES / 2);
        let below = Loop::new(&layers::create(&scratch, form, &disk, &[*form]));
        let volume = Volume::new("case-changed", &whole(&below.path(), "linear", ""));
        read::read_ahead(&volume.disk(), 0);
        let module = Module::stack(&[volume.path()], "");
        let file = read::direct(DEVICE);
        // A byte in each of three requests out of ten, which are pages here.
        let words = "0 1 2 random_read_corrupt 300000000";
        volume.change(&whole(&below.path(), "flakey", words));
        let mut bad = 0;
        for _ in 0..2 {
            read::drop_caches();
            bad += tally(&file, &disk, 4096).1;
        }
        volume.change(&whole(&below.path(), "linear", ""));
        let faults = module.faults();
        assert!(faults.crc > faults.errors, "{faults:?}");
        assert_eq!(faults.errors, bad as u64);
        // A second read that brought the same page would fail as the first one did.
        assert!(faults.rereads > faults.errors * 5 / 4, "{faults:?}");
        // What the page cache still holds of it is read anew.
        assert_eq!(tally(&file, &disk, 4096).1, 0);
        drop(file);
        module.unload();
    }
}

/// Reads wait for storage that is suspended, and nobody else does; detaching is refused, not kept
/// waiting, while they do.
fn suspended_storage() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = mixed(&scratch, 343, BYTES);
    let below = Loop::new(&layers[0]);
    let volume = Volume::new("case-suspended", &whole(&below.path(), "linear", ""));
    let waiting = Dir::attach("a", &[Path::new(&volume.path()), &layers[1], &layers[2]]);
    read::drop_caches();
    let file = read::direct(&waiting.disk());
    volume.suspend();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|reader| {
                let (file, disk) = (&file, &disk);
                let piece = disk.len() / 4;
                scope.spawn(move || read::check(file, disk, (reader * piece) as u64, piece))
            })
            .collect();
        thread::sleep(Duration::from_millis(300));
        assert!(readers.iter().any(|reader| !reader.is_finished()));

        let begin = Instant::now();
        assert_eq!(waiting.set("power", "0"), Err(Errno::BUSY));
        assert_eq!(waiting.get("state"), "on");
        assert!(waiting.get("stat").contains("requests "));
        let beside = Dir::attach("b", &layers[..2]);
        drop(read::pread(&read::direct(&beside.disk()), 0, 4096).expect("a read beside"));
        beside.detach();
        assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
        volume.resume();
    });
    drop(file);

    // A device that nobody reads from goes without its storage.
    volume.suspend();
    let begin = Instant::now();
    waiting.detach();
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    volume.resume();
    assert_nothing_left();
    module.unload();
}

/// An attach that waits for storage keeps nobody from looking at the device, and ends well.
fn attaching_waits() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = mixed(&scratch, 346, BYTES);
    let below = Loop::new(&layers[2]);
    let volume = Volume::new("case-suspended", &whole(&below.path(), "linear", ""));
    let dir = Dir::new("a");
    let slow = PathBuf::from(volume.path());
    for (number, path) in [&layers[0], &layers[1], &slow].into_iter().enumerate() {
        dir.layer(number, path).expect("a layer");
    }
    read::drop_caches();
    volume.suspend();
    thread::scope(|scope| {
        let on = scope.spawn(|| dir.set("power", "1"));
        thread::sleep(Duration::from_millis(300));
        let begin = Instant::now();
        assert_eq!(dir.get("state"), "attaching");
        assert_eq!(
            (dir.get("power"), dir.get("device")),
            ("0".into(), "".into())
        );
        assert_eq!(dir.set("size", "1024"), Err(Errno::BUSY));
        assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
        volume.resume();
        on.join().expect("the attach").expect("power on");
    });
    read::check_all(&dir.disk(), &disk);
    dir.detach();
    drop(volume);
    assert_nothing_left();
    module.unload();
}

/// Every request takes its time. Detaching waits for those that are under way and no longer.
fn slow_storage() {
    assert!(crate::modules::probe(&["dm-delay"]), "modprobe dm-delay");
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = mixed(&scratch, 349, BYTES);
    let below = Loop::new(&layers[0]);
    let volume = Volume::new("case-slow", &whole(&below.path(), "linear", ""));
    let dir = Dir::attach("a", &[Path::new(&volume.path()), &layers[1], &layers[2]]);
    volume.change(&whole(&below.path(), "delay", "100"));
    read::drop_caches();
    let node = dir.disk();
    let file = read::buffered(&node);
    read::check(&file, &disk, 0, 65536);
    // Read ahead without anybody waiting for it.
    let length = std::num::NonZeroU64::new(BYTES as u64);
    rustix::fs::fadvise(&file, 0, length, rustix::fs::Advice::WillNeed).expect("fadvise");
    drop(file);
    let begin = Instant::now();
    dir.detach();
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    assert!(!Path::new(&node).exists());
    drop(volume);
    assert_nothing_left();
    module.unload();
}

/// A device has its files open for reading only, so their file system may become read-only.
fn file_system_remounted() {
    let mut store = Store::new();
    let disk = content::disk(352, BYTES);
    let layer = layers::create(&store.place, "layer", &disk, &[]);
    let module = Module::stack(&[layer], "");
    let place = store.place.display().to_string();
    for options in ["remount,ro", "remount,rw"] {
        tool::run("mount", &["-o", options, &place]);
        read::drop_caches();
        read::check_all(DEVICE, &disk);
    }
    module.unload();
    store.unmount();
}

/// A disk that is unplugged under a file system, which then answers nothing any more: reads fail, the
/// device can be detached, and nothing keeps the file system.
fn disk_unplugged() {
    let below = MemoryDisk::new(16);
    let words = [
        "-q",
        "-F",
        "-O",
        "^has_journal",
        &below.path().display().to_string(),
    ];
    tool::run("mkfs.ext4", &words);
    let scratch = Scratch::in_memory();
    let place = scratch.join("place");
    let mounted = Mounted::new(&below.path().display().to_string(), &place, "ext4", false);
    let disk = Rng(353).noise(BYTES);
    let layer = layers::create(&place, "layer", &disk, &["--format=lz4"]);
    rustix::fs::sync();
    let module = Module::stack(&[layer], "");
    let file = read::direct(DEVICE);
    read::check(&file, &disk, 0, BYTES);
    below.unplug();
    read::drop_caches();
    assert_eq!(tally(&file, &disk, 65536), (0, BYTES / 65536));
    drop(file);
    module.unload();
    drop(mounted);
}

/// The same without a file system: the device is a layer's own.
fn device_unplugged() {
    let below = MemoryDisk::new(16);
    let scratch = Scratch::in_memory();
    let disk = Rng(354).noise(BYTES);
    let layer = layers::create(&scratch, "layer", &disk, &["--format=zstd", "--tar"]);
    memory_disk::copy(&layer, &below.path());
    let module = Module::stack(&[below.path()], "");
    let file = read::direct(DEVICE);
    read::check(&file, &disk, 0, BYTES);
    below.unplug();
    read::drop_caches();
    assert_eq!(tally(&file, &disk, 65536), (0, BYTES / 65536));
    drop(file);
    module.unload();
}

/// A read that fails once is made again, and nobody learns of it; one that fails for ever is an error of
/// its range alone.
fn fails_once() {
    let scratch = Scratch::in_memory();
    for (number, form) in ["--format=plain", "--format=lz4"].iter().enumerate() {
        let disk = Rng(355 + number as u64).noise(BYTES);
        let layer = layers::create(&scratch, form, &disk, &[*form, "--tar"]);
        let sectors = fs::metadata(&layer).expect("the layer").len() / 512;
        let bad = sectors / 16 * 8..sectors / 16 * 8 + 8;
        for once in [true, false] {
            let below = match once {
                true => MemoryDisk::failing_once(16),
                false => MemoryDisk::new(16),
            };
            memory_disk::copy(&layer, &below.path());
            // Each page that is asked for is a request.
            read::read_ahead(below.name(), 0);
            let module = Module::stack(&[below.path()], "");
            let file = read::direct(DEVICE);
            read::drop_caches();
            below.spoil(bad.clone());
            let (_, failed) = tally(&file, &disk, 4096);
            let faults = module.faults();
            if once {
                // The page cache asks again by itself before it says no.
                assert_eq!((failed, faults.errors), (0, 0), "{form}");
                assert_eq!(below.spoilt(), "", "{form}: nobody read it");
            } else {
                // What does not compress touches two pages.
                assert!((1..=3).contains(&failed), "{form}: {failed}");
                assert_eq!(faults.errors, failed as u64);
                assert_eq!(faults.rereads, faults.errors);
            }
            below.heal(bad.clone());
            assert_eq!(tally(&file, &disk, 4096).1, 0);
            drop(file);
            module.unload();
        }
    }
}
