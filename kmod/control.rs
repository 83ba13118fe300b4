// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/config/vbd: devices that are made, switched on and off, and removed at run time.
//!
//! `mkdir vbd/<name>` makes an empty device, `mkdir vbd/<name>/<n>` its layer n, `echo 1 > power`
//! attaches it. While a device is on, its settings answer `EBUSY` and so does its `rmdir`.
//!
//! Lock order: `Slot::change`, which is held while a device attaches or detaches, then `Slot::inner`,
//! which is not; so only writing `power` waits for that.

mod layer;

use crate::attach::{check_logical_block_size, check_size, AttachError, Host, Source};
use crate::device::{Device, Looks};
use crate::format::limits::MAX_LAYERS;
use crate::stack::Options;
use crate::sys::configfs::{Attribute, Directory, Hold, Parent};
use kernel::fmt::Write as _;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::atomic::{Acquire, Atomic, Release};
use kernel::sync::{new_mutex, Arc, Mutex};
use layer::LayerDirectory;

/// The top directory: a device in each directory below.
pub(crate) struct Devices {
    host: Arc<Host>,
}

impl Devices {
    /// Devices that share `host`.
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self { host }
    }
}

impl Parent for Devices {
    type Child = DeviceDirectory;

    fn make_child(&self, _name: &CStr) -> Result<DeviceDirectory> {
        Ok(DeviceDirectory {
            slot: Slot::new(self.host.clone())?,
        })
    }

    fn drop_child(&self, child: &DeviceDirectory) {
        child.slot.remove();
    }
}

/// What a device is doing; shown without waiting for it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum State {
    Off,
    Attaching,
    On,
    Detaching,
}

impl State {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Off, "off"),
        (Self::Attaching, "attaching"),
        (Self::On, "on"),
        (Self::Detaching, "detaching"),
    ];
}

/// One device: what it is to be, and what it is while it is on.
#[pin_data]
struct Slot {
    host: Arc<Host>,
    state: Atomic<u32>,
    /// Held while the device attaches or detaches: one at a time.
    #[pin]
    change: Mutex<()>,
    #[pin]
    inner: Mutex<Inner>,
}

struct Inner {
    options: Options,
    looks: Looks,
    /// Layer directories by number, in no order.
    layers: KVec<(u8, Option<Arc<Source>>)>,
    device: Option<Device>,
    /// Whether the device is attaching or detaching.
    changing: bool,
    /// Why the last attach failed; empty after one that did not.
    error: Option<AttachError>,
}

impl Inner {
    /// The settings, which must not change under a live device.
    fn settings(&mut self) -> Result<&mut Self> {
        if self.device.is_some() || self.changing {
            return Err(EBUSY);
        }
        Ok(self)
    }

    /// All layers from number 0 on, without a gap.
    fn sources(&self) -> Result<KVec<Arc<Source>>, AttachError> {
        let count = self.layers.len();
        let mut sources = KVec::with_capacity(count, GFP_KERNEL).map_err(Error::from)?;
        for number in 0..count {
            let source = self
                .layers
                .iter()
                .find(|(n, _)| usize::from(*n) == number)
                .and_then(|(_, source)| source.clone())
                .ok_or_else(|| {
                    AttachError::new(
                        EINVAL,
                        fmt!("layer {number}: no file; {count} layers are numbered from 0"),
                    )
                })?;
            sources.push(source, GFP_KERNEL).map_err(Error::from)?;
        }
        Ok(sources)
    }
}

impl Slot {
    fn new(host: Arc<Host>) -> Result<Arc<Self>> {
        let inner = Inner {
            options: Options {
                size: 0,
                verify: true,
                direct: false,
            },
            looks: Looks {
                logical_block_size: 512,
                partscan: false,
            },
            layers: KVec::new(),
            device: None,
            changing: false,
            error: None,
        };
        Arc::pin_init(
            pin_init!(Self {
                host,
                state: Atomic::new(State::Off as u32),
                change <- new_mutex!((), "vbd_change"),
                inner <- new_mutex!(inner, "vbd_slot"),
            }),
            GFP_KERNEL,
        )
    }

