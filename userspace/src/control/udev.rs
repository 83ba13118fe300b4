// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The link `/dev/disk/by-vbd/<name>`, which udev makes when it comes to it, if it is there and has our
//! rule.

use super::{disk, node, Wait};
use rustix::time::{clock_gettime, ClockId};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Where udev listens.
const CONTROL: &str = "/run/udev/control";

/// What udev has noted of devices.
const DATA: &str = "/run/udev/data";

/// A moment, as udev writes down when it was done with a device: microseconds.
pub(super) type Moment = u64;

/// This moment.
pub(super) fn now() -> Moment {
    let time = clock_gettime(ClockId::Monotonic);
    let [seconds, nanoseconds] = [time.tv_sec, time.tv_nsec].map(|n| u64::try_from(n).unwrap_or(0));
    seconds.saturating_mul(1_000_000) + nanoseconds / 1000
}

/// The link of the device `name`.
pub(super) fn link(name: &str) -> PathBuf {
    Path::new("/dev/disk/by-vbd").join(name)
}

/// Waits for the link of a disk that came after `since`; `false` if udev is late, or `stop` says so.
pub(super) fn links(
    name: &str,
    disk: &str,
    since: Moment,
    wait: &mut Wait,
    stop: impl Fn() -> bool,
) -> bool {
    if !is_running() {
        return true;
    }
    let Some(number) = disk::number(disk) else {
        return true;
    };
    let data = Path::new(DATA).join(format!("b{}:{}", number.0, number.1));
    while !node::is(&link(name), number) {
        let noted = fs::read_to_string(&data);
        if noted.is_ok_and(|noted| is_done_without(&noted, name, since)) {
            return true;
        }
        if stop() || !wait.pause() {
            return false;
        }
    }
    true
}

/// Whether somebody is listening there. Our kind of socket is not udev's, so nothing is ever sent.
fn is_running() -> bool {
    match UnixStream::connect(CONTROL) {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused
        ),
    }
}

/// Whether udev, which notes something of each disk when it has dealt with it, has given it no link of
/// ours: it has not got the rule.
fn is_done_without(noted: &str, name: &str, since: Moment) -> bool {
    let moment = noted
        .lines()
        .find_map(|line| line.strip_prefix("I:")?.parse::<Moment>().ok());
    // An older one is of a disk that had the number before. Where no rule has a say, there is none.
    let stale = moment.is_some_and(|moment| moment < since);
    let ours = format!("S:disk/by-vbd/{name}");
    !stale && !noted.lines().any(|line| line == ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_udev_has_noted_is_understood() {
        let with = "S:disk/by-vbd/web\nI:2000\nE:VBD_NAME=web\n";
        let without = "S:disk/by-uuid/web\nI:2000\nG:systemd\n";
        assert!(!is_done_without(with, "web", 1000));
        assert!(is_done_without(with, "we", 1000));
        assert!(is_done_without(without, "web", 1000));
        assert!(!is_done_without(without, "web", 3000), "of another disk");
        assert!(is_done_without("", "web", 3000), "no rule has a say");
    }
}
