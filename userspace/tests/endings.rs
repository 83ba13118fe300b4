// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! How work ends: whatever ends it, no program goes on and no unfinished file stays, and a result has its
//! name on every file system that can give it one.

mod common;
#[path = "common/fuse.rs"]
mod fuse;

use common::{make, temp_dir, vbdctl, write_sparse, Rng};
use fuse::Fuse;
use rustix::process::{kill_process, Pid, Signal};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vbdctl::image::Options;

/// Names in a directory, hidden ones too.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Waits until `found` says something.
#[track_caller]
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory `bin` with programs of the names that vbdctl starts. They say who they are in the file
/// `started`, and work until they are ended.
fn endless_programs(dir: &Path) -> PathBuf {
    let bin = dir.join("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["mkfs.ext4", "mkfs.erofs", "qemu-img"] {
        let text = "#!/bin/sh\n[ \"$1\" = --help ] && exit\necho $$ >started.tmp\n\
                    mv started.tmp started\nexec sleep 1000\n";
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    bin
}

/// A run of vbdctl, which ends with the test whatever that finds.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts vbdctl in `dir` with the programs of `bin`, and waits for one of them; returns its number.
fn start(dir: &Path, bin: &Path, arguments: &str) -> (Run, Pid) {
    let path = std::env::var("PATH").unwrap();
    // Whatever runs the tests in the background may have signals ignored, which is inherited.
    let child = Command::new("prlimit")
        .current_dir(dir)
        .env("PATH", format!("{}:{path}", bin.display()))
        .args(["--core=0", "env"])
        .args([
            "--default-signal=INT,TERM,HUP,QUIT",
            env!("CARGO_BIN_EXE_vbdctl"),
        ])
        .args(arguments.split(' '))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = wait_for("program", || fs::read_to_string(dir.join("started")).ok());
    fs::remove_file(dir.join("started")).unwrap();
    let program = Pid::from_raw(started.trim().parse().unwrap()).unwrap();
    (Run(child), program)
}

/// How vbdctl ended, which it has to.
#[track_caller]
fn ending(run: &mut Run) -> ExitStatus {
    wait_for("end of vbdctl", || run.0.try_wait().unwrap())
}

fn is_alive(program: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", program.as_raw_nonzero()));
    // Who has ended and has not been waited for is a zombie.
    status.is_ok_and(|status| !status.contains(") Z "))
}

#[test]
fn programs_end_with_the_tool() {
    let temp = temp_dir();
    let dir = temp.path();
    let bin = endless_programs(dir);
    fs::create_dir(dir.join("tree")).unwrap();
    fs::write(dir.join("q.qcow2"), b"QFI\xfb\0\0\0\x03").unwrap();
    let before = names(dir);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::KILL] {
        for arguments in [
            "create --fs ext4 tree out",
            "create --fs erofs tree out",
            "convert q.qcow2 out",
        ] {
            let (mut run, program) = start(dir, &bin, arguments);
            assert!(is_alive(program));
            kill_process(Pid::from_child(&run.0), signal).unwrap();
            let status = ending(&mut run);
            assert_eq!(status.signal(), Some(signal.as_raw()), "{arguments}");
            wait_for("end of the program", || (!is_alive(program)).then_some(()));
            assert_eq!(names(dir), before, "{arguments}");
        }
    }
}

#[test]
fn a_signal_leaves_nothing_where_files_have_hidden_names() {
    let temp = temp_dir();
    let dir = temp.path();
    let mount = dir.join("mount");
    fs::create_dir(&mount).unwrap();
    let bin = endless_programs(dir);
    fs::create_dir(dir.join("tree")).unwrap();
    let Some(_fuse) = Fuse::mount("a_signal_leaves_nothing", &mount, true) else {
        return;
    };
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let (mut run, program) = start(dir, &bin, "create tree mount/out");
        assert_eq!(names(&mount).len(), 1);
        // Nobody else can look into what is not complete.
        let hidden = mount.join(&names(&mount)[0]);
        let mode = hidden.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        kill_process(Pid::from_child(&run.0), signal).unwrap();
        let status = ending(&mut run);
        assert_eq!(status.signal(), Some(signal.as_raw()));
        wait_for("end of the program", || (!is_alive(program)).then_some(()));
        assert!(names(&mount).is_empty(), "{:?}", names(&mount));
    }
}

