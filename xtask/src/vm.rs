// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The test machine: the kit's kernel in QEMU, or as a program of the host if it is User-Mode Linux,
//! with a first root of our own making.

mod accel;
mod complaint;
mod initramfs;
mod machine;
mod modules;
mod newc;
mod place;
pub(crate) mod program;
mod session;
mod share;
mod uml;

// Both ends of the line compile the same file.
#[path = "../../tests/guest/src/frame.rs"]
mod frame;

pub(crate) use complaint::is_sign as is_complaint;
pub(crate) use initramfs::libraries;
pub(crate) use session::{Ended, Report, Vm};
pub(crate) use uml::MEMORY_MIB as UML_MEMORY_MIB;

use crate::kit::{KernelChoice, Kit};
use crate::{module, run};
use accel::Accel;
use anyhow::{bail, Context, Result};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Exit status of `cargo xtask vm` when the guest itself was in trouble, whatever the command
/// said.
const TROUBLE: u8 = 99;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    kernel: KernelChoice,
    /// Directory that the guest sees at /share, as a copy: what the guest changes is dropped
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// Raw disk image that the guest sees as /dev/disk/by-id/virtio-NAME; without a name: disk0,
    /// disk1 and so on. The guest writes to the file
    #[arg(long, value_name = "[NAME=]FILE")]
    disk: Vec<String>,
    /// The guest's memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    mem: u32,
    /// The guest's processors
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,
    /// Words for the kernel's command line
    #[arg(
        long,
        value_name = "WORDS",
        default_value = "",
        allow_hyphen_values = true
    )]
    append: String,
    /// Seconds that the command may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Give the terminal a shell in the guest, instead of running a command
    #[arg(long, conflicts_with = "command")]
    console: bool,
    /// Neither build vbd.ko and vbd_dm.ko nor put them into the guest
    #[arg(long)]
    no_module: bool,
    /// Another module file for /vbd.ko
    #[arg(long, value_name = "FILE", conflicts_with = "no_module")]
    module: Option<PathBuf>,
    /// What to run: one argument is shell text, several are the words of one command
    #[arg(
        last = true,
        required_unless_present = "console",
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// All that QEMU can emulate, but for the promises that make the kernel copy and clear with string
/// instructions of single bytes: those the emulator takes one by one.
pub(crate) const WORDWISE: &str = "max,-erms,-fsrm,-fsrs,-fzrm";

/// A disk that the guest gets besides the shared directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Disk {
    /// Serial number; the guest has a link `/dev/disk/by-id/virtio-<name>`. 20 bytes at most.
    pub(crate) name: String,
    /// Absolute path of a raw image.
    pub(crate) file: PathBuf,
    pub(crate) read_only: bool,
}

/// What runs a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Runner {
    Qemu(Accel),
    /// The host: the kernel is a program.
    Host,
}

impl Runner {
    /// A guest that is ready to be started.
    fn command(
        self,
        kit: &Kit,
        spec: &Spec,
        place: &machine::Place,
        line: machine::Line,
    ) -> Result<Command> {
        match self {
            Runner::Qemu(accel) => Ok(machine::command(kit, spec, place, accel, line)),
            Runner::Host => uml::command(kit, spec, place, line),
        }
    }
}

/// A plugin of QEMU's emulator.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    /// Its file; it can write to the directory that this is in.
    pub(crate) file: PathBuf,
    /// Arguments, each `name=value` without a comma.
    pub(crate) arguments: Vec<String>,
}

/// What a guest is made of.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) memory_mib: u32,
    pub(crate) processors: u32,
    /// QEMU's name of the processor's model, where it is emulated.
    pub(crate) emulated: &'static str,
    /// Longest time that one command may take.
    pub(crate) timeout: Duration,
    /// Longest time that the boot may take.
    pub(crate) boot_timeout: Duration,
    /// Words for the kernel's command line.
    pub(crate) append: String,
    /// Directory whose copy is at `/share`; an absolute path.
    pub(crate) share: Option<PathBuf>,
    pub(crate) disks: Vec<Disk>,
    /// Most bytes that are read from each disk in a second, if that is limited.
    pub(crate) disk_rate: Option<u64>,
    /// Files of the host and their paths in the guest; permissions are kept.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Modules of the kernel besides those that every guest has.
    pub(crate) modules: Vec<String>,
    /// Parts of kernel messages that would be complaints and are expected.
    pub(crate) allowed: Vec<String>,
    /// Plugin of QEMU's emulator, which then is what runs the guest.
    pub(crate) plugin: Option<Plugin>,
    /// Say nothing about a boot that fails.
    pub(crate) quiet: bool,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            memory_mib: 1024,
            processors: 2,
            emulated: WORDWISE,
            timeout: Duration::from_secs(600),
            boot_timeout: Duration::from_secs(60),
            append: String::new(),
            share: None,
            disks: Vec::new(),
            disk_rate: None,
            files: Vec::new(),
            modules: Vec::new(),
            allowed: Vec::new(),
            plugin: None,
            quiet: false,
        }
    }
}

/// How one command in a guest of its own went.
pub(crate) struct Outcome {
    pub(crate) ended: Ended,
    pub(crate) report: Report,
}

impl Outcome {
    /// The command's exit status, or the one that stands for a guest in trouble.
    pub(crate) fn code(&self) -> u8 {
        match self.ended {
            Ended::Status(status) if self.report.complaints.is_empty() => {
                u8::try_from(status).unwrap_or(u8::MAX)
            }
            _ => TROUBLE,
        }
    }
}

