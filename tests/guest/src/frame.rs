// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What goes over the line between the host and the guest's first process.
//!
//! A frame is one byte that says what it is, the payload's length in bytes as four little-endian
//! bytes, and the payload. Both ends compile this file: xtask includes it by its path.

use std::io::{self, ErrorKind, Read, Write};

/// Largest payload; a longer one can only come from a line that lost its place.
pub(crate) const MAX_PAYLOAD: usize = 1 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// From the guest: it is up and takes commands. The payload is the kernel's release.
    Ready = b'R',
    /// From the guest: it is alive. No payload.
    Heartbeat = b'H',
    /// From the guest: the command wrote this to its standard output.
    Stdout = b'O',
    /// From the guest: the command wrote this to its standard error.
    Stderr = b'E',
    /// From the guest: the command has ended; its exit status as four little-endian bytes,
    /// 128 + n when signal n ended it.
    Exit = b'X',
    /// From the host: run this shell text.
    Command = b'C',
    /// From the host: print the kernel's blocked tasks and processors on the console.
    Dump = b'D',
    /// From the host: end the machine.
    Quit = b'Q',
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Ready,
        Kind::Heartbeat,
        Kind::Stdout,
        Kind::Stderr,
        Kind::Exit,
        Kind::Command,
        Kind::Dump,
        Kind::Quit,
    ];
}

/// Sends one frame, whose payload must not exceed [`MAX_PAYLOAD`].
pub(crate) fn send(line: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    if payload.len() > MAX_PAYLOAD {
        return Err(io::Error::new(ErrorKind::InvalidInput, "frame too long"));
    }
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(5 + payload.len());
    frame.push(kind as u8);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(payload);
    line.write_all(&frame)?;
    line.flush()
}

/// Receives one frame; `None` when the line ended between two frames.
pub(crate) fn receive(line: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut header = [0; 5];
    let (first, rest) = header.split_at_mut(1);
    loop {
        match line.read(first) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    line.read_exact(rest)?;
    let [code, length @ ..] = header;
    let bad = |what: String| io::Error::new(ErrorKind::InvalidData, what);
    let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == code);
    let kind = kind.ok_or_else(|| bad(format!("frame of unknown kind {code:#04x}")))?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_PAYLOAD {
        return Err(bad(format!("frame of {length} bytes")));
    }
    let mut payload = vec![0; length];
    line.read_exact(&mut payload)?;
    Ok(Some((kind, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_kind_length_and_payload() {
        let mut line = Vec::new();
        send(&mut line, Kind::Stdout, b"ab").unwrap();
        send(&mut line, Kind::Quit, b"").unwrap();
        assert_eq!(line, b"O\x02\0\0\0abQ\0\0\0\0");
        let mut line = &line[..];
        let first = receive(&mut line).unwrap();
        assert_eq!(first, Some((Kind::Stdout, b"ab".to_vec())));
        assert_eq!(receive(&mut line).unwrap(), Some((Kind::Quit, Vec::new())));
        assert_eq!(receive(&mut line).unwrap(), None);
    }

    #[test]
    fn every_kind_comes_back_as_itself() {
        for kind in Kind::ALL {
            let mut line = Vec::new();
            send(&mut line, kind, &[7]).unwrap();
            let back = receive(&mut &line[..]).unwrap();
            assert_eq!(back, Some((kind, vec![7])));
        }
    }

    #[test]
    fn a_line_that_lost_its_place_is_an_error() {
        assert!(receive(&mut &b"?\0\0\0\0"[..]).is_err());
        assert!(receive(&mut &b"O\0\0\0\xff"[..]).is_err());
        assert!(receive(&mut &b"O\x02\0\0\0a"[..]).is_err());
        assert!(receive(&mut &b"O\x02"[..]).is_err());
    }
}