#[test]
fn a_signal_that_was_ignored_stays_so() {
    let temp = temp_dir();
    let dir = temp.path();
    let bin = endless_programs(dir);
    fs::create_dir(dir.join("tree")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let child = Command::new("env")
        .current_dir(dir)
        .env("PATH", format!("{}:{path}", bin.display()))
        .args(["--default-signal=TERM", "--ignore-signal=HUP"])
        .args([env!("CARGO_BIN_EXE_vbdctl"), "create", "tree", "out"])
        .spawn()
        .unwrap();
    let mut run = Run(child);
    wait_for("program", || dir.join("started").exists().then_some(()));
    // As nohup does it: a terminal that goes away ends nothing.
    kill_process(Pid::from_child(&run.0), Signal::HUP).unwrap();
    kill_process(Pid::from_child(&run.0), Signal::TERM).unwrap();
    let status = ending(&mut run);
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
}

/// Images `a.img` and `b.img`, and a layer `a` of the first.
fn images() -> TempDir {
    let temp = temp_dir();
    let dir = temp.path();
    let mut disk = Rng::new(1).text(300_000);
    disk.resize(1_000_448, 0);
    make(dir, "a", &disk, None, &Options::default());
    disk[8192..12_288].fill(0);
    write_sparse(&dir.join("b.img"), &disk);
    temp
}

#[test]
fn results_get_their_names_without_links() {
    let temp = images();
    let dir = temp.path();
    let mount = dir.join("mount");
    fs::create_dir(&mount).unwrap();
    fs::create_dir(dir.join("tree")).unwrap();
    fs::write(dir.join("tree/file"), vec![5; 100_000]).unwrap();
    let Some(_fuse) = Fuse::mount("results_get_their_names_without_links", &mount, true) else {
        return;
    };
    for arguments in [
        "create a.img",
        "create --base a b.img",
        "convert -f zstd a",
        "convert a.img",
        "merge --bottom a",
        "export a",
        "create --fs ext4 --size 8M tree",
    ] {
        if arguments.ends_with("tree") && Command::new("mkfs.ext4").arg("-V").output().is_err() {
            continue;
        }
        let want = dir.join("want");
        let (verb, rest) = arguments.split_once(' ').unwrap();
        let place = |out: &str| vbdctl(dir, &format!("{verb} {rest} {out}"));
        let replace = |out: &str| vbdctl(dir, &format!("{verb} --force {rest} {out}"));
        let output = place("want");
        assert!(output.status.success(), "{arguments}: {output:?}");
        let output = place("mount/out");
        assert!(output.status.success(), "{arguments}: {output:?}");
        assert_eq!(names(&mount), ["out"], "{arguments}");
        assert!(
            fs::read(mount.join("out")).unwrap() == fs::read(&want).unwrap(),
            "{arguments}"
        );
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&mount.join("out")), mode(&want), "{arguments}");

        // It is not overwritten, and replaced when asked for.
        fs::write(mount.join("out"), "precious").unwrap();
        let output = place("mount/out");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(errors, "vbdctl: mount/out: exists; --force replaces it\n");
        assert_eq!(fs::read(mount.join("out")).unwrap(), b"precious");
        assert_eq!(names(&mount), ["out"]);
        let output = replace("mount/out");
        assert!(output.status.success(), "{arguments}: {output:?}");
        assert!(fs::read(mount.join("out")).unwrap() == fs::read(&want).unwrap());
        assert_eq!(names(&mount), ["out"]);
        fs::remove_file(mount.join("out")).unwrap();
        fs::remove_file(want).unwrap();
    }
}

