// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The first process: sets the machine up, runs what the host sends, and ends the machine.

use crate::frame::{self, Kind};
use crate::{modules, stuck};
use anyhow::{bail, Context, Result};
use rustix::fs::{makedev, mknodat, FileType, Mode, CWD};
use rustix::mount::{mount, MountFlags};
use rustix::process::{wait, WaitOptions};
use rustix::system::{reboot, RebootCommand};
use rustix::termios::{tcgetattr, tcsetattr, OptionalActions};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time after which a wait in the kernel is too long, unless the host says otherwise.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long output is waited for that a command's left-over children may still hold open.
const DRAIN: Duration = Duration::from_millis(300);

/// The line to the host; a whole frame at a time.
type Line = Arc<Mutex<File>>;

pub(crate) fn main() -> ExitCode {
    // There is nobody to return to: whatever goes wrong is said on the console, and the machine
    // ends, which the host takes for a failure unless it asked for it.
    if let Err(error) = work() {
        eprintln!("init: {error:#}");
    }
    rustix::fs::sync();
    // The output of a serial console that is still under way would be cut off.
    thread::sleep(Duration::from_millis(50));
    let _ = reboot(RebootCommand::PowerOff);
    ExitCode::FAILURE
}

fn work() -> Result<()> {
    mount_all()?;
    let words = fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
    let words: Vec<&str> = words.split_whitespace().collect();
    // User-Mode Linux has no virtio, so there the host says what is where.
    let serial = value(&words, "vbd.line=");
    let virtio: &[&str] = match serial {
        Some(_) => &[],
        None => &["virtio_blk", "virtio_rng"],
    };
    // What the kernel needs so that drivers and their users meet nothing unprepared.
    if !modules::probe(&[virtio, &["configfs"]].concat()) {
        bail!("cannot load the machine's drivers");
    }
    mount_one("configfs", "/sys/kernel/config")?;
    make_nodes()?;
    name_disks(value(&words, "vbd.disks="))?;
    set_kernel("sysrq", "1")?;
    // The kernel's boot messages are kept off the console below this, for speed.
    set_kernel("printk", "7 4 1 7")?;
    let patience = match value(&words, "vbd.patience=") {
        Some(seconds) => Duration::from_secs(seconds.parse().context("vbd.patience=")?),
        None => PATIENCE,
    };
    watch_for_hangs(patience)?;
    if words.contains(&"vbd.console") {
        return console();
    }
    serve(match serial {
        Some(name) => open_serial(name)?,
        None => open_port()?,
    })
}

/// What follows `name` in the word of the kernel's command line that begins with it.
fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name))
}

fn set_kernel(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/kernel").join(name);
    fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
}

/// Has the kernel and a thread of ours say what has waited for longer than `patience`.
fn watch_for_hangs(patience: Duration) -> Result<()> {
    let seconds = patience.as_secs().max(1);
    set_kernel("hung_task_timeout_secs", &seconds.to_string())?;
    let often = seconds.div_ceil(4);
    set_kernel("hung_task_check_interval_secs", &often.to_string())?;
    thread::spawn(move || stuck::watch(patience));
    Ok(())
}

fn mount_all() -> Result<()> {
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("debugfs", "/sys/kernel/debug"),
    ] {
        mount_one(kind, place)?;
    }
    for (target, link) in [
        ("/proc/self/fd", "/dev/fd"),
        ("fd/0", "/dev/stdin"),
        ("fd/1", "/dev/stdout"),
        ("fd/2", "/dev/stderr"),
    ] {
        symlink(target, link).with_context(|| format!("cannot make {link}"))?;
    }
    Ok(())
}

fn mount_one(kind: &str, place: &str) -> Result<()> {
    fs::create_dir_all(place).with_context(|| format!("cannot make {place}"))?;
    mount(kind, place, kind, MountFlags::empty(), None)
        .with_context(|| format!("cannot mount {kind} on {place}"))
}

/// Makes the device nodes whose first use loads their module, such as `/dev/loop-control`.
fn make_nodes() -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let list = Path::new("/lib/modules")
        .join(release.trim())
        .join("modules.devname");
    let text = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    for line in text.lines() {
        let fields = node_fields(line);
        let (name, major, minor) = fields.with_context(|| format!("a malformed node: {line}"))?;
        let path = Path::new("/dev").join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/dev")))?;
        let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o600));
        mknodat(CWD, &path, kind, mode, makedev(major, minor))
            .with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

/// Name and numbers in a line of `modules.devname`, such as `loop loop-control c10:237`.
fn node_fields(line: &str) -> Option<(&str, u32, u32)> {
    let mut words = line.split(' ').skip(1);
    let name = words.next()?;
    let (major, minor) = words.next()?.strip_prefix('c')?.split_once(':')?;
    Some((name, major.parse().ok()?, minor.parse().ok()?))
}

/// Gives each disk that the host named the link that udev would, and mounts the one named share.
///
/// The disks of User-Mode Linux cannot carry names, so they are `listed` in their order there.
fn name_disks(listed: Option<&str>) -> Result<()> {
    let links = Path::new("/dev/disk/by-id");
    fs::create_dir_all(links)?;
    let mut disks = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let disk = entry?.file_name();
        let serial = Path::new("/sys/block").join(&disk).join("serial");
        if let Ok(serial) = fs::read_to_string(serial) {
            disks.push((Path::new("/dev").join(&disk), serial.trim().to_string()));
        }
    }
    let listed = listed.unwrap_or_default().split(',');
    for (letter, name) in ('a'..='z').zip(listed.filter(|name| !name.is_empty())) {
        disks.push((format!("/dev/ubd{letter}").into(), name.to_string()));
    }
    for (device, name) in disks {
        symlink(&device, links.join(format!("virtio-{name}")))?;
        if name == "share" {
            fs::create_dir_all("/share")?;
            mount(&device, "/share", "ext4", MountFlags::NOATIME, None)
                .context("cannot mount the shared directory")?;
        }
    }
    Ok(())
}