/// Boots a guest.
pub(crate) fn boot(kit: &Kit, spec: &Spec) -> Result<Vm> {
    let init = program::build("vbd-guest", "vbd-guest")?;
    let runner = runner(kit, spec, &init)?;
    Vm::start(kit, spec, &init, runner)
}

/// What is to run the guest; `init` is its first process.
fn runner(kit: &Kit, spec: &Spec, init: &Path) -> Result<Runner> {
    Ok(match spec.plugin {
        _ if kit.is_uml() => Runner::Host,
        Some(_) => Runner::Qemu(Accel::Emulation),
        None => Runner::Qemu(accel::choose(kit, init)?),
    })
}

/// Boots a guest, runs shell text in it, and ends it.
pub(crate) fn run(
    kit: &Kit,
    spec: &Spec,
    text: &str,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<Outcome> {
    let mut vm = boot(kit, spec)?;
    let ended = vm.exec(text, stdout, stderr)?;
    let report = vm.shut_down()?;
    Ok(Outcome { ended, report })
}

/// `cargo xtask vm`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let kit = args.kernel.kit()?;
    let spec = spec(args, &kit)?;
    if args.console {
        let init = program::build("vbd-guest", "vbd-guest")?;
        let runner = runner(&kit, &spec, &init)?;
        let place = place::Guard::new()?;
        session::prepare(&kit, &spec, &init, &place)?;
        let line = machine::Line::Terminal;
        let status = run::status(&mut runner.command(&kit, &spec, &place, line)?)?;
        return Ok(ExitCode::from(u8::from(!status.success())));
    }
    let text = shell_text(&args.command);
    let outcome = run(
        &kit,
        &spec,
        &text,
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    )?;
    if outcome.code() == TROUBLE {
        outcome.report.show();
    }
    Ok(ExitCode::from(outcome.code()))
}

/// The guest that the command line asks for, with our programs built.
fn spec(args: &Args, kit: &Kit) -> Result<Spec> {
    let absolute = |path: &Path| {
        path.canonicalize()
            .with_context(|| format!("cannot open {}", path.display()))
    };
    let mut spec = Spec {
        memory_mib: args.mem,
        processors: args.cpus,
        timeout: Duration::from_secs(args.timeout),
        append: args.append.clone(),
        ..Spec::default()
    };
    if let Some(share) = &args.share {
        if !share.is_dir() {
            bail!(
                "{} is not a directory, so it cannot be shared",
                share.display()
            );
        }
        spec.share = Some(absolute(share)?);
    }
    for (number, word) in args.disk.iter().enumerate() {
        let (name, file) = disk_words(word, number);
        if !is_disk_name(&name) {
            bail!(
                "--disk {word}: a disk's name is a letter and up to 19 letters, digits, - and _, \
                 and not share"
            );
        }
        let file = absolute(Path::new(&file))?;
        let read_only = false;
        spec.disks.push(Disk {
            name,
            file,
            read_only,
        });
    }
    spec.files = programs(kit, args)?;
    Ok(spec)
}

/// Our programs and their paths in the guest.
fn programs(kit: &Kit, args: &Args) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    if let Some(module) = &args.module {
        files.push((module.clone(), "/vbd.ko".to_string()));
    } else if !args.no_module {
        let module = module::build(kit)
            .context("the guest was to have vbd.ko (--no-module does without)")?;
        let targets = module.with_file_name("vbd_dm.ko");
        files.push((module, "/vbd.ko".to_string()));
        files.push((targets, "/vbd_dm.ko".to_string()));
    }
    match program::build("vbdctl", "vbdctl") {
        Ok(vbdctl) => files.push((vbdctl, "/usr/bin/vbdctl".to_string())),
        Err(error) => eprintln!("vm: the guest has no vbdctl: {error:#}"),
    }
    Ok(files)
}

/// Name and file of a `--disk`.
fn disk_words(word: &str, number: usize) -> (String, String) {
    match word.split_once('=') {
        Some((name, file)) if !name.is_empty() && !name.contains('/') => {
            (name.to_string(), file.to_string())
        }
        _ => (format!("disk{number}"), word.to_string()),
    }
}

/// Whether a name can be a virtio disk's serial number and a QEMU identifier.
fn is_disk_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    begins && name.len() <= 20 && name.chars().all(plain) && name != "share"
}

/// The words of a command line as shell text.
///
/// One word is taken for shell text as it is, as `ssh host 'a; b'` does; several are one command
/// with its arguments, so that `sh -c 'a b'` means what it says.
fn shell_text(words: &[OsString]) -> String {
    match words {
        [text] => text.to_string_lossy().into_owned(),
        words => words
            .iter()
            .map(|word| run::quoted(word))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_shell_text_and_several_are_one_command() {
        let text = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            shell_text(&words)
        };
        assert_eq!(text(&["insmod /vbd.ko; ls"]), "insmod /vbd.ko; ls");
        assert_eq!(text(&["sh", "-c", "a b"]), "sh -c 'a b'");
        assert_eq!(text(&["true"]), "true");
    }

    #[test]
    fn disks_have_the_name_that_was_given_or_a_number() {
        let words = |word: &str| disk_words(word, 1);
        assert_eq!(words("data=/a/b.img"), ("data".into(), "/a/b.img".into()));
        assert_eq!(words("/a/b.img"), ("disk1".into(), "/a/b.img".into()));
        assert_eq!(words("/a=b.img"), ("disk1".into(), "/a=b.img".into()));
        assert!(is_disk_name("data-1"));
        for bad in ["", "1st", "share", "a b", "twenty-one-characters"] {
            assert!(!is_disk_name(bad), "{bad}");
        }
    }
}
