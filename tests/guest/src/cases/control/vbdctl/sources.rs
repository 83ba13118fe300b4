// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Where layers and the driver come from: files that others cannot see, configurations, modprobe.

use super::{done, fails, status, words};
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, stack};
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool;
use crate::modules;
use serde_json::{json, Value};
use std::fs;
use std::path::Path;

/// Layers that only the caller can see: they are passed as descriptors.
pub(super) fn another_mount_namespace() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let hidden = scratch.join("hidden");
    fs::create_dir(&hidden).unwrap();
    let script = format!(
        "mount -t tmpfs none {0} && cp {1} {0}/a && cp {2} {0}/b && cd {0} && \
         vbdctl attach --name web a b",
        hidden.display(),
        layers[0].display(),
        layers[1].display(),
    );
    let node = tool::run("unshare", &["-m", "sh", "-c", &script]);
    assert!(
        !hidden.join("a").exists(),
        "the file system should not be seen from here"
    );
    read::check_all(&node, &disk);
    let found = status("web");
    assert_eq!(found["layers"][0]["path"], json!(hidden.join("a")));
    assert_ne!(found["layers"][0]["problem"], Value::Null);
    done(&["detach", "web"]);
    assert_nothing_left();
    module.unload();
}

/// overlaybd's `config.v1.json`, with files and directories.
pub(super) fn configurations() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let snapshot = scratch.join("snapshot");
    fs::create_dir(&snapshot).unwrap();
    fs::copy(&layers[1], snapshot.join(".commit")).unwrap();
    let result = scratch.join("result");
    let config = |more: &str| {
        let text = format!(
            r#"{{"repoBlobUrl": "https://registry/v2/x/blobs", "lowers": [
                {{"file": {:?}, "digest": "sha256:0", "size": 1}}, {{"dir": {snapshot:?}}}],
                "upper": {{}}, "resultFile": {result:?}{more}}}"#,
            layers[0]
        );
        scratch
            .file("config.v1.json", text.as_bytes())
            .display()
            .to_string()
    };
    let path = config("");
    let node = done(&["attach", "--name=web", &path]);
    read::check_all(&node, &disk);
    assert_eq!(fs::read_to_string(&result).unwrap(), "success");
    assert_eq!(done(&["attach", "--name=web", &path]), node);
    done(&["detach", "web"]);

    let path = config(r#", "accelerationLayer": true"#);
    let said = fails(&["attach", "--name=web", &path]);
    assert_eq!(
        said,
        format!("{path}: accelerationLayer: prefetching is not supported")
    );
    assert_eq!(
        fs::read_to_string(&result).unwrap(),
        format!("failed:{said}")
    );
    fs::write(snapshot.join("overlaybd.commit"), "damaged").unwrap();
    let said = fails(&["attach", "--name=web", &config("")]);
    assert!(said.contains("overlaybd.commit): lsmt offset 0"), "{said}");
    assert_eq!(
        fs::read_to_string(&result).unwrap(),
        format!("failed:{said}")
    );
    assert_nothing_left();
    module.unload();
}

pub(super) fn saved_tables() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let names: Vec<&Path> = layers
        .iter()
        .map(|path| Path::new(path.file_name().unwrap()))
        .collect();
    let table = json!({"layers": names, "size": 2 << 20, "verify": false}).to_string();
    let path = scratch
        .file("root.json", table.as_bytes())
        .display()
        .to_string();
    let node = done(&["attach", "--config", &path]);
    let found = status("root");
    assert_eq!(found["device"], json!(node));
    assert_eq!(found["verify"], false);
    read::check(&read::buffered(&node), &disk, 0, 1 << 20);
    assert_eq!(done(&["attach", "--config", &path, "--name=root"]), node);
    // The command line has the last word.
    let said = fails(&["attach", "--config", &path, "--verify=1"]);
    assert!(said.ends_with("verify is 0, not 1"), "{said}");
    done(&["detach", "root"]);
    module.unload();
}

pub(super) fn loads_the_driver() {
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    assert!(!modules::is_loaded("vbd"));
    assert_eq!(
        done(&["list"]),
        "NAME  DEVICE  STATE  SIZE  LAYERS  PRESENT  ERROR"
    );
    assert_eq!(done(&["detach", "--all"]), "");
    assert!(fails(&["detach", "web"]).starts_with("the driver is not there"));
    rustix::mount::unmount("/sys/kernel/config", rustix::mount::UnmountFlags::empty()).unwrap();
    let node = done(&words(&["attach", "--name=web"], &layers));
    read::check_all(&node, &disk);
    done(&["detach", "web"]);
    assert_nothing_left();
    assert_eq!(modules::unload("vbd"), Ok(()));
}

/// The device of the module's parameters is shown, and is not configfs's to take away.
pub(super) fn device_of_parameters() {
    let scratch = Scratch::new();
    let (_, layers) = stack(&scratch, 1 << 20);
    let module = Module::stack(&layers, "");
    let list: Value = serde_json::from_str(&done(&["list", "--json"])).unwrap();
    assert_eq!(list["devices"][0]["name"], Value::Null);
    assert_eq!(list["devices"][0]["device"], "/dev/vbd0");
    assert_eq!(list["devices"][0]["size"], 1 << 20);
    let said = fails(&["detach", "/dev/vbd0"]);
    assert!(said.contains("module's parameters"), "{said}");
    let node = done(&words(&["attach", "--name=web"], &layers));
    assert_eq!(node, "/dev/vbd1");
    done(&["detach", "--all"]);
    module.unload();
}
