// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The rule for udev, with udev itself.

use super::{done, words};
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, stack};
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool::run;
use crate::cases::support::{content, layers, read};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RULES: &str = include_str!("../../../../../../userspace/dist/60-vbd.rules");

/// Where its rules are.
const PLACE: &str = "/etc/udev/rules.d/60-vbd.rules";

/// A running udev that has these rules and no other.
struct Udev;

impl Udev {
    fn start(rules: &str) -> Udev {
        fs::create_dir_all("/etc/udev/rules.d").expect("the directory of rules");
        fs::write(PLACE, rules).expect("the rules");
        run("udevadm", &["verify", PLACE]);
        run("systemd-udevd", &["--daemon", "--resolve-names=never"]);
        Udev
    }

    /// Waits until all that happened so far is done with.
    fn settle(&self) {
        run("udevadm", &["settle", "--timeout=30"]);
    }
}

impl Drop for Udev {
    fn drop(&mut self) {
        let _ = std::process::Command::new("udevadm")
            .args(["control", "--exit"])
            .status();
        let _ = fs::remove_dir_all("/run/udev");
        let _ = fs::remove_file(PLACE);
    }
}

/// Names of a device and of its partition come with it and go with it.
pub(super) fn links() {
    const START: usize = 64;
    let module = Module::load("");
    let scratch = Scratch::new();
    let mut disk = content::disk(41, 1 << 20);
    let sectors = disk.len() / 512 - START;
    content::put_mbr(&mut disk, &[(START, sectors)]);
    let layer = layers::create(&scratch, "layer", &disk, &["--format=lz4"]);
    let layer = layer.display().to_string();

    let udev = Udev::start(RULES);
    let node = done(&["attach", "--partscan", "--name=web", &layer]);
    let other = done(&["attach", "--partscan", "--name=other", &layer]);
    udev.settle();
    let by_name = |name: &str| Path::new("/dev/disk/by-vbd").join(name);
    for (name, disk) in [("web", &node), ("other", &other)] {
        let link = fs::canonicalize(by_name(name)).expect("the disk's link");
        assert_eq!(link, Path::new(disk));
        let part = fs::canonicalize(by_name(&format!("{name}-part1"))).expect("the part's link");
        assert_eq!(part, Path::new(&format!("{disk}p1")));
    }
    read::check_all(&by_name("web").display().to_string(), &disk);
    let part = by_name("web-part1").display().to_string();
    read::check_all(&part, &disk[START * 512..]);

    done(&["detach", "web"]);
    udev.settle();
    assert!(
        fs::symlink_metadata(by_name("web")).is_err(),
        "a link is left"
    );
    assert!(fs::symlink_metadata(part).is_err(), "a part's link is left");
    assert!(by_name("other").exists());
    done(&["detach", "other"]);
    udev.settle();
    drop(udev);
    module.unload();
}

/// Where the links of a kind are.
fn by(kind: &str, name: &str) -> PathBuf {
    Path::new("/dev/disk").join(format!("by-{kind}")).join(name)
}

/// An ext4 image of two mebibytes with this uuid and label.
fn ext4(scratch: &Scratch, uuid: &str, label: &str) -> PathBuf {
    let image = scratch.file(label, &[]);
    let path = image.display().to_string();
    run("mkfs.ext4", &["-q", "-U", uuid, "-L", label, &path, "2M"]);
    image
}

