// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The verbs for devices, from end to end.

mod answers;
mod busy;
mod failures;
mod nodes;
mod odd;
mod sources;
mod table;
mod udev;

use crate::case::Case;
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, stack, Dir};
use crate::cases::support::read;
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool;
use rustix::io::Errno;
use serde_json::{json, Value};
use std::fs;
use std::path::PathBuf;

macro_rules! cases {
    ($($name:ident: $run:path,)*) => {
        pub(crate) const CASES: &[Case] = &[$(Case { name: stringify!($name), run: $run },)*];
    };
}

cases! {
    attach_is_idempotent: attach_is_idempotent,
    names_and_paths: names_and_paths,
    what_a_killed_program_leaves: what_a_killed_program_leaves,
    errors_come_through: errors_come_through,
    odd_files: odd::files,
    odd_names: odd::names,
    json_fields: json_fields,
    one_device_hides_no_other: answers::one_device_hides_no_other,
    replaced_layers: replaced_layers,
    layers_that_were_written_to_are_other_layers: written_layers,
    another_mount_namespace: sources::another_mount_namespace,
    configurations: sources::configurations,
    saved_tables: sources::saved_tables,
    loads_the_driver: sources::loads_the_driver,
    device_of_parameters: sources::device_of_parameters,
    busy_is_explained: busy::is_explained,
    busy_by_devices: busy::by_devices,
    busy_by_what_has_no_mount: busy::by_hidden_mounts,
    waits_for_programs: busy::waits_for_programs,
    detach_all_in_order: busy::all_in_order,
    dm_table_works: table::works,
    dm_table_knows_whose_trailer: table::whose_trailer,
    udev_names: udev::links,
    udev_links_by_contents: udev::links_by_contents,
    the_link_is_there_when_attach_returns: udev::the_link_is_there,
    results_replace_nothing_but_files: failures::results,
    a_device_that_nobody_was_told_of_does_not_stay: failures::untold,
    nodes_on_a_static_dev: nodes::on_a_static_dev,
    partitions_and_sectors: nodes::partitions_and_sectors,
}

/// Runs vbdctl, which has to succeed; what it printed.
fn done(arguments: &[&str]) -> String {
    tool::run("vbdctl", arguments)
}

/// Runs vbdctl, which has to fail with status 1; what it said, without the program's name.
#[track_caller]
fn fails(arguments: &[&str]) -> String {
    let output = tool::output("vbdctl", arguments);
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    said.strip_prefix("vbdctl: ")
        .expect("the program's name")
        .to_string()
}

/// Words of a command line: options and then layers.
fn words<'a>(options: &[&'a str], layers: &'a [PathBuf]) -> Vec<&'a str> {
    let layers = layers.iter().map(|path| path.to_str().unwrap());
    options.iter().copied().chain(layers).collect()
}

fn status(name: &str) -> Value {
    serde_json::from_str(&done(&["status", "--json", name])).unwrap()
}

fn attach_is_idempotent() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let alias = scratch.join("alias");
    fs::hard_link(&layers[0], &alias).unwrap();
    let attach = |options: &[&str]| {
        words(&[&["attach", "--name=web"], options].concat(), &layers)
            .into_iter()
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    let run = |options: &[&str]| tool::run("vbdctl", &attach(options));
    let node = run(&[]);
    assert_eq!(node, "/dev/vbd0");
    read::check_all(&node, &disk);
    let open = read::buffered(&node);
    assert_eq!(run(&[]), node, "the same again");
    assert_eq!(run(&["--verify=1"]), node, "the default spelt out");
    // The same files under other names are the same stack.
    let other = [alias, layers[1].clone()];
    assert_eq!(done(&words(&["attach", "--name=web"], &other)), node);
    read::check(&open, &disk, 0, 4096);

    let refused = |arguments: &[&str], reason: &str| {
        let said = fails(arguments);
        let expected = format!("web: is attached as another stack: {reason}");
        assert!(said.starts_with(&expected), "{said}");
    };
    let name = ["attach", "--name=web"];
    refused(&words(&name, &layers[..1]), "it has 2 layers, not 1");
    let swapped = [layers[1].clone(), layers[0].clone()];
    let first = layers[0].display();
    refused(
        &words(&name, &swapped),
        &format!("layer 0 is {first}, not "),
    );
    let option = ["attach", "--name=web", "--verify=0"];
    refused(&words(&option, &layers), "verify is 1, not 0");
    let option = ["attach", "--name=web", "--size=2M"];
    refused(&words(&option, &layers), "size is 0, not 2097152");
    drop(open);
    done(&["detach", "web"]);
    assert_nothing_left();
    module.unload();
}

