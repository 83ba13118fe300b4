// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A directory with one of each odd file, and the program to run there.

use super::common::{temp_dir, Rng};
use super::table::Odd;
use rustix::fs::{mknodat, FileType, Mode, CWD};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{symlink, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Seconds after which a program hangs, however busy the machine is.
const PATIENCE: &str = "120";

/// What a program did.
pub(crate) struct Answer {
    /// Exit status; [`None`] after a signal.
    pub(crate) status: Option<i32>,
    /// Standard output and standard error.
    pub(crate) text: String,
}

/// The directory.
pub(crate) struct Place {
    dir: TempDir,
    /// Holds the program where everybody may run it.
    _bin: TempDir,
    program: PathBuf,
    _socket: UnixListener,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = temp_dir();
        let bin = temp_dir();
        for open in [&dir, &bin] {
            fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
        }
        let program = bin.path().join("vbdctl");
        fs::copy(env!("CARGO_BIN_EXE_vbdctl"), &program).unwrap();
        let at = |name: &str| dir.path().join(name);

        fs::write(at("image"), Rng::new(5).noise(64 << 10)).unwrap();
        let mut place = Self {
            _socket: UnixListener::bind(at(Odd::Socket.name())).unwrap(),
            program,
            dir,
            _bin: bin,
        };
        let made = place.run(&["create", "image", "layer"]);
        assert_eq!(made.status, Some(0), "{}", made.text);
        place.fill();
        place
    }

    fn fill(&mut self) {
        let at = |name: &str| self.dir.path().join(name);
        // Whole sectors, as loop devices have them.
        let mut layer = fs::read(at("layer")).unwrap();
        layer.resize(layer.len().next_multiple_of(512), 0);
        fs::write(at("layer"), &layer).unwrap();
        for odd in Odd::LAYERS {
            fs::write(at(odd.name()), &layer).unwrap();
        }
        let secret = at(Odd::Secret.name());
        fs::write(&secret, &layer).unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
        fs::write(at(Odd::Empty.name()), "").unwrap();
        fs::write(at(Odd::OneByte.name()), "1").unwrap();

        let [data, index] = [(3, 0), (1, 4096)].map(|(flags, index)| writable(flags, index));
        fs::write(at("data"), data).unwrap();
        fs::write(at("index"), index).unwrap();

        fs::create_dir(at(Odd::Directory.name())).unwrap();
        fs::write(at("directory/file"), "content").unwrap();
        fs::create_dir(at("readonly")).unwrap();
        fs::set_permissions(at("readonly"), Permissions::from_mode(0o555)).unwrap();
        let node = |odd: Odd, kind, device| {
            mknodat(
                CWD,
                at(odd.name()),
                kind,
                Mode::from_raw_mode(0o666),
                device,
            )
        };
        node(Odd::Fifo, FileType::Fifo, 0).unwrap();
        let null = rustix::fs::makedev(1, 3);
        if node(Odd::CharacterDevice, FileType::CharacterDevice, null).is_err() {
            // Only the superuser makes one.
            symlink("/dev/null", at(Odd::CharacterDevice.name())).unwrap();
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs vbdctl in the directory.
    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Answer {
        self.run_under(&[], words, Stdio::piped())
    }

    /// The same as a user who may do nothing in particular.
    pub(crate) fn run_as_nobody<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Answer {
        self.run_under(&nobody(), words, Stdio::piped())
    }

    /// The same by another program, whose last arguments it is.
    pub(crate) fn run_under<S: AsRef<std::ffi::OsStr>>(
        &self,
        other: &[&str],
        words: &[S],
        stdout: Stdio,
    ) -> Answer {
        let child = Command::new("timeout")
            .args(["--signal=KILL", PATIENCE])
            .args(other)
            .arg(&self.program)
            .args(words)
            .current_dir(self.dir.path())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Answer {
            status: output.status.code(),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }

    /// Everything there, and what it holds.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.dir.path().to_owned()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let about = path.symlink_metadata().unwrap();
                let bytes = match about.is_file() {
                    true => fs::read(&path).unwrap_or_default(),
                    false => Vec::new(),
                };
                if about.is_dir() {
                    left.push(path.clone());
                }
                let name = path.strip_prefix(self.dir.path()).unwrap().to_owned();
                found.insert(name, (about.mode(), about.rdev(), bytes));
            }
        }
        found
    }

    /// What differs from before, beside the new file `made`, which is removed; it has to be there.
    pub(crate) fn changes(
        &self,
        before: &BTreeMap<PathBuf, (u32, u64, Vec<u8>)>,
        made: Option<&str>,
    ) -> Option<String> {
        if let Some(made) = made {
            if fs::remove_file(self.dir.path().join(made)).is_err() {
                return Some(format!("{made} was not made"));
            }
        }
        let after = self.contents();
        let gone = before
            .iter()
            .find(|(name, was)| after.get(*name) != Some(*was));
        let new = after.keys().find(|name| !before.contains_key(*name));
        match (gone, new) {
            (Some((name, _)), _) => Some(format!("{} is not what it was", name.display())),
            (_, Some(name)) => {
                // Others shall not suffer from it.
                let _ = fs::remove_file(self.dir.path().join(name));
                Some(format!("{} was left behind", name.display()))
            }
            _ => None,
        }
    }
}

/// How to run a program as nobody, if that can be done.
pub(crate) fn nobody() -> Vec<&'static str> {
    match rustix::process::geteuid().is_root() {
        true => vec![
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ],
        false => Vec::new(),
    }
}

/// A file of a writable layer of 64 KiB to which nothing was written.
fn writable(flags: u32, index: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..8].copy_from_slice(&vbd_format::lsmt::MAGIC0);
    bytes[8..24].copy_from_slice(&vbd_format::lsmt::MAGIC1);
    bytes[28..32].copy_from_slice(&flags.to_le_bytes());
    bytes[32..40].copy_from_slice(&index.to_le_bytes());
    bytes[48..56].copy_from_slice(&(64u64 << 10).to_le_bytes());
    bytes
}
