// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A file system in memory, served over /dev/fuse, that can do little: no unnamed files, no links, no
//! flags of renaming, and no renaming either if it is told so.

use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};
use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

const ROOT: u64 = 1;
const MAX_WRITE: usize = 128 * 1024;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EEXIST: i32 = 17;
const ENOSYS: i32 = 38;

/// Numbers of the requests, as in the kernel's header.
mod ask {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const UNLINK: u32 = 10;
    pub(super) const RENAME: u32 = 12;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const STATFS: u32 = 17;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const INIT: u32 = 26;
    pub(super) const OPENDIR: u32 = 27;
    pub(super) const READDIR: u32 = 28;
    pub(super) const RELEASEDIR: u32 = 29;
    pub(super) const CREATE: u32 = 35;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const BATCH_FORGET: u32 = 42;
}

/// A mounted file system; unmounted when the value goes.
pub(crate) struct Fuse {
    at: PathBuf,
    server: Option<JoinHandle<()>>,
}

impl Fuse {
    /// Mounts one at the directory `at`; [`None`], with a word on standard error, where that cannot be.
    pub(crate) fn mount(test: &str, at: &Path, renames: bool) -> Option<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let mounted = device.and_then(|device| {
            let options = format!(
                "fd={},rootmode=40000,user_id=0,group_id=0",
                device.as_raw_fd()
            );
            let options = CString::new(options).unwrap();
            mount(
                "vbdctl-test",
                at,
                "fuse",
                MountFlags::empty(),
                Some(&*options),
            )?;
            Ok(device)
        });
        let device = match mounted {
            Ok(device) => device,
            Err(error) => {
                // Not by a print macro: those are silent when a test passes.
                let text = format!("SKIPPED {test}: no FUSE here: {error}\n");
                std::io::stderr().write_all(text.as_bytes()).unwrap();
                return None;
            }
        };
        let server = thread::spawn(move || Server::new(device, renames).serve());
        Some(Self {
            at: at.to_owned(),
            server: Some(server),
        })
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        let _ = unmount(&self.at, UnmountFlags::DETACH);
        let _ = self.server.take().map(JoinHandle::join);
    }
}

struct Server {
    device: File,
    renames: bool,
    names: Vec<(Vec<u8>, u64)>,
    files: HashMap<u64, (u32, Vec<u8>)>,
    next: u64,
}

type Answer = Result<Vec<u8>, i32>;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Numbers of 64 bits and then of 32.
fn packed(long: &[u64], short: &[u32]) -> Vec<u8> {
    let long = long.iter().flat_map(|number| number.to_le_bytes());
    long.chain(short.iter().flat_map(|number| number.to_le_bytes()))
        .collect()
}

impl Server {
    fn new(device: File, renames: bool) -> Self {
        Self {
            device,
            renames,
            names: Vec::new(),
            files: HashMap::new(),
            next: ROOT + 1,
        }
    }