fn names_and_paths() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let first = done(&words(&["attach"], &layers));
    assert_eq!(
        done(&words(&["attach"], &layers)),
        first,
        "a name of the stack's own"
    );
    let second = done(&words(&["attach", "--verify=0"], &layers));
    let third = done(&words(&["attach", "--size=512K"], &layers));
    assert_eq!(
        [&*first, &*second, &*third],
        ["/dev/vbd0", "/dev/vbd1", "/dev/vbd2"]
    );
    read::check_all(&third, &disk[..512 << 10]);
    let name = status(&second)["name"].as_str().unwrap().to_string();
    assert!(name.starts_with("stack-"), "{name}");
    assert_eq!(done(&["udev-name", "vbd1"]), name);
    assert_eq!(
        fails(&["udev-name", "vbd7"]),
        "vbd7: not attached by a name"
    );
    // By name, by path, by a link to that, and by the bare name of the disk.
    let link = scratch.join("link");
    std::os::unix::fs::symlink(&third, &link).unwrap();
    let relative = format!(".{}", link.display());
    assert_eq!(std::env::current_dir().unwrap(), PathBuf::from("/"));
    assert_eq!(status(&relative)["device"], third.as_str());
    done(&["detach", &name, &relative, "vbd0"]);
    assert_nothing_left();
    for word in [
        "web",
        "/dev/vbd0",
        "/dev/null",
        "vbd0",
        "/nowhere",
        "..",
        ".",
    ] {
        let said = fails(&["detach", word]);
        assert_eq!(said, format!("{word}: there is no such device"));
    }
    for name in ["", ".x", "a/b", "vbd3", "-x", "a b"] {
        let name = format!("--name={name}");
        let output = tool::output("vbdctl", &words(&["attach", &name], &layers));
        assert_eq!(output.status.code(), Some(2), "{name}");
    }
    assert_eq!(done(&["list", "--json"]), "{\n  \"devices\": []\n}");
    done(&["detach", "--all"]);
    module.unload();
}

/// A program that is killed at any step leaves a device that is off, with some of its layers.
fn what_a_killed_program_leaves() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let leave = |layers: &[PathBuf]| {
        let dir = Dir::new("web");
        dir.set("size", "1024").unwrap();
        for (number, layer) in layers.iter().enumerate() {
            dir.layer(number, layer).unwrap();
        }
        dir.make_below("9").unwrap();
    };
    leave(&layers);
    assert_eq!(status("web")["state"], "off");
    done(&["detach", "web"]);
    assert_nothing_left();
    leave(&layers[..1]);
    let node = done(&words(&["attach", "--name=web"], &layers));
    read::check_all(&node, &disk);
    done(&["detach", "web"]);
    assert_nothing_left();
    module.unload();
}

fn errors_come_through() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (_, layers) = stack(&scratch, 1 << 20);
    let mut damaged = fs::read(&layers[1]).unwrap();
    damaged[40] ^= 1;
    let bad = scratch.file("damaged one", &damaged);
    let stack = [layers[0].clone(), bad.clone()];
    let said = fails(&words(&["attach", "--name=web"], &stack));
    let begin = format!(
        "web: cannot be attached: layer 1 ({}): zfile offset ",
        bad.display()
    );
    assert!(said.starts_with(&begin), "{said}");
    assert!(said.ends_with("(os error 74)"), "{said}");
    assert_nothing_left();

    let missing = scratch.join("missing");
    let said = fails(&words(
        &["attach", "--name=web"],
        &[layers[0].clone(), missing.clone()],
    ));
    let expected = "cannot open: No such file or directory (os error 2)";
    assert_eq!(said, format!("{}: {expected}", missing.display()));
    let expected = "/tmp: is a directory, and no regular file or block device";
    assert_eq!(fails(&["attach", "/tmp"]), expected);
    let expected = "/dev/null: is a character device, and no regular file or block device";
    assert_eq!(fails(&["attach", "/dev/null"]), expected);
    let many: Vec<&str> = ["attach"].into_iter().chain(["/init"; 256]).collect();
    assert!(fails(&many).contains("256"), "{}", fails(&many));
    assert_nothing_left();
    module.unload();
}

