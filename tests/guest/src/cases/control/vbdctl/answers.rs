// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A driver that does not answer everything.

use super::done;
use crate::cases::support::device::Module;
use crate::cases::support::dir::ROOT;
use crate::cases::support::scratch::Scratch;
use rustix::mount::{mount_bind, unmount, UnmountFlags};
use serde_json::{json, Value};
use std::fs;

/// The driver's directory with an attribute that cannot be read in one of its devices: that is told of
/// it, and the others are as they are. It takes a directory to stand for such an attribute.
pub(super) fn one_device_hides_no_other() {
    let module = Module::load("");
    let scratch = Scratch::in_memory();
    let attributes = [
        ("size", "0"),
        ("verify", "1"),
        ("direct", "0"),
        ("partscan", "0"),
        ("logical_block_size", "512"),
        ("read_only", "1"),
        ("device", ""),
        ("state", "off"),
        ("error", "layer 0: bad"),
        ("stat", ""),
    ];
    for name in ["a", "b", "c"] {
        let dir = scratch.join(name);
        fs::create_dir(&dir).unwrap();
        for (attribute, value) in attributes {
            let unread = name == "b" && attribute == "error" || name == "a" && attribute == "state";
            match unread {
                true => fs::create_dir(dir.join(attribute)).unwrap(),
                false => fs::write(dir.join(attribute), format!("{value}\n")).unwrap(),
            }
        }
    }
    mount_bind(&*scratch, ROOT).expect("mount --bind");
    let list = std::panic::catch_unwind(|| {
        let list: Value = serde_json::from_str(&done(&["list", "--json"])).unwrap();
        (list, done(&["list"]), done(&["status", "b"]))
    });
    unmount(ROOT, UnmountFlags::empty()).expect("umount");
    let (list, text, status) = list.expect("what vbdctl says");
    let problem =
        |attribute: &str| format!("{attribute} cannot be read: Is a directory (os error 21)");
    let device = |name: &str, state: &str, error: Value, problem: Value| {
        json!({
            "name": name, "state": state, "device": null, "size": null, "layers": 0,
            "file_bytes": 0, "present_bytes": 0, "error": error, "problem": problem,
        })
    };
    assert_eq!(
        list,
        json!({"devices": [
            device("a", "unknown", Value::Null, problem("state").into()),
            device("b", "off", Value::Null, problem("error").into()),
            device("c", "off", "layer 0: bad".into(), Value::Null),
        ]})
    );
    for words in [
        problem("state"),
        problem("error"),
        "layer 0: bad".to_owned(),
    ] {
        let lines = text.lines().filter(|line| line.ends_with(&words));
        assert_eq!(lines.count(), 1, "{text}");
    }
    assert!(
        status.contains(&format!("not known     {}", problem("error"))),
        "{status}"
    );
    module.unload();
}
