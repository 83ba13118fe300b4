// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Whom an attach tells of its end, and what is left when it cannot.

use super::{done, status, words};
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, stack};
use crate::cases::support::scratch::Scratch;
use crate::cases::support::tool;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A configuration of one layer whose outcome goes to `result`.
fn config(scratch: &Scratch, layer: &Path, result: &Path) -> String {
    let text = format!(r#"{{"lowers": [{{"file": {layer:?}}}], "resultFile": {result:?}}}"#);
    let path = scratch.file("config.v1.json", text.as_bytes());
    path.display().to_string()
}

/// Nothing but a regular file is ever replaced by an outcome.
pub(super) fn results() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (_, layers) = stack(&scratch, 1 << 20);
    let attach = |result: &Path| {
        let config = config(&scratch, &layers[0], result);
        tool::output("vbdctl", &["attach", "--name=web", &config])
    };
    let before = ["/dev/null", "/dev/full"].map(|path| fs::metadata(path).unwrap());

    assert!(attach(Path::new("/dev/null")).status.success());
    done(&["detach", "web"]);
    let output = attach(Path::new("/dev/full"));
    let said = String::from_utf8_lossy(&output.stderr);
    let expected =
        "vbdctl: /dev/full: cannot write the result: No space left on device (os error 28)";
    assert_eq!(said.trim(), expected);
    assert_eq!(output.status.code(), Some(1));
    assert_nothing_left();
    for (path, before) in ["/dev/null", "/dev/full"].iter().zip(before) {
        let now = fs::symlink_metadata(path).unwrap();
        assert!(now.file_type().is_char_device(), "{path}");
        assert_eq!(
            (now.rdev(), now.ino()),
            (before.rdev(), before.ino()),
            "{path}"
        );
    }

    // A pipe that is read gets the words, one that is not is an error and no wait.
    let pipe = scratch.join("pipe");
    tool::run("mkfifo", &[&pipe]);
    assert_eq!(attach(&pipe).status.code(), Some(1));
    assert_nothing_left();
    let script = r#"exec 7<>"$1"; vbdctl attach --name web "$2" >&2 && head -c 7 <&7"#;
    let config = config(&scratch, &layers[0], &pipe);
    let read = tool::run("sh", &["-c", script, "sh", pipe.to_str().unwrap(), &config]);
    assert_eq!(read, "success");
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    done(&["detach", "web"]);
    assert_nothing_left();
    module.unload();
}

/// An attach whose outcome cannot be told has failed, and leaves what was there before.
pub(super) fn untold() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (_, layers) = stack(&scratch, 1 << 20);
    let script = r#"exec vbdctl attach --name web "$1" > /dev/full"#;
    let full = || {
        let output = tool::output("sh", &["-c", script, "sh", layers[0].to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot write to standard output"), "{said}");
    };
    full();
    assert_nothing_left();
    let nowhere = config(&scratch, &layers[0], &scratch.join("no/where"));
    let output = tool::output("vbdctl", &["attach", "--name=web", &nowhere]);
    assert_eq!(output.status.code(), Some(1));
    assert_nothing_left();

    // One that was there already stays.
    let node = done(&words(&["attach", "--name=web"], &layers[..1]));
    full();
    let output = tool::output("vbdctl", &["attach", "--name=web", &nowhere]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(status("web")["device"], node.as_str());
    done(&["detach", "web"]);
    module.unload();
}