    fn serve(&mut self) {
        let mut buf = vec![0; MAX_WRITE + 4096];
        loop {
            let len = match self.device.read(&mut buf) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(ENOENT) => continue,
                // Unmounted.
                Err(_) => return,
            };
            let request = buf[..len].to_vec();
            let (kind, unique, node) = (
                u32_at(&request, 4),
                u64_at(&request, 8),
                u64_at(&request, 16),
            );
            if [ask::FORGET, ask::BATCH_FORGET, ask::INTERRUPT].contains(&kind) {
                continue;
            }
            let answer = self.answer(kind, node, &request[40..]);
            let (error, body) = match answer {
                Ok(body) => (0, body),
                Err(error) => (-error, Vec::new()),
            };
            let mut reply = packed(&[], &[16 + body.len() as u32, error as u32]);
            reply.extend_from_slice(&unique.to_le_bytes());
            reply.extend_from_slice(&body);
            // Whoever asked may be gone.
            let _ = self.device.write(&reply);
        }
    }

    fn answer(&mut self, kind: u32, node: u64, body: &[u8]) -> Answer {
        match kind {
            // Version 7.31; large writes.
            ask::INIT => {
                let mut init = packed(&[], &[7, 31, u32_at(body, 8), 1 << 5]);
                init.extend_from_slice(&packed(&[], &[0, MAX_WRITE as u32, 1]));
                init.resize(64, 0);
                Ok(init)
            }
            ask::LOOKUP => self.find(name(body)).map(|node| self.entry(node)),
            ask::GETATTR => Ok([packed(&[0], &[0, 0]), self.attributes(node)].concat()),
            ask::SETATTR => {
                let file = self.files.get_mut(&node).ok_or(EIO)?;
                let valid = u32_at(body, 0);
                if valid & 1 != 0 {
                    file.0 = u32_at(body, 68);
                }
                if valid & 8 != 0 {
                    file.1.resize(u64_at(body, 16) as usize, 0);
                }
                Ok([packed(&[0], &[0, 0]), self.attributes(node)].concat())
            }
            ask::CREATE => {
                let wanted = name(&body[16..]).to_vec();
                if self.find(&wanted).is_ok() {
                    return Err(EEXIST);
                }
                let node = self.next;
                self.next += 1;
                self.files.insert(node, (u32_at(body, 4), Vec::new()));
                self.names.push((wanted, node));
                Ok([self.entry(node), vec![0; 16]].concat())
            }
            ask::OPEN | ask::OPENDIR => Ok(vec![0; 16]),
            ask::READ => {
                let bytes = &self.files.get(&node).ok_or(EIO)?.1;
                let start = bytes.len().min(u64_at(body, 8) as usize);
                let end = bytes.len().min(start + u32_at(body, 16) as usize);
                Ok(bytes[start..end].to_vec())
            }
            ask::WRITE => {
                let (at, len) = (u64_at(body, 8) as usize, u32_at(body, 16) as usize);
                let bytes = &mut self.files.get_mut(&node).ok_or(EIO)?.1;
                if bytes.len() < at + len {
                    bytes.resize(at + len, 0);
                }
                bytes[at..at + len].copy_from_slice(&body[40..40 + len]);
                Ok(packed(&[], &[len as u32, 0]))
            }
            ask::UNLINK => {
                self.find(name(body))?;
                self.names.retain(|(known, _)| known != name(body));
                Ok(Vec::new())
            }
            ask::RENAME if self.renames => {
                let from = name(&body[8..]);
                let to = name(&body[8 + from.len() + 1..]);
                let node = self.find(from)?;
                self.names.retain(|(known, _)| known != from && known != to);
                self.names.push((to.to_vec(), node));
                Ok(Vec::new())
            }
            ask::READDIR => Ok(self.list(u64_at(body, 8) as usize, u32_at(body, 16) as usize)),
            ask::STATFS => Ok(packed(
                &[1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20],
                &[4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0],
            )),
            ask::RELEASE | ask::RELEASEDIR => Ok(Vec::new()),
            _ => Err(ENOSYS),
        }
    }

    fn find(&self, name: &[u8]) -> Result<u64, i32> {
        let found = self.names.iter().find(|(known, _)| known == name);
        found.map(|(_, node)| *node).ok_or(ENOENT)
    }

    fn entry(&self, node: u64) -> Vec<u8> {
        [packed(&[node, 0, 0, 0], &[0, 0]), self.attributes(node)].concat()
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let (mode, size) = match self.files.get(&node) {
            Some((mode, bytes)) => (*mode, bytes.len() as u64),
            None => (0o40755, 0),
        };
        packed(
            &[node, size, size.div_ceil(512), 0, 0, 0],
            &[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0],
        )
    }

    fn list(&self, from: usize, room: usize) -> Vec<u8> {
        let mut list = Vec::new();
        for (number, (name, node)) in self.names.iter().enumerate().skip(from) {
            let mut entry = packed(&[*node, number as u64 + 1], &[name.len() as u32, 8]);
            entry.extend_from_slice(name);
            entry.resize(entry.len().next_multiple_of(8), 0);
            if list.len() + entry.len() > room {
                break;
            }
            list.extend_from_slice(&entry);
        }
        list
    }
}

/// The name at the beginning of `bytes`.
fn name(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap()
}