    fn set_state(&self, state: State) {
        self.state.store(state as u32, Release);
    }

    fn state(&self) -> &'static str {
        let state = self.state.load(Acquire);
        State::ALL
            .iter()
            .find(|(s, _)| *s as u32 == state)
            .map_or("", |(_, name)| name)
    }

    /// Attaches; nothing happens if that is done.
    ///
    /// `inner` is not locked meanwhile: a layer's file may be one that is served by somebody who
    /// looks at this directory.
    fn power_on(&self, hold: Hold<'_>) -> Result {
        let _one = self.change.lock();
        let mut inner = self.inner.lock();
        if inner.device.is_some() {
            return Ok(());
        }
        let settings = inner.settings()?;
        let (options, looks) = (settings.options, settings.looks);
        let sources = hold
            .take()
            .map_err(AttachError::from)
            .and_then(|()| inner.sources());
        inner.changing = true;
        self.set_state(State::Attaching);
        drop(inner);

        let attached = sources.and_then(|sources| self.host.attach(&sources, options, looks));

        let mut inner = self.inner.lock();
        inner.changing = false;
        match attached {
            Ok(device) => {
                inner.error = None;
                inner.device = Some(device);
                self.set_state(State::On);
                Ok(())
            }
            Err(error) => {
                hold.release();
                let errno = error.report();
                inner.error = Some(error);
                self.set_state(State::Off);
                Err(errno)
            }
        }
    }

    /// Detaches, unless somebody has the disk open; nothing happens if that is done.
    fn power_off(&self, hold: Hold<'_>) -> Result {
        let _one = self.change.lock();
        let mut inner = self.inner.lock();
        let Some(device) = &inner.device else {
            return Ok(());
        };
        device.retire()?;
        let device = inner.device.take();
        inner.changing = true;
        self.set_state(State::Detaching);
        drop(inner);

        // Waits for what is under way, and closes the layers' files.
        drop(device);

        let mut inner = self.inner.lock();
        inner.changing = false;
        hold.release();
        self.set_state(State::Off);
        Ok(())
    }

    /// The directory is gone. A device that is on holds its directory, so this one is off.
    fn remove(&self) {
        self.inner.lock().device = None;
    }
}

/// `vbd/<name>`: a device.
pub(crate) struct DeviceDirectory {
    slot: Arc<Slot>,
}

