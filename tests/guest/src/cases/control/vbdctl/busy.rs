// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Devices that somebody uses.

use super::{done, fails, status, words};
use crate::cases::support::device::Module;
use crate::cases::support::dir::{assert_nothing_left, stack, Dir};
use crate::cases::support::layers;
use crate::cases::support::read;
use crate::cases::support::scratch::{Mounted, Scratch};
use crate::cases::support::tool::{self, Loop};
use crate::modules;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process of a shell, killed with this.
struct Process(Child);

impl Process {
    /// Runs a script that says something when it is where it should be, and then waits.
    fn new(program: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let mut ready = [0];
        let out = child.stdout.as_mut().unwrap();
        std::io::Read::read_exact(out, &mut ready).expect("a word of the process");
        Process(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An ext4 layer of a directory with a file.
fn file_system(scratch: &Scratch, name: &str) -> PathBuf {
    let tree = scratch.join("tree");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("file"), name).unwrap();
    layers::from_file(scratch, name, &tree, &["--fs=ext4", "--size=16M"])
}

/// Detaches, which has to fail within a bound; what is said.
fn busy(name: &str, timeout: f64) -> String {
    let begin = Instant::now();
    let said = fails(&["detach", "--timeout", &timeout.to_string(), name]);
    let took = begin.elapsed().as_secs_f64();
    assert!(took < timeout + 3.0, "{took} s");
    said.strip_prefix(&format!("{name}: is busy: "))
        .unwrap_or_else(|| panic!("{said}"))
        .to_string()
}

/// A process, a mount, and a mount that only others see.
pub(super) fn is_explained() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let layer = file_system(&scratch, "fs");
    let node = done(&words(&["attach", "--name=web"], &[layer]));

    let script = format!("exec 7<{node}; echo; exec sleep 1000");
    let process = Process::new("sh", &["-c", &script]);
    let pid = process.0.id();
    let begin = Instant::now();
    assert_eq!(
        busy("web", 0.5),
        format!("vbd0 is open in process {pid} (sleep)")
    );
    assert!(
        begin.elapsed() >= Duration::from_millis(500),
        "programs are waited for"
    );
    let holder = &status("web")["holders"][0];
    assert_eq!(holder["kind"], "program");
    assert_eq!(holder["pid"], pid);
    assert_eq!(holder["command"], "sleep");
    drop(process);

    let place = Path::new("/mnt/with space");
    let mounted = Mounted::new(&node, place, "ext4", true);
    let begin = Instant::now();
    assert_eq!(busy("web", 60.0), "vbd0 is mounted on /mnt/with space");
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "a mount is not waited for"
    );
    drop(mounted);

    let script =
        format!("mkdir -p /mnt/own && mount -o ro {node} /mnt/own && echo && exec sleep 1000");
    let process = Process::new("unshare", &["-m", "sh", "-c", &script]);
    let pid = process.0.id();
    assert_eq!(
        busy("web", 60.0),
        format!("vbd0 is mounted on /mnt/own in the mount namespace of process {pid} (sleep)")
    );
    drop(process);
    done(&["detach", "web"]);
    assert_nothing_left();
    module.unload();
}

/// device-mapper, a loop device, and another device of ours.
pub(super) fn by_devices() {
    assert!(modules::probe(&["dm-mod"]));
    let module = Module::load("");
    let scratch = Scratch::new();
    let (_, layers) = stack(&scratch, 1 << 20);
    let inner = layers[0].clone();
    let bytes = std::fs::read(&inner).unwrap();
    let outer = layers::create(&scratch, "outer", &bytes, &["--format=lz4"]);
    let node = done(&words(&["attach", "--name=web"], &[outer]));

    let sectors = tool::run("blockdev", &["--getsz", &node]);
    let table = format!("held,,,ro,0 {sectors} linear {node} 0");
    tool::run("dmsetup", &["create", "--concise", &table]);
    let said = busy("web", 60.0);
    tool::run("dmsetup", &["remove", "--retry", "held"]);
    assert!(
        said.starts_with("vbd0 is held by dm-") && said.contains("(held)"),
        "{said}"
    );

    let shown = Loop::new(Path::new(&node));
    let name = shown.path();
    let name = name.file_name().unwrap().to_str().unwrap();
    assert!(busy("web", 60.0).contains(&format!("vbd0 is shown by {name}")));
    drop(shown);

    let top = done(&["attach", "--name=top", &node]);
    assert_eq!(top, "/dev/vbd1");
    assert_eq!(busy("web", 60.0), "vbd0 is a layer of top");
    done(&["detach", "top"]);

    // A device that is off has its layers open, too; by whatever name they were given.
    let alias = scratch.join("alias");
    let number = fs::metadata(&node).unwrap().rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let words = ["b", &major.to_string(), &minor.to_string()];
    tool::run("mknod", &[&[alias.to_str().unwrap()], &words[..]].concat());
    let off = Dir::new("off");
    off.layer(0, &alias).unwrap();
    assert_eq!(
        busy("web", 0.2),
        "vbd0 is named as a layer of off, which is off"
    );
    off.clear().unwrap();
    done(&["detach", "web"]);
    assert_nothing_left();
    module.unload();
}