fn json_fields() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (_, layers) = stack(&scratch, 1 << 20);
    let node = done(&words(
        &["attach", "--name=web", "--verify=0", "--size=2M"],
        &layers,
    ));
    let size = |number: usize| fs::metadata(&layers[number]).unwrap().len();
    let mut found = status("web");
    for key in ["present_bytes", "file_bytes"] {
        assert!(found[key].as_u64() > Some(0), "{key}");
        found[key] = json!(0);
    }
    for layer in found["layers"].as_array_mut().unwrap() {
        assert!(layer["present_bytes"].as_u64() > Some(0));
        layer["present_bytes"] = json!(0);
    }
    let counters = found["counters"].as_object().unwrap();
    for name in ["requests", "bytes", "errors", "crc_errors", "rereads"] {
        assert!(counters[name].is_u64(), "counter {name}");
    }
    found["counters"] = json!({});
    let layer = |number: usize, format: &str| {
        json!({
            "number": number, "path": layers[number], "file_size": size(number),
            "present_bytes": 0, "format": format, "wrapper": null,
            "virtual_size": 1 << 20, "problem": null,
        })
    };
    assert_eq!(
        found,
        json!({
            "name": "web", "state": "on", "device": node, "size": 2 << 20,
            "requested_size": 2 << 20, "verify": false, "direct": false, "partscan": false,
            "sector_size": 512, "read_only": true,
            "layers": [layer(0, "plain"), layer(1, "lz4")],
            "file_bytes": 0, "present_bytes": 0, "counters": {}, "error": null,
            "problem": null, "holders": [],
        })
    );
    let dir = Dir::new("off");
    let errno = dir.set("power", "1").unwrap_err();
    assert_eq!(errno, Errno::INVAL);
    let list: Value = serde_json::from_str(&done(&["list", "--json"])).unwrap();
    let present = &list["devices"][1]["present_bytes"];
    assert_eq!(
        list,
        json!({"devices": [
            {
                "name": "off", "state": "off", "device": null, "size": null, "layers": 0,
                "file_bytes": 0, "present_bytes": 0, "error": dir.get("error"),
                "problem": null,
            },
            {
                "name": "web", "state": "on", "device": node, "size": 2 << 20, "layers": 2,
                "file_bytes": size(0) + size(1), "present_bytes": present, "error": null,
                "problem": null,
            },
        ]})
    );
    let text = done(&["list"]);
    assert!(
        text.starts_with("NAME  DEVICE     STATE  SIZE  LAYERS  PRESENT"),
        "{text}"
    );
    let text = done(&["status", "web"]);
    assert!(text.contains("block checksums not verified"), "{text}");
    dir.remove().unwrap();
    done(&["detach", "web"]);
    module.unload();
}

/// A file that takes a layer's place is another layer, and the device still has the old one.
fn replaced_layers() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let node = done(&words(&["attach", "--name=web"], &layers));
    let copy = scratch.join("copy");
    fs::copy(&layers[1], &copy).unwrap();
    fs::rename(&copy, &layers[1]).unwrap();
    let said = fails(&words(&["attach", "--name=web"], &layers));
    assert!(
        said.contains("was another file when it was attached"),
        "{said}"
    );
    let found = status("web");
    assert_eq!(found["layers"][0]["problem"], Value::Null);
    assert_eq!(
        found["layers"][1]["problem"],
        "another file has the path now"
    );
    assert_eq!(found["layers"][1]["file_size"], Value::Null);
    fs::remove_file(&layers[1]).unwrap();
    let problem = status("web")["layers"][1]["problem"].to_string();
    assert!(problem.contains("No such file"), "{problem}");
    read::check_all(&node, &disk);
    done(&["detach", "web"]);
    module.unload();
}

/// Attaching twice is attaching once only as long as the files hold the same: the driver keeps the
/// index that it has read.
fn written_layers() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (_, layers) = stack(&scratch, 1 << 20);
    let path = layers[1].display();
    let node = done(&words(&["attach", "--name=web"], &layers));
    let before = fs::metadata(&layers[1]).unwrap();
    let mut bytes = fs::read(&layers[1]).unwrap();
    bytes[1000] ^= 1;
    let refused = |words_of_it: &str, problem: &str| {
        let said = fails(&words(&["attach", "--name=web"], &layers));
        let begin = format!("web: is attached as another stack: layer 1 ({path}) {words_of_it}");
        assert!(said.starts_with(&begin), "{said}");
        let found = status("web");
        assert_eq!(found["layers"][0]["problem"], Value::Null);
        let told = found["layers"][1]["problem"].as_str().unwrap_or_default();
        assert!(told.starts_with(problem), "{told}");
        assert_eq!(found["device"], json!(node), "it stays attached");
    };
    // As many bytes as before, in place.
    fs::write(&layers[1], &bytes).unwrap();
    refused("was written to since then", "was written to since");
    // The time that says so can be set back, the other one cannot.
    let file = fs::File::options().write(true).open(&layers[1]).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    refused("got other names, owner or mode", "got other names");
    done(&["detach", "web"]);
    // Nothing was wrong with the files as they are when they are attached.
    bytes[1000] ^= 1;
    fs::write(&layers[1], &bytes).unwrap();
    let node = done(&words(&["attach", "--name=web"], &layers));
    assert_eq!(done(&words(&["attach", "--name=web"], &layers)), node);
    done(&["detach", "web"]);
    assert_nothing_left();
    module.unload();
}