impl Directory for DeviceDirectory {
    const ATTRIBUTES: &'static [Attribute<Self>] = &[
        Attribute {
            name: c"size",
            show: |this, text| writeln!(text, "{}", this.slot.inner.lock().options.size),
            store: Some(|this, _, bytes| {
                let size = number(bytes)?;
                check_size(size).map_err(|error| error.errno)?;
                this.slot.inner.lock().settings()?.options.size = size;
                Ok(())
            }),
        },
        Attribute {
            name: c"verify",
            show: |this, text| {
                writeln!(text, "{}", u8::from(this.slot.inner.lock().options.verify))
            },
            store: Some(|this, _, bytes| {
                let verify = switch(bytes)?;
                this.slot.inner.lock().settings()?.options.verify = verify;
                Ok(())
            }),
        },
        Attribute {
            name: c"direct",
            show: |this, text| {
                writeln!(text, "{}", u8::from(this.slot.inner.lock().options.direct))
            },
            store: Some(|this, _, bytes| {
                let direct = switch(bytes)?;
                this.slot.inner.lock().settings()?.options.direct = direct;
                Ok(())
            }),
        },
        Attribute {
            name: c"logical_block_size",
            show: |this, text| {
                let bytes = this.slot.inner.lock().looks.logical_block_size;
                writeln!(text, "{bytes}")
            },
            store: Some(|this, _, bytes| {
                let size = u32::try_from(number(bytes)?).map_err(|_| EINVAL)?;
                check_logical_block_size(size).map_err(|error| error.errno)?;
                this.slot.inner.lock().settings()?.looks.logical_block_size = size;
                Ok(())
            }),
        },
        Attribute {
            name: c"partscan",
            show: |this, text| {
                writeln!(text, "{}", u8::from(this.slot.inner.lock().looks.partscan))
            },
            store: Some(|this, _, bytes| {
                let partscan = switch(bytes)?;
                this.slot.inner.lock().settings()?.looks.partscan = partscan;
                Ok(())
            }),
        },
        Attribute {
            name: c"read_only",
            show: |_, text| writeln!(text, "1"),
            store: Some(|this, _, bytes| {
                let read_only = switch(bytes)?;
                this.slot.inner.lock().settings()?;
                // A writable device needs a writable layer, and there are none yet.
                if read_only {
                    Ok(())
                } else {
                    Err(EROFS)
                }
            }),
        },
        Attribute {
            name: c"power",
            show: |this, text| {
                writeln!(
                    text,
                    "{}",
                    u8::from(this.slot.inner.lock().device.is_some())
                )
            },
            store: Some(|this, hold, bytes| {
                if switch(bytes)? {
                    this.slot.power_on(hold)
                } else {
                    this.slot.power_off(hold)
                }
            }),
        },
        Attribute {
            name: c"device",
            show: |this, text| match &this.slot.inner.lock().device {
                Some(device) => {
                    text.push(device.name().to_bytes())?;
                    text.push(b"\n")
                }
                None => Ok(()),
            },
            store: None,
        },
        Attribute {
            name: c"state",
            show: |this, text| writeln!(text, "{}", this.slot.state()),
            store: None,
        },
        Attribute {
            name: c"error",
            show: |this, text| match &this.slot.inner.lock().error {
                None => Ok(()),
                Some(AttachError { text: None, errno }) => writeln!(text, "{errno:?}"),
                Some(AttachError {
                    text: Some(line), ..
                }) => {
                    text.push(line.to_bytes())?;
                    text.push(b"\n")
                }
            },
            store: None,
        },
        Attribute {
            name: c"stat",
            show: |this, text| match &this.slot.inner.lock().device {
                Some(device) => device.stats().show(text),
                None => Ok(()),
            },
            store: None,
        },
    ];
}

impl Parent for DeviceDirectory {
    type Child = LayerDirectory;

    fn make_child(&self, name: &CStr) -> Result<LayerDirectory> {
        // Just one way to write each number, so that a number is taken only once.
        let number: u8 = name.to_str()?.parse().map_err(|_| EINVAL)?;
        let canonical = name.to_bytes() == b"0" || name.to_bytes().first() != Some(&b'0');
        if usize::from(number) >= MAX_LAYERS || !canonical || name.to_bytes().contains(&b'+') {
            return Err(EINVAL);
        }
        let mut inner = self.slot.inner.lock();
        inner.settings()?.layers.push((number, None), GFP_KERNEL)?;
        drop(inner);
        Ok(LayerDirectory {
            slot: self.slot.clone(),
            number,
        })
    }

    fn drop_child(&self, child: &LayerDirectory) {
        let mut inner = self.slot.inner.lock();
        inner.layers.retain(|(number, _)| *number != child.number);
    }
}

/// A decimal number, as `echo` writes it.
fn number(bytes: &[u8]) -> Result<u64> {
    core::str::from_utf8(bytes.trim_ascii())
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(EINVAL)
}

/// `0` or `1`.
fn switch(bytes: &[u8]) -> Result<bool> {
    match bytes.trim_ascii() {
        b"0" => Ok(false),
        b"1" => Ok(true),
        _ => Err(EINVAL),
    }
}
