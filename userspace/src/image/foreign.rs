// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Disk images of other programs, as raw images.
//!
//! What a format is comes from the user, never from bytes that a guest can write; the one exception
//! is asked for ([`content_of`]). qemu-img is told every driver, so that it probes nothing, and it is
//! handed the open file, so that no name means anything to it. An image that takes part of its
//! contents from other files is refused before qemu-img sees it.

mod content;
mod references;
mod vhd;

pub use self::content::{content_of, Content};

use super::filesystem::Scratch;
use super::program::run;
use super::source::Source;
use crate::error::{Error, Result};
use rustix::fs::{fstat, FileType};
use std::ffi::OsString;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::Command;

/// Formats of disk images that qemu-img reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// qcow2, versions 2 and 3.
    Qcow2,
    /// VMware's, in one file or described by a text file.
    Vmdk,
    /// VirtualBox's.
    Vdi,
    /// Virtual PC's and Azure's, fixed or dynamic.
    Vhd,
    /// Hyper-V's.
    Vhdx,
}

impl Format {
    /// The formats and how the names of their files end; the first is what the format is called here.
    const ALL: [(Self, &'static [&'static str]); 5] = [
        (Self::Qcow2, &["qcow2"]),
        (Self::Vmdk, &["vmdk"]),
        (Self::Vdi, &["vdi"]),
        (Self::Vhd, &["vhd", "vpc"]),
        (Self::Vhdx, &["vhdx"]),
    ];

    /// The format that the end of a file's name says.
    pub fn by_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let end = name.rsplit('.').next()?;
        let known = |(_, names): &&(Self, &[&str])| names.contains(&end);
        Self::ALL.iter().find(known).map(|(format, _)| *format)
    }

    /// The format's name.
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(format, _)| *format == self);
        named.map_or("", |(_, names)| names[0])
    }

    /// qemu's name of it.
    fn driver(self) -> &'static str {
        match self {
            Self::Vhd => "vpc",
            other => other.name(),
        }
    }
}

/// The disk of the image `path`, which is of `format`, as a raw image. What has to be decoded goes
/// to a file without a name beside `result`.
///
/// An image that takes part of its contents from other files is an error unless `references` are
/// allowed.
pub fn open(path: &Path, format: Format, references: bool, result: &Path) -> Result<Source> {
    let image = Source::open(path)?;
    if format == Format::Vhd {
        if let Some(size) = vhd::fixed_size(&image)? {
            // The disk and then a footer. The first sector is the guest's: it is no header.
            return Ok(image.first(size));
        }
    }
    if let Some(found) = references::of(&image, format)? {
        if !references {
            let reason =
                format!("takes contents from another file: {found}; --allow-references reads it");
            return Err(Error::unfit(path, reason));
        }
    }
    let scratch = Scratch::beside(result)?;
    let mut target = OsString::from("file:");
    target.push(&scratch.target);
    let mut command = Command::new("qemu-img");
    command.arg("convert");
    if references {
        command.arg("--image-opts").arg(by_name(&image, format)?);
    } else {
        command.arg(by_descriptor(&image, format)?);
    }
    command.args(["-O", "raw"]).arg(target);
    run(&mut command, "qemu-img", path, result)?;
    Source::from_file(path, scratch.file)
}

/// qemu's name of an open image, of which it reads nothing but that file.
fn by_descriptor(image: &Source, format: Format) -> Result<String> {
    let mut options = serde_json::json!({
        "driver": format.driver(),
        "backing": null,
        "file": {
            "driver": protocol(image)?,
            "filename": format!("/proc/{}/fd/{}", std::process::id(), image.file().as_raw_fd()),
        },
    });
    if format == Format::Vhd {
        options["force_size_calc"] = "current_size".into();
    }
    Ok(format!("json:{options}"))
}

/// qemu's name of an image whose place matters, since other files are found from there.
fn by_name(image: &Source, format: Format) -> Result<OsString> {
    let path = std::path::absolute(image.path()).map_err(Error::io(image.path(), "cannot find"))?;
    let mut options = format!(
        "driver={},file.driver={},",
        format.driver(),
        protocol(image)?
    )
    .into_bytes();
    if format == Format::Vhd {
        options.extend_from_slice(b"force_size_calc=current_size,");
    }
    options.extend_from_slice(b"file.filename=");
    for &byte in path.as_os_str().as_bytes() {
        options.push(byte);
        if byte == b',' {
            options.push(byte);
        }
    }
    Ok(OsString::from_vec(options))
}

/// qemu's driver for the file or block device itself.
fn protocol(image: &Source) -> Result<&'static str> {
    let stat = fstat(image.file()).map_err(|e| Error::io(image.path(), "cannot stat")(e.into()))?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => "host_device",
        _ => "file",
    })
}
