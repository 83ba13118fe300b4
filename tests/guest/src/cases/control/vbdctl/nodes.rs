// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Nodes of disks and partitions, and what the disks look like.

use super::{done, fails, status, words};
use crate::cases::support::content::{self, put_mbr};
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, Dir};
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool;
use crate::cases::support::{layers, read};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Sectors of the partition: the first, and how many. It lies on the disk whatever size they have.
const EXTENT: (usize, usize) = (8, 16);

/// A layer of a disk with a partition.
fn layer(scratch: &Scratch) -> (Vec<u8>, PathBuf) {
    let mut disk = content::disk(83, 1 << 20);
    put_mbr(&mut disk, &[EXTENT]);
    let layer = layers::create(scratch, "layer", &disk, &["--format=lz4"]);
    (disk, layer)
}

/// Where nobody makes nodes, attach does, and detach removes them.
pub(super) fn on_a_static_dev() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layer) = layer(&scratch);
    let copies = ["whole", "part"].map(|name| scratch.join(name));
    let begin = "mount -t tmpfs none /dev && mknod /dev/null c 1 3";
    let script = format!(
        "{begin} && node=$(vbdctl attach --partscan --name web {0}) && ls /dev >&2 && \
         cat $node > {1} && cat ${{node}}p1 > {2} && \
         [ $(vbdctl attach --partscan --name web {0}) = $node ] && vbdctl detach web && ls /dev",
        layer.display(),
        copies[0].display(),
        copies[1].display(),
    );
    let left = tool::run("unshare", &["-m", "sh", "-c", &script]);
    assert_eq!(left, "null");
    assert!(fs::read(&copies[0]).unwrap() == disk, "the disk");
    let (start, sectors) = EXTENT;
    let part = &disk[start * 512..(start + sectors) * 512];
    assert!(fs::read(&copies[1]).unwrap() == part, "the partition");
    assert_nothing_left();

    // What others have made is told, and left.
    let script = format!(
        "{begin} && mknod /dev/vbd0 b 1 1 && {{ vbdctl attach {} 2>&1; ls /dev; }}",
        layer.display()
    );
    let said = tool::run("unshare", &["-m", "sh", "-c", &script]);
    let expected = "vbdctl: /dev/vbd0: is in the way of the disk's node, which has other numbers; \
                    remove it\nnull\nvbd0";
    assert_eq!(said, expected);
    assert_nothing_left();
    module.unload();
}

pub(super) fn partitions_and_sectors() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layer) = layer(&scratch);
    let layers = [layer];
    let looks = |name: &str| {
        let found = status(name);
        let dir = Dir::named(name);
        let said = (dir.get("partscan"), dir.get("logical_block_size"));
        assert_eq!(found["partscan"], json!(said.0 == "1"));
        assert_eq!(found["sector_size"].to_string(), said.1);
        let disk = dir.get("device");
        let path = Path::new("/sys/block")
            .join(&disk)
            .join("queue/logical_block_size");
        assert_eq!(fs::read_to_string(path).unwrap().trim(), said.1);
        let node = format!("/dev/{disk}");
        (Path::new(&format!("{node}p1")).exists(), said.1, node)
    };
    let none = ["attach", "--name=web"];
    let node = done(&words(&none, &layers));
    assert_eq!(looks("web"), (false, "512".to_owned(), node));
    let said = fails(&words(&["attach", "--name=web", "--partscan"], &layers));
    assert!(
        said.ends_with("another stack: partscan is 0, not 1"),
        "{said}"
    );
    let said = fails(&words(&["attach", "--name=web", "-b", "4096"], &layers));
    assert!(
        said.ends_with("logical_block_size is 512, not 4096"),
        "{said}"
    );
    done(&["detach", "web"]);

    let node = done(&words(&["attach", "--name=web", "--partscan"], &layers));
    assert_eq!(looks("web"), (true, "512".to_owned(), node.clone()));
    read::check_all(&node, &disk);
    done(&["detach", "web"]);
    let node = done(&words(
        &["attach", "--name=web", "--sector-size=4K"],
        &layers,
    ));
    assert_eq!(looks("web"), (false, "4096".to_owned(), node.clone()));
    read::check_all(&node, &disk);
    done(&["detach", "web"]);

    let table = json!({"layers": layers, "partscan": true, "sector_size": 4096}).to_string();
    let path = scratch.file("saved.json", table.as_bytes());
    let node = done(&["attach", "--config", path.to_str().unwrap()]);
    assert_eq!(looks("saved"), (true, "4096".to_owned(), node.clone()));
    let (start, sectors) = EXTENT;
    let part = &disk[start * 4096..(start + sectors) * 4096];
    read::check_all(&format!("{node}p1"), part);
    done(&["detach", "saved"]);
    assert_nothing_left();
    module.unload();
}
