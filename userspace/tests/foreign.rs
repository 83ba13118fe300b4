// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Disk images of other programs: `convert` reads what was named and nothing else, and the disk has the
//! size and the bytes that the image says. Needs qemu-img, and says so where it is missing.

mod common;

use common::{temp_dir, vbdctl, write_sparse, Rng};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

/// Bytes that must not come into a layer unless they were named.
const SECRET: &[u8] = b"SECRET of the host\n";

fn qemu_img_is_missing(test: &str) -> bool {
    let missing = Command::new("qemu-img").arg("--version").output().is_err();
    if missing {
        // Not by a print macro: those are silent when a test passes.
        let text = format!("SKIPPED {test}: no qemu-img\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
    missing
}

#[track_caller]
fn qemu_img(dir: &Path, arguments: &str) {
    let output = Command::new("qemu-img")
        .current_dir(dir)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
}

#[track_caller]
fn done(dir: &Path, arguments: &str) {
    let output = vbdctl(dir, arguments);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{arguments}: {output:?}"
    );
}

/// Runs vbdctl, which must fail and make no file `out`; returns what it says.
#[track_caller]
fn refused(dir: &Path, arguments: &str) -> String {
    let output = vbdctl(dir, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments}: {errors}");
    assert!(!dir.join("out").exists(), "{arguments}");
    errors
}

/// The disk of a layer.
#[track_caller]
fn disk(dir: &Path, layer: &str) -> Vec<u8> {
    let output = vbdctl(dir, &format!("export {layer} -"));
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A file with the secret, 64 KiB long.
fn secret(dir: &Path) {
    let mut bytes = SECRET.to_vec();
    bytes.resize(64 << 10, 0);
    fs::write(dir.join("secret"), bytes).unwrap();
}

/// Overwrites bytes of a file.
fn patch(path: &Path, at: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

#[test]
fn an_image_that_refers_to_other_files_is_refused() {
    if qemu_img_is_missing("an_image_that_refers_to_other_files") {
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    secret(dir);
    let host = dir.join("secret");
    let host = host.display();
    qemu_img(
        dir,
        &format!("create -q -f qcow2 -b {host} -F raw back.qcow2"),
    );
    qemu_img(
        dir,
        &format!("create -q -f qcow2 -o data_file={host},data_file_raw=on data.qcow2 64K"),
    );
    // To make it took the contents.
    secret(dir);
    qemu_img(dir, "convert -f raw -O vmdk secret parent.vmdk");
    qemu_img(dir, "create -q -f vmdk -b parent.vmdk -F vmdk child.vmdk");
    let extent = format!("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 128 FLAT \"{host}\" 0\n");
    fs::write(dir.join("flat.vmdk"), &extent).unwrap();
    // A description inside what looks like an image in one file: its capacity is 0.
    fs::copy(dir.join("parent.vmdk"), dir.join("inside.vmdk")).unwrap();
    patch(&dir.join("inside.vmdk"), 12, &[0; 8]);
    let mut inside = extent.into_bytes();
    inside.resize(20 * 512, 0);
    patch(&dir.join("inside.vmdk"), 512, &inside);

    for (image, what) in [
        ("back.qcow2", "the backing file"),
        ("data.qcow2", "an external data file"),
        ("child.vmdk", "the parent that it describes"),
        ("flat.vmdk", "the extents that it describes"),
        ("inside.vmdk", "the extents that it describes"),
    ] {
        for from in ["", "--from auto "] {
            let errors = refused(dir, &format!("convert {from}{image} out"));
            assert!(
                errors.contains(&format!(
                    "{image}: takes contents from another file: {what}"
                )) && errors.contains("--allow-references"),
                "{errors}"
            );
        }
        // Asked for, they are read.
        done(dir, &format!("convert --allow-references {image} out"));
        assert!(disk(dir, "out").starts_with(SECRET), "{image}");
        fs::remove_file(dir.join("out")).unwrap();
    }
}

#[test]
fn a_parent_that_no_one_reads_is_no_zeroes() {
    if qemu_img_is_missing("a_parent_that_no_one_reads") {
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    secret(dir);
    qemu_img(dir, "convert -f raw -O vdi secret a.vdi");
    qemu_img(dir, "convert -f raw -O vhdx secret a.vhdx");
    qemu_img(dir, "convert -f raw -O vpc secret a.vhd");
    // Type 4 and the name of a parent.
    patch(&dir.join("a.vdi"), 0x4c, &[4]);
    patch(&dir.join("a.vdi"), 0x1a8, &[7; 16]);
    let mut footer = fs::read(dir.join("a.vhd")).unwrap()[..512].to_vec();
    footer[63] = 4;
    footer[64..68].fill(0);
    let sum: u32 = footer.iter().map(|&byte| u32::from(byte)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    patch(&dir.join("a.vhd"), 0, &footer);
    // The flag stands after the size of blocks in the item of the parameters.
    let vhdx = fs::read(dir.join("a.vhdx")).unwrap();
    let item = b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
    let entry = vhdx.windows(16).position(|part| part == item).unwrap();
    let table = entry - entry % 65_536;
    let at = u32::from_le_bytes(vhdx[entry + 16..entry + 20].try_into().unwrap());
    patch(&dir.join("a.vhdx"), (table + at as usize + 4) as u64, &[2]);

    for image in ["a.vdi", "a.vhdx", "a.vhd"] {
        for option in ["", "--allow-references "] {
            let errors = refused(dir, &format!("convert {option}{image} out"));
            let text =
                format!("{image}: is a differencing image: what its parent holds cannot be read");
            assert!(errors.contains(&text), "{errors}");
        }
    }
}

#[test]
fn a_raw_disk_is_never_taken_for_what_its_guest_wrote() {
    if qemu_img_is_missing("a_raw_disk_is_never_taken") {
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    secret(dir);
    let host = dir.join("secret");
    qemu_img(
        dir,
        &format!("create -q -f qcow2 -b {} -F raw guest.img", host.display()),
    );
    let written = fs::read(dir.join("guest.img")).unwrap();
    let errors = refused(dir, "convert guest.img out");
    assert!(
        errors.contains("begins as a qcow2 image: say by --from"),
        "{errors}"
    );

    done(dir, "convert --from raw guest.img out");
    let found = disk(dir, "out");
    assert!(found[..written.len()] == written && !holds(&found, SECRET));
    // Making a layer of a raw image never looks for another format, and says what it saw.
    let output = vbdctl(dir, "create guest.img created");
    assert!(output.status.success());
    let note = String::from_utf8(output.stderr).unwrap();
    assert!(
        note.contains("guest.img: begins as a qcow2 image; taken for a raw image"),
        "{note}"
    );
    assert!(disk(dir, "created") == found);
    // Nor is a layer on a disk the layer of the disk.
    done(dir, "convert --from raw created raw");
    assert!(disk(dir, "raw").starts_with(&fs::read(dir.join("created")).unwrap()));
}

#[test]
fn what_is_no_disk_is_refused() {
    let temp = temp_dir();
    let dir = temp.path();
    let mut tar = vec![0; 10_240];
    tar[..8].copy_from_slice(b"manifest");
    tar[257..265].copy_from_slice(b"ustar\x0000");
    let cases: [(&str, &[u8], &str); 6] = [
        ("a.xz", b"\xfd7zXZ\0and more", "an xz file"),
        ("a.gz", b"\x1f\x8b\x08\0and more", "a gzip file"),
        ("a.zst", b"\x28\xb5\x2f\xfdand more", "a zstd file"),
        ("config.v1.json", b"{\"lowers\":[]}", "JSON"),
        ("oci.tar", &tar, "a tar archive"),
        ("a.qed", b"QED\0and more", "a QED image"),
    ];
    for (name, bytes, what) in cases {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        fs::write(dir.join(name), &bytes).unwrap();
        for from in ["", "--from auto "] {
            let errors = refused(dir, &format!("convert {from}{name} out"));
            let text = format!("{name}: begins as {what}");
            assert!(errors.contains(&text) && errors.contains("raw"), "{errors}");
        }
        // They are bytes like any others.
        done(dir, &format!("convert --force --from raw {name} as-is"));
        assert!(disk(dir, "as-is")[..bytes.len()] == bytes);
    }
    // A name is no proof.
    fs::write(dir.join("a.qcow2"), vec![1; 4096]).unwrap();
    let errors = refused(dir, "convert a.qcow2 out");
    assert!(errors.contains("a.qcow2: is no qcow2 image"), "{errors}");
    fs::write(dir.join("b.vmdk"), b"QFI\xfb\0\0\0\x03").unwrap();
    let errors = refused(dir, "convert b.vmdk out");
    assert!(
        errors.contains("is named as a vmdk image, but begins as a qcow2 image"),
        "{errors}"
    );
}

#[test]
fn a_vhd_is_as_large_as_it_says() {
    if qemu_img_is_missing("a_vhd_is_as_large_as_it_says") {
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    // No geometry of cylinders has this size.
    let image = Rng::new(4).noise(3 * 1_000_448);
    write_sparse(&dir.join("d"), &image);
    for (subformat, name) in [("fixed", "f.vhd"), ("dynamic", "d.vhd")] {
        qemu_img(
            dir,
            &format!("convert -f raw -O vpc -o subformat={subformat},force_size=on d {name}"),
        );
        for arguments in ["convert", "convert --from vhd", "convert --from auto"] {
            done(dir, &format!("{arguments} --force {name} out"));
            assert!(disk(dir, "out") == image, "{arguments} {name}");
        }
    }
    fs::remove_file(dir.join("out")).unwrap();
    // The first sector of a fixed one is the guest's: a header there is none.
    let dynamic = fs::read(dir.join("d.vhd")).unwrap();
    patch(&dir.join("f.vhd"), 0, &dynamic[..2048]);
    done(dir, "convert --from vhd f.vhd out");
    let found = disk(dir, "out");
    assert!(found[..2048] == dynamic[..2048] && found[2048..] == image[2048..]);
    fs::remove_file(dir.join("out")).unwrap();
    // Without a name that says it, it is no raw image either.
    fs::rename(dir.join("f.vhd"), dir.join("f")).unwrap();
    let errors = refused(dir, "convert f out");
    assert!(
        errors.contains("f: begins as a vhd image: say by --from"),
        "{errors}"
    );
    // One that is cut off is not filled up with zeroes.
    let whole = fs::read(dir.join("f")).unwrap();
    let cut = [&whole[512..image.len()], &whole[image.len()..]].concat();
    fs::write(dir.join("cut.vhd"), cut).unwrap();
    let errors = refused(dir, "convert cut.vhd out");
    assert!(errors.contains("is cut off"), "{errors}");
}

#[test]
fn no_name_of_a_file_is_more_than_a_name() {
    if qemu_img_is_missing("no_name_of_a_file_is_more") {
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    let image = Rng::new(5).noise(128 << 10);
    fs::write(dir.join("d"), &image).unwrap();
    qemu_img(dir, "convert -f raw -O qcow2 d q");
    for name in [
        "nbd:x",
        "json:{}",
        "a,b=c",
        "-q",
        "driver=raw,x",
        "new\nline",
        "fat:rw:.",
    ] {
        fs::copy(dir.join("q"), dir.join(name)).unwrap();
        for references in [&[] as &[&str], &["--allow-references"]] {
            let output = Command::new(env!("CARGO_BIN_EXE_vbdctl"))
                .current_dir(dir)
                .args(["convert", "--force", "--from", "qcow2"])
                .args(references)
                .args(["--", name, "out"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{name}: {output:?}");
            assert!(disk(dir, "out") == image, "{name}");
        }
    }
    // All that came is what was asked for.
    assert_eq!(fs::read_dir(dir).unwrap().count(), 3 + 7);
}