#[test]
fn what_cannot_get_its_name_is_refused_before_the_work() {
    let temp = images();
    let dir = temp.path();
    let mount = dir.join("mount");
    fs::create_dir(&mount).unwrap();
    let Some(_fuse) = Fuse::mount("what_cannot_get_its_name", &mount, false) else {
        return;
    };
    // The work would fail, too: what is said first was found out first.
    fs::create_dir(dir.join("tree")).unwrap();
    for arguments in [
        "create --size 64K tree mount/out",
        "create --base missing a.img mount/out",
        "export a mount/out",
        "merge a mount/out",
    ] {
        let output = vbdctl(dir, arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        let text = "vbdctl: mount/out: cannot create: Function not implemented";
        assert!(errors.starts_with(text), "{arguments}: {errors}");
        assert!(names(&mount).is_empty(), "{:?}", names(&mount));
    }
}

#[test]
fn a_limit_of_size_is_an_error_that_leaves_nothing() {
    let temp = temp_dir();
    let dir = temp.path();
    fs::write(dir.join("a.img"), Rng::new(2).noise(4 << 20)).unwrap();
    let mount = dir.join("mount");
    fs::create_dir(&mount).unwrap();
    let fuse = Fuse::mount("a_limit_of_size", &mount, true);
    for out in ["out", "mount/out"] {
        if out != "out" && fuse.is_none() {
            continue;
        }
        let output = Command::new("prlimit")
            .current_dir(dir)
            .args(["--fsize=1000000", "--core=0"])
            .args([env!("CARGO_BIN_EXE_vbdctl"), "create", "a.img", out])
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            errors.contains(&format!("vbdctl: {out}: offset "))
                && errors.contains("File too large"),
            "{errors}"
        );
        assert_eq!(names(dir), ["a.img", "mount"]);
        assert!(names(&mount).is_empty(), "{:?}", names(&mount));
    }
}

#[test]
fn the_longest_name_is_a_name() {
    let temp = images();
    let dir = temp.path();
    let name = "n".repeat(255);
    let run = |arguments: String| {
        let output = vbdctl(dir, &arguments);
        assert!(output.status.success(), "{output:?}");
    };
    for arguments in ["create a.img", "create --force a.img", "export --force a"] {
        run(format!("{arguments} {name}"));
        assert!(dir.join(&name).is_file());
    }
    let errors = |arguments: String| String::from_utf8(vbdctl(dir, &arguments).stderr).unwrap();
    let text = errors(format!("create a.img {name}n"));
    assert!(text.contains("cannot create: File name too long"), "{text}");
    // Nor does standard output become a file, or a directory that is not there.
    let text = errors("create a.img -".into());
    assert!(text.contains("stands for standard output"), "{text}");
    let text = errors("create a.img new/".into());
    assert!(text.contains("new/: is no file name"), "{text}");
    assert!(!dir.join("-").exists() && !dir.join("new").exists());
}

#[test]
fn what_is_replaced_stays_as_private_as_it_was() {
    let temp = images();
    let dir = temp.path();
    for mode in [0o600, 0o640, 0o664] {
        fs::write(dir.join("out"), "old").unwrap();
        fs::set_permissions(dir.join("out"), fs::Permissions::from_mode(mode)).unwrap();
        let output = vbdctl(dir, "create --force a.img out");
        assert!(output.status.success(), "{output:?}");
        let found = dir.join("out").metadata().unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode);
    }
}

#[test]
fn a_base_may_have_commas_in_its_name() {
    let temp = images();
    let dir = temp.path();
    fs::copy(dir.join("a"), dir.join("a,b")).unwrap();
    fs::copy(dir.join("a"), dir.join("c")).unwrap();
    for base in ["a,b", "a,c", "a,b --base c"] {
        let output = vbdctl(dir, &format!("create --force --base {base} b.img out"));
        assert!(output.status.success(), "{base}: {output:?}");
        let output = vbdctl(
            dir,
            &format!("compare {base} b.img").replace(" --base ", ","),
        );
        // Only the changed page differs from what lies below.
        assert_eq!(output.status.code(), Some(1));
        let size = dir.join("out").metadata().unwrap().len();
        assert!(size < 10_000, "{size}");
    }
}