/// A file system that goes on without a mount that anybody could see.
pub(super) fn by_hidden_mounts() {
    assert!(modules::probe(&["overlay"]));
    let module = Module::load("");
    let scratch = Scratch::in_memory();
    let layer = file_system(&scratch, "fs");
    let node = done(&words(&["attach", "--name=web"], &[layer]));
    let hidden =
        "vbd0 is used by ext4 without a mount that can be seen (an overlay, or a lazy unmount)";

    let place = scratch.join("place");
    fs::create_dir(&place).unwrap();
    let script = format!(
        "mount -o ro {node} {0} && cd {0} && umount -l {0} && echo && exec sleep 1000",
        place.display()
    );
    let process = Process::new("sh", &["-c", &script]);
    let pid = process.0.id();
    assert_eq!(
        busy("web", 0.2),
        format!("{hidden}, with files open in process {pid} (sleep)")
    );
    let holder = &status("web")["holders"][0];
    assert_eq!(holder["kind"], "filesystem");
    assert_eq!(holder["place"], "ext4");
    drop(process);

    let lower = Mounted::new(&node, &place, "ext4", true);
    let [upper, work, merged] = ["upper", "work", "merged"].map(|name| {
        let dir = scratch.join(name);
        fs::create_dir(&dir).unwrap();
        dir.display().to_string()
    });
    let options = format!(
        "lowerdir={},upperdir={upper},workdir={work}",
        place.display()
    );
    tool::run(
        "mount",
        &["-t", "overlay", "-o", &options, "overlay", &merged],
    );
    drop(lower);
    let said = busy("web", 0.2);
    tool::run("umount", &[&merged]);
    assert_eq!(said, hidden);
    done(&["detach", "web"]);
    assert_nothing_left();
    module.unload();
}

/// A program that closes the disk in time does no harm.
pub(super) fn waits_for_programs() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (_, layers) = stack(&scratch, 1 << 20);
    let node = done(&words(&["attach", "--name=web"], &layers));
    let script = format!("exec 7<{node}; echo; sleep 0.7");
    let process = Process::new("sh", &["-c", &script]);
    let begin = Instant::now();
    done(&["detach", "web"]);
    let took = begin.elapsed().as_secs_f64();
    assert!((0.3..10.0).contains(&took), "{took} s");
    drop(process);
    assert_nothing_left();
    module.unload();
}

/// A device whose layer lies on a file system on another device goes before that.
pub(super) fn all_in_order() {
    let module = Module::load("");
    let scratch = Scratch::new();
    let (disk, layers) = stack(&scratch, 1 << 20);
    let node = done(&words(&["attach", "--name=a"], &[layers[0].clone()]));
    let shown = std::fs::read(&node).unwrap();
    let outer = layers::create(&scratch, "outer", &std::fs::read(&layers[1]).unwrap(), &[]);
    let under = done(&words(&["attach", "--name=b"], &[outer]));
    let top = done(&["attach", "--name=c", layers[0].to_str().unwrap(), &under]);
    read::check_all(&top, &disk);
    assert_eq!(shown.len(), disk.len());
    done(&["detach", "--all"]);
    assert_nothing_left();

    let node = done(&words(&["attach", "--name=a"], &layers));
    let open = read::buffered(&node);
    done(&words(&["attach", "--name=b"], &layers[..1]));
    let said = fails(&["detach", "--all", "--timeout=0.2"]);
    assert!(
        said.starts_with("a: is busy: vbd0 is open in process "),
        "{said}"
    );
    assert!(
        !Path::new("/dev/vbd1").exists(),
        "the other one goes all the same"
    );
    drop(open);
    done(&["detach", "--all"]);
    assert_nothing_left();
    module.unload();
}
