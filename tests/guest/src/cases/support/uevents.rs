// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the kernel tells udev of block devices, since a moment.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{SocketAddrNetlink, KOBJECT_UEVENT};
use rustix::net::{bind, recv, socket_with, AddressFamily, RecvFlags, SocketFlags, SocketType};

/// The group of listeners that the kernel itself talks to.
const KERNEL: u32 = 1;

/// A place in what the kernel says.
pub(crate) struct Uevents(OwnedFd);

impl Uevents {
    /// Begins at what the kernel says next.
    pub(crate) fn mark() -> Uevents {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            flags,
            Some(KOBJECT_UEVENT),
        );
        let socket = socket.expect("a socket for events");
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL)).expect("the kernel's events");
        Uevents(socket)
    }

    /// What was said of block devices since the mark, or since the last call: `<action> <path in /sys>
    /// <name in /dev>`. An event is there when what it is about has returned.
    pub(crate) fn of_block_devices(&self) -> Vec<String> {
        let mut events = Vec::new();
        let mut message = [0; 16384];
        loop {
            match recv(&self.0, &mut message, RecvFlags::empty()) {
                Ok((length, _)) => events.extend(block(&message[..length])),
                Err(Errno::WOULDBLOCK) => return events,
                Err(errno) => panic!("events: {errno:?}"),
            }
        }
    }
}

/// An event in one line, if it is about a block device: `<action>@<path>`, then properties.
fn block(message: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let property = |name: &str| {
        let mut words = text.split('\0').skip(1);
        words.find_map(|word| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_string()))
    };
    let of_block = property("SUBSYSTEM").is_some_and(|subsystem| subsystem == "block");
    let all = ["ACTION", "DEVPATH", "DEVNAME"].map(|name| property(name).unwrap_or_default());
    of_block.then(|| all.join(" "))
}
