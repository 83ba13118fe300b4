// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reads of several readers that the block layer joins into one request fail one by one.
//!
//! ext4 asks for the blocks of an inode table ahead, each by itself, and the block layer joins
//! them. With one of them bad, the files in all others have to be there.

use super::super::support::damage::{Image, BLOCK};
use super::super::support::device::{self, DEVICE};
use super::super::support::scratch::{Mounted, Scratch};
use super::super::support::tool;
use crate::case::Case;
use std::fs;
use std::os::unix::fs::MetadataExt;

pub(in super::super) const CASES: &[Case] = crate::cases::cases![inode_table];

const FILES: usize = 300;
/// Bytes of an inode of the file system.
const INODE: u64 = 256;

fn inode_table() {
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    fs::create_dir(&tree).expect("the tree");
    for number in 0..FILES {
        fs::write(tree.join(format!("file-{number:03}")), format!("{number}")).expect("a file");
    }
    let raw = scratch.file("raw", b"");
    fs::File::create(&raw)
        .and_then(|file| file.set_len(4 << 20))
        .expect("the image");
    let path = raw.display().to_string();
    tool::run(
        "mkfs.ext4",
        &[
            "-q",
            "-F",
            "-b",
            "4096",
            "-I",
            "256",
            "-N",
            "512",
            "-O",
            "^has_journal,^metadata_csum",
            "-E",
            "lazy_itable_init=0",
            "-d",
            &tree.display().to_string(),
            &path,
        ],
    );
    let table = tool::run("dumpe2fs", &[&path]);
    let table = table.lines().find_map(|line| {
        let (_, rest) = line.split_once("Inode table at ")?;
        rest.split('-').next()?.trim().parse().ok()
    });
    let table: usize = table.expect("the inode table's first block");

    let mut image = Image::new(fs::read(&raw).expect("the image"), 1);
    let place = scratch.join("place");
    let attached = |image: &Image, bytes: &[u8], inodes: &mut Vec<(String, u64, bool)>| {
        let module = image.attach(bytes, "");
        let mounted = Mounted::new(DEVICE, &place, "ext4", true);
        let list = fs::read_dir(&place).expect("the directory");
        let mut names: Vec<_> = list
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        for name in names {
            let metadata = fs::metadata(place.join(&name));
            let number = metadata.as_ref().map(MetadataExt::ino).unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            inodes.push((name, number, metadata.is_ok()));
        }
        drop(mounted);
        let joined = device::attribute("stat");
        let joined = joined.split_whitespace().nth(1).map(str::to_string);
        let faults = module.faults();
        module.unload();
        (faults, joined)
    };

    let mut good = Vec::new();
    let (faults, joined) = attached(&image, &image.build(), &mut good);
    assert_eq!(faults, device::Faults::default());
    // Without this the case would not be about what it says.
    assert_ne!(
        joined.as_deref(),
        Some("0"),
        "no read was joined to another"
    );
    assert!(good.len() > FILES && good.iter().all(|(_, _, there)| *there));

    // The fifth block of the table holds inodes 65 to 80 and no file that is needed to mount.
    let bad = 4;
    image.block_mut(table + bad);
    let mut bytes = image.build();
    bytes[image.stored_at(table + bad)] ^= 1;
    let mut found = Vec::new();
    let (faults, _) = attached(&image, &bytes, &mut found);
    assert!(faults.errors >= 1 && faults.crc >= 2, "{faults:?}");
    assert_eq!(found.len(), good.len());
    let per_block = BLOCK as u64 / INODE;
    let mut lost = 0;
    for ((name, inode, _), (_, _, there)) in good.iter().zip(&found) {
        let block = (inode - 1) / per_block;
        assert_eq!(
            *there,
            block != bad as u64,
            "{name}, inode {inode} in block {block}"
        );
        lost += usize::from(!there);
    }
    assert_eq!(lost as u64, per_block);
}