/// The host's line as a serial line that passes bytes on as they are.
fn open_serial(name: &str) -> Result<File> {
    let port = open_both(&Path::new("/dev").join(name))?;
    let context = || format!("cannot set {name} up");
    let mut settings = tcgetattr(&port).with_context(context)?;
    settings.make_raw();
    tcsetattr(&port, OptionalActions::Now, &settings).with_context(context)?;
    Ok(port)
}

/// The host's line as a port of virtio, by the name that the host gave it.
fn open_port() -> Result<File> {
    let ports = "/sys/class/virtio-ports";
    for entry in fs::read_dir(ports).with_context(|| format!("there is no {ports}"))? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == "vbd" {
            return open_both(&Path::new("/dev").join(entry.file_name()));
        }
    }
    bail!("{ports} has no port of the name vbd");
}

fn open_both(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

/// Runs what the host sends over `port` until it says that it is enough.
fn serve(mut port: File) -> Result<()> {
    let line: Line = Arc::new(Mutex::new(port.try_clone()?));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    send(&line, Kind::Ready, release.trim().as_bytes())?;
    let beating = Arc::clone(&line);
    thread::spawn(move || {
        while send(&beating, Kind::Heartbeat, &[]).is_ok() {
            thread::sleep(HEARTBEAT);
        }
    });
    while let Some((kind, payload)) = frame::receive(&mut port)? {
        match kind {
            // Commands run aside, so that a hanging one does not keep us from the host's words.
            Kind::Command => {
                let line = Arc::clone(&line);
                thread::spawn(move || {
                    let status = run(&line, &payload).unwrap_or_else(|error| {
                        let text = format!("init: {error:#}\n");
                        let _ = send(&line, Kind::Stderr, text.as_bytes());
                        127
                    });
                    send(&line, Kind::Exit, &status.to_le_bytes())
                });
            }
            Kind::Dump => {
                for key in ["l", "w"] {
                    let _ = fs::write("/proc/sysrq-trigger", key);
                }
            }
            Kind::Quit => return Ok(()),
            other => bail!("the host sent {other:?}, which only the guest sends"),
        }
    }
    Ok(())
}

fn send(line: &Line, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let mut line = line
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    frame::send(&mut *line, kind, payload)
}

/// A shell with the environment that commands find here.
fn shell() -> Command {
    let mut command = Command::new("/bin/sh");
    command.current_dir("/").env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
        .env("HOME", "/root")
        .env("TERM", "linux")
        .env("LC_ALL", "C")
        // Nobody makes /dev/mapper's links here but dmsetup itself.
        .env("DM_DISABLE_UDEV", "1");
    command
}

/// Runs one command, passes its output on as it comes, and hands back its exit status.
fn run(line: &Line, text: &[u8]) -> Result<i32> {
    let text = std::str::from_utf8(text).context("the command is not UTF-8")?;
    let mut command = shell();
    command.arg("-c").arg(text).process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start /bin/sh")?;
    let pipes: [(Kind, Option<Box<dyn Read + Send>>); 2] = [
        (
            Kind::Stdout,
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
        ),
        (
            Kind::Stderr,
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ),
    ];
    let mut readers = Vec::new();
    for (kind, pipe) in pipes {
        let pipe = pipe.context("a pipe is missing")?;
        let line = Arc::clone(line);
        readers.push(thread::spawn(move || pass_on(&line, kind, pipe)));
    }
    let status = wait_for(i32::try_from(child.id()).context("process number")?)?;
    let end = Instant::now() + DRAIN;
    while readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(status)
}

fn pass_on(line: &Line, kind: Kind, mut pipe: impl Read) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if send(line, kind, &buffer[..length]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Waits for one process, and for every orphan that ends in the meantime.
fn wait_for(process: i32) -> Result<i32> {
    loop {
        let ended = wait(WaitOptions::empty()).context("cannot wait for the command")?;
        let Some((pid, status)) = ended else { continue };
        if pid.as_raw_nonzero().get() == process {
            let signal = status.terminating_signal().map(|signal| 128 + signal);
            return Ok(status.exit_status().or(signal).unwrap_or(127));
        }
    }
}

/// An interactive shell on the console, until it is left.
fn console() -> Result<()> {
    println!("This is a throw-away machine; it ends with this shell.");
    let mut shell = Command::new("/bin/setsid");
    shell
        .args(["cttyhack", "/bin/sh"])
        .current_dir("/")
        .env_clear();
    shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    shell
        .env("HOME", "/root")
        .env("TERM", "linux")
        .env("PS1", "vbd:\\w# ");
    let child = shell.spawn().context("cannot start the shell")?;
    wait_for(i32::try_from(child.id())?)?;
    io::stdout().flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_as_depmod_writes_them() {
        let found = node_fields("loop loop-control c10:237");
        assert_eq!(found, Some(("loop-control", 10, 237)));
        assert_eq!(node_fields("loop loop-control b10:237"), None);
        assert_eq!(node_fields("loop"), None);
    }
}
