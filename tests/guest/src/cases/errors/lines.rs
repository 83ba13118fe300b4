// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the log says of a read that failed: which device, which layer, where in it, and why.

use super::super::support::defect::{self, Cause};
use super::super::support::device::{Module, DEVICE};
use super::super::support::dir::{assert_nothing_left, Dir};
use super::super::support::kmsg::Log;
use super::super::support::read;
use super::super::support::scratch::Scratch;
use super::super::support::storage::Failing;
use super::super::support::tool::{self, Loop};
use super::storage::truncate;
use crate::case::Case;
use rustix::io::Errno;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub(in super::super) const CASES: &[Case] = crate::cases::cases![
    device_layer_and_place_of_each_fault,
    the_device_that_it_is,
    a_long_path_leaves_room_for_the_reason,
];

/// A read of the bad block brings `EIO`, and just this line.
#[track_caller]
fn told(disk: &str, layer: &Path, rule: &str, name: &str) {
    let bad = defect::bad();
    read::drop_caches();
    let log = Log::mark();
    read::check_eio(&read::direct(disk), bad.start as u64, bad.len());
    let device = disk.strip_prefix("/dev/").unwrap();
    let line = format!(
        "{device}: read of bytes {}..{}: layer 1 ({}): {rule}",
        bad.start,
        bad.end,
        layer.display()
    );
    assert_eq!(log.vbd_errors(), [line], "{name}");
}

fn device_layer_and_place_of_each_fault() {
    for defect in defect::all() {
        let scratch = Scratch::new();
        let bottom = scratch.file("bottom", &defect::bottom());
        let file = scratch.file("layer", &defect.file);
        let attach = |layer: &Path| Module::stack(&[&*bottom, layer], "");
        match defect.cause {
            Cause::Bytes => {
                let module = attach(&file);
                told(DEVICE, &file, &defect.rule, defect.name);
                module.unload();
            }
            Cause::Cut(size) => {
                let module = attach(&file);
                truncate(&file, size);
                told(DEVICE, &file, &defect.rule, defect.name);
                module.unload();
            }
            Cause::Sectors(bad) => {
                let below = Loop::new(&file);
                let failing = Failing::new(&below.path(), bad);
                read::read_ahead(&failing.disk(), 0);
                let path = PathBuf::from(failing.path());
                let module = attach(&path);
                told(DEVICE, &path, &defect.rule, defect.name);
                module.unload();
            }
        }
    }
}

/// Several devices with the same bad layer, by different names: each is told by its own.
fn the_device_that_it_is() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let defect = defect::all().remove(0);
    let bottom = scratch.file("bottom", &defect::bottom());
    let devices: Vec<(Dir, PathBuf)> = ["a", "b", "c"]
        .into_iter()
        .map(|name| {
            let layer = scratch.file(name, &defect.file);
            (Dir::attach(name, &[&bottom, &layer]), layer)
        })
        .collect();
    for (dir, layer) in &devices {
        told(&dir.disk(), layer, &defect.rule, defect.name);
    }
    for (dir, _) in devices {
        dir.detach();
    }
    assert_nothing_left();
    module.unload();
}

/// A path of as many bytes as one may have, and with bytes that messages show as four: the reason
/// is in `error` and in the log, and no other device is less visible for it.
fn a_long_path_leaves_room_for_the_reason() {
    const REASON: &str =
        "): lsmt offset 0: no layer magic at the start: not an overlaybd layer (found 0)";
    let module = Module::load("");
    let scratch = Scratch::in_memory();
    let good = scratch.file("good", &defect::bottom());
    let other = Dir::attach("other", &[&good]);
    let node = other.disk();
    let dir = Dir::new("a");
    dir.make_below("0").unwrap();
    for byte in [b'd', 0xe9] {
        let mut path = scratch.to_path_buf();
        // Room for a last name, and for the NUL.
        while path.as_os_str().len() + 1 + 200 < 4090 {
            path.push(OsStr::from_bytes(&[byte; 200]));
        }
        std::fs::create_dir_all(&path).expect("directories");
        path.push("n".repeat(4090 - path.as_os_str().len() - 1));
        assert_eq!(path.as_os_str().len(), 4090);
        std::fs::write(&path, vec![0; 64 << 10]).expect("a file of zeroes");
        dir.set_bytes("0/path", path.as_os_str().as_bytes())
            .unwrap();
        assert_eq!(
            dir.get_bytes("0/path"),
            [path.as_os_str().as_bytes(), b"\n"].concat()
        );
        let log = Log::mark();
        assert_eq!(dir.set("power", "1"), Err(Errno::INVAL));
        let error = dir.get("error");
        let begin = format!("layer 0 ({}/", scratch.display());
        assert!(error.starts_with(&begin), "{error}");
        assert!(error.contains("...") && error.len() < 700, "{error}");
        assert!(error.ends_with(&format!("n{REASON}")), "{error}");
        assert_eq!(log.vbd_errors(), [&*error]);

        let list: Value =
            serde_json::from_str(&tool::run("vbdctl", &["list", "--json"])).expect("JSON");
        let [bad, fine] = list["devices"].as_array().expect("devices").as_slice() else {
            panic!("{list:#}");
        };
        assert_eq!(bad["name"], "a");
        assert_eq!(bad["error"], error);
        assert_eq!(bad["problem"], Value::Null);
        assert_eq!(
            (&fine["name"], &fine["device"]),
            (&"other".into(), &node.clone().into())
        );
        let status = tool::run("vbdctl", &["status", "a"]);
        assert!(
            status.contains(&format!("last error    {error}")),
            "{status}"
        );
    }
    // A file that cannot be opened is told in the same way.
    let missing = scratch.join("x".repeat(300)).display().to_string();
    assert_eq!(dir.set("0/path", &missing), Err(Errno::NAMETOOLONG));
    let errno = "cannot be opened (ENAMETOOLONG)";
    let error = dir.get("error").replace("Error(36)", "ENAMETOOLONG");
    assert_eq!(error, format!("layer 0 ({missing}): {errno}"));
    dir.clear().unwrap();
    other.detach();
    assert_nothing_left();
    module.unload();
}