/// What lsblk says of a device.
fn lsblk(columns: &str, node: &str) -> String {
    let said = run(
        "lsblk",
        &["--nodeps", "--noheadings", "--list", "-o", columns, node],
    );
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The links that other disks have, by file system and partition table; and what lsblk shows.
pub(super) fn links_by_contents() {
    const UUIDS: [&str; 4] = [
        "11111111-2222-4333-8444-555555555551",
        "11111111-2222-4333-8444-555555555552",
        "11111111-2222-4333-8444-555555555553",
        "11111111-2222-4333-8444-555555555554",
    ];
    let module = Module::load("");
    let scratch = Scratch::new();
    let whole = ext4(&scratch, UUIDS[0], "whole");
    let whole = layers::from_file(&scratch, "whole.lz4", &whole, &["--format=lz4"]);

    // A GPT with one partition of 2 MiB at 1 MiB, and a file system in that.
    let inner = fs::read(ext4(&scratch, UUIDS[1], "inner")).unwrap();
    let image = scratch.file("gpt", &vec![0; 4 << 20]).display().to_string();
    let [disk, part] = [UUIDS[2], UUIDS[3]];
    let table = format!(
        "label: gpt\nlabel-id: {disk}\nstart=2048, size=4096, uuid={part}, name=\"a part\"\n"
    );
    let script = scratch
        .file("script", table.as_bytes())
        .display()
        .to_string();
    let sfdisk = "sfdisk --quiet --wipe=never \"$1\" < \"$2\"";
    run("sh", &["-c", sfdisk, "sh", &image, &script]);
    let mut bytes = fs::read(&image).unwrap();
    bytes[1 << 20..3 << 20].copy_from_slice(&inner);
    let gpt = layers::create(&scratch, "gpt.lz4", &bytes, &["--format=lz4"]);

    let udev = Udev::start(RULES);
    let node = done(&["attach", "--name=whole", whole.to_str().unwrap()]);
    let gpt = ["attach", "--partscan", "--name=gpt", gpt.to_str().unwrap()];
    let disk = done(&gpt);
    let part = format!("{disk}p1");
    udev.settle();
    let links = [
        ("uuid", UUIDS[0], &node),
        ("label", "whole", &node),
        ("uuid", UUIDS[1], &part),
        ("label", "inner", &part),
        ("partuuid", UUIDS[3], &part),
        ("partlabel", "a\\x20part", &part),
    ];
    for (kind, name, node) in links {
        let link = by(kind, name);
        let found = fs::canonicalize(&link).unwrap_or_else(|error| panic!("{link:?}: {error}"));
        assert_eq!(&found, Path::new(node), "{link:?}");
    }
    let fields = "FSTYPE,LABEL,UUID";
    assert_eq!(lsblk(fields, &node), format!("ext4 whole {}", UUIDS[0]));
    assert_eq!(lsblk(fields, &part), format!("ext4 inner {}", UUIDS[1]));
    assert_eq!(lsblk("PTTYPE,PTUUID", &disk), format!("gpt {}", UUIDS[2]));
    assert_eq!(
        lsblk("PARTUUID,PARTLABEL", &part),
        format!("{} a part", UUIDS[3])
    );
    // Another disk that says the same of itself has the link, whichever came first.
    let noted = run(
        "udevadm",
        &["info", "--query=all", &format!("--name={node}")],
    );
    assert!(noted.lines().any(|line| line == "L: -100"), "{noted}");

    done(&["detach", "whole", "gpt"]);
    udev.settle();
    for (kind, name, _) in links {
        assert!(
            fs::symlink_metadata(by(kind, name)).is_err(),
            "{kind}/{name}"
        );
    }
    drop(udev);
    assert_nothing_left();
    module.unload();
}

/// Who is told of a device can use its link at once.
pub(super) fn the_link_is_there() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let udev = Udev::start(RULES);
    let link = by("vbd", "web");
    for _ in 0..10 {
        let node = done(&words(&["attach", "--name=web", "--timeout=60"], &layers));
        let found = fs::canonicalize(&link).expect("the link");
        assert_eq!(found, Path::new(&node));
        done(&["detach", "web"]);
    }
    // The same for whoever comes second.
    let node = done(&words(&["attach", "--name=web"], &layers));
    assert_eq!(done(&words(&["attach", "--name=web"], &layers)), node);
    read::check_all(&link.display().to_string(), &disk);
    done(&["detach", "web"]);
    udev.settle();
    drop(udev);

    // Without the rule there is no link, and no wait for one.
    let udev = Udev::start("");
    let begin = Instant::now();
    done(&words(&["attach", "--name=web", "--timeout=3600"], &layers));
    assert!(begin.elapsed() < Duration::from_secs(1800));
    assert!(!link.exists());
    done(&["detach", "web"]);
    drop(udev);
    module.unload();
}
