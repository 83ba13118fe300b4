// SPDX-License-Identifier: GPL-2.0

//! device-mapper targets that serve reads by workers.
//!
//! Mainline has no Rust abstraction for targets. C header: `include/linux/device-mapper.h`.

mod bio;
mod table;

pub(crate) use bio::Bio;
pub(crate) use table::Table;

use bio::{per_bio, BioJob, PerBio};
use table::Devices;

use super::crew::Crew;
use super::generated;
use super::job::{Job, Verdict, Worker};
use super::pages::{Part, Parts};
use super::this_module::Door;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::ffi::{c_char, c_int, c_uint};
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::types::Opaque;

/// Bytes in a sector.
const SECTOR: u64 = 512;

/// A kind of target.
pub(crate) trait Target: Sized + Send + Sync + 'static {
    /// The name in tables.
    const NAME: &'static CStr;

    /// Version of the table's syntax.
    const VERSION: [u32; 3];

    /// Bytes of a read that keeps the target busy best. Read-ahead is twice as much.
    const OPTIMAL_SIZE: u32;

    /// The target's own data in each bio.
    type BioData: Default + Send + Sync;

    /// What all targets of the kind share.
    type Shared: Send + Sync;

    /// Makes a target from the words of its table line.
    fn new(shared: &Self::Shared, table: &mut Table<'_>, words: &[&CStr]) -> Result<Self, Refusal>;

    /// Takes a new bio: serves all of it, or says how many workers shall.
    ///
    /// Must not sleep. An error ends the bio.
    fn map(&self, bio: &Bio<'_, Self>, all: Part<'_, Bio<'_, Self>>) -> Result<Verdict>;

    /// Serves parts of the bio, on a worker, or leaves to be called again. May sleep; allocations do not
    /// start I/O.
    fn serve(&self, bio: &Bio<'_, Self>, parts: &Parts<'_, Bio<'_, Self>>, worker: &Worker<'_>);

    /// The bio's result, asked for on the last worker to be done with it.
    fn complete(&self, bio: &Bio<'_, Self>) -> Result;

    /// What `dmsetup status` shows after the target's name.
    fn status(&self, out: &mut Answer<'_>) -> fmt::Result;

    /// Answers `dmsetup message`.
    fn message(&self, words: &[&CStr], out: &mut Answer<'_>) -> Result;
}

/// Why a table line is refused: an errno, and words for the log.
pub(crate) struct Refusal {
    pub(crate) errno: Error,
    pub(crate) text: &'static CStr,
}

impl Refusal {
    /// A refusal in words.
    pub(crate) const fn new(errno: Error, text: &'static CStr) -> Self {
        Self { errno, text }
    }
}

impl From<Error> for Refusal {
    fn from(errno: Error) -> Self {
        Self::new(errno, c"out of memory or worse")
    }
}

/// Text for user space, cut off where there is no more room.
pub(crate) struct Answer<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl Answer<'_> {
    /// # Safety
    ///
    /// `text` is valid for writes of `room` bytes for `'a`, and nobody else uses them.
    unsafe fn new<'a>(text: *mut c_char, room: c_uint) -> Answer<'a> {
        Answer {
            // SAFETY: By this function's requirements.
            room: unsafe { core::slice::from_raw_parts_mut(text.cast(), room as usize) },
            len: 0,
        }
    }

    /// Ends the text with a NUL.
    fn finish(self) {
        let end = self.len.min(self.room.len().saturating_sub(1));
        if let Some(byte) = self.room.get_mut(end) {
            *byte = 0;
        }
    }
}

impl core::fmt::Write for Answer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let rest = self.room.get_mut(self.len..).unwrap_or_default();
        let len = text.len().min(rest.len());
        for (to, from) in rest.iter_mut().zip(text.as_bytes()) {
            *to = *from;
        }
        self.len = self.len.saturating_add(len);
        Ok(())
    }
}

/// A target and what it needs to run: `dm_target.private`.
struct Private<T: Target> {
    // Dropped in this order: work ends, then the target, then its devices.
    crew: KBox<Crew<BioJob<T>>>,
    target: T,
    /// The words of the table line.
    words: KVec<KVec<u8>>,
    devices: Devices,
}

/// A kind of target that tables can name, until this is dropped. A table that names it while the module
/// is being loaded waits for that.
///
/// # Invariants
///
/// The type is registered, and nothing moves it.
pub(crate) struct Registration<T: Target> {
    kind: KBox<Kind<T>>,
}

#[repr(C)]
struct Kind<T: Target> {
    kind: Opaque<generated::target_type>,
    /// What tables come through.
    door: Door,
    shared: T::Shared,
}

// SAFETY: A type may be unregistered from any thread.
unsafe impl<T: Target> Send for Registration<T> {}
// SAFETY: Shared references give nothing away.
unsafe impl<T: Target> Sync for Registration<T> {}

impl<T: Target> Registration<T> {
    /// Registers the kind of target.
    pub(crate) fn new(shared: T::Shared) -> Result<Self> {
        let kind = generated::target_type {
            name: T::NAME.as_char_ptr(),
            // `map` never sleeps, whatever becomes of the bio.
            features: u64::from(generated::DM_TARGET_NOWAIT),
            // Tables with such a target pin the module.
            module: (&raw const bindings::__this_module).cast_mut(),
            version: T::VERSION,
            ctr: Some(Self::ctr),
            dtr: Some(Self::dtr),
            map: Some(Self::map),
            status: Some(Self::status),
            message: Some(Self::message),
            io_hints: Some(Self::io_hints),
            ..Default::default()
        };
        let kind = Opaque::new(kind);
        let door = Door::new();
        let kind = KBox::new(Kind { kind, door, shared }, GFP_KERNEL)?;
        // SAFETY: The type is complete, and its address final.
        to_result(unsafe { generated::dm_register_target(kind.kind.get()) })?;
        // INVARIANT: Registered just now; a box does not move what it holds.
        Ok(Self { kind })
    }

    /// # Safety
    ///
    /// Called by device-mapper with a new target and the words of its table line.
    unsafe extern "C" fn ctr(
        ti: *mut generated::dm_target,
        argc: c_uint,
        argv: *mut *mut c_char,
    ) -> c_int {
        // SAFETY: By this function's requirements.
        let (ti, words) = unsafe { (NonNull::new_unchecked(ti), words(argc, argv)) };
        match words
            .map_err(Refusal::from)
            .and_then(|words| Self::construct(ti, &words))
        {
            Ok(private) => {
                // SAFETY: The target is being constructed; `dtr` takes the box back.
                unsafe {
                    (*ti.as_ptr()).private = KBox::into_raw(private).cast();
                    (*ti.as_ptr()).per_io_data_size = core::mem::size_of::<PerBio<T>>() as u32;
                }
                0
            }
            Err(refusal) => {
                // SAFETY: The target is being constructed; the text is static.
                unsafe { (*ti.as_ptr()).error = refusal.text.as_char_ptr().cast_mut() };
                refusal.errno.to_errno()
            }
        }
    }

    fn construct(
        ti: NonNull<generated::dm_target>,
        words: &[&CStr],
    ) -> Result<KBox<Private<T>>, Refusal> {
        // SAFETY: The target is being constructed, and outlives its devices.
        let mut devices = unsafe { Devices::none(ti) };
        // SAFETY: A new target's type is the one that was registered, the first field of a `Kind`.
        let kind = unsafe { &*(*ti.as_ptr()).type_.cast::<Kind<T>>() };
        kind.door
            .enter()
            .map_err(|errno| Refusal::new(errno, c"the module was not loaded"))?;
        let target = T::new(&kind.shared, &mut devices.table(), words)?;
        let mut kept = KVec::with_capacity(words.len(), GFP_KERNEL).map_err(Error::from)?;
        for word in words {
            let mut copy = KVec::new();
            copy.extend_from_slice(word.to_bytes(), GFP_KERNEL)
                .map_err(Error::from)?;
            kept.push(copy, GFP_KERNEL).map_err(Error::from)?;
        }
        let private = Private {
            crew: Crew::new(T::NAME)?,
            target,
            words: kept,
            devices,
        };
        Ok(KBox::new(private, GFP_KERNEL).map_err(Error::from)?)
    }

    /// # Safety
    ///
    /// Called by device-mapper with a target that `ctr` has made and that has no bios left.
    unsafe extern "C" fn dtr(ti: *mut generated::dm_target) {
        // SAFETY: Boxed by `ctr`, and not used afterwards.
        drop(unsafe { KBox::from_raw((*ti).private.cast::<Private<T>>()) });
    }

    /// # Safety
    ///
    /// Called by device-mapper with a live target and a bio with memory for its data.
    unsafe extern "C" fn map(ti: *mut generated::dm_target, bio: *mut bindings::bio) -> c_int {
        const SUBMITTED: c_int = generated::DM_MAPIO_SUBMITTED as c_int;
        const KILL: c_int = generated::DM_MAPIO_KILL as c_int;

        // SAFETY: By this function's requirements.
        let (bio, private) = unsafe {
            (
                NonNull::new_unchecked(bio),
                (*ti).private.cast::<Private<T>>(),
            )
        };
        // SAFETY: The memory is the bio's, and nobody uses it yet; a bio lies inside its target.
        unsafe {
            let sector = (*bio.as_ptr()).bi_iter.bi_sector.wrapping_sub((*ti).begin);
            let data = per_bio::<T>(bio);
            (&raw mut (*data).private).write(private);
            (&raw mut (*data).start).write(sector.saturating_mul(SECTOR));
            Job::<BioJob<T>>::init(bio);
        }
        // SAFETY: The target is live.
        let private = unsafe { &*private };
        // SAFETY: Initialised just now, and given to nobody before this reference is gone; the part is the
        // only one, and goes with the call.
        let (range, verdict) = unsafe {
            let bio = Bio::new(bio);
            let range = bio.range();
            let all = Part::new(&bio, range.clone());
            (range, private.target.map(&bio, all))
        };
        match verdict {
            Ok(Verdict::Served) => {
                // SAFETY: Initialised above, never started, and given to nobody.
                unsafe {
                    Job::<BioJob<T>>::exit(bio);
                    bindings::bio_endio(bio.as_ptr());
                }
                SUBMITTED
            }
            Ok(Verdict::Workers(workers)) => {
                // SAFETY: Initialised above, the part is gone, and the bio not touched afterwards.
                unsafe {
                    generated::vbd_bio_own(bio.as_ptr());
                    Job::<BioJob<T>>::start(bio, range, workers, &private.crew);
                }
                SUBMITTED
            }
            Err(_) => {
                // SAFETY: Initialised above, and never started.
                unsafe { Job::<BioJob<T>>::exit(bio) };
                KILL
            }
        }
    }

    /// # Safety
    ///
    /// Called by device-mapper with a live target and room for text.
    unsafe extern "C" fn status(
        ti: *mut generated::dm_target,
        kind: generated::status_type_t,
        _flags: c_uint,
        text: *mut c_char,
        room: c_uint,
    ) {
        use core::fmt::Write;

        // SAFETY: By this function's requirements.
        let (private, mut out) = unsafe {
            (
                &*(*ti).private.cast::<Private<T>>(),
                Answer::new(text, room),
            )
        };
        // Writing to an answer cannot fail, it cuts off.
        let _ = match kind {
            generated::status_type_t_STATUSTYPE_INFO => private.target.status(&mut out),
            generated::status_type_t_STATUSTYPE_TABLE => private.table(&mut out),
            _ => write!(
                out,
                "target_name={},target_version={}.{}.{};",
                T::NAME.to_str().unwrap_or(""),
                T::VERSION[0],
                T::VERSION[1],
                T::VERSION[2]
            ),
        };
        out.finish();
    }

    /// # Safety
    ///
    /// Called by device-mapper with a live target, words, and room for an answer.
    unsafe extern "C" fn message(
        ti: *mut generated::dm_target,
        argc: c_uint,
        argv: *mut *mut c_char,
        text: *mut c_char,
        room: c_uint,
    ) -> c_int {
        /// There is an answer to show.
        const ANSWERED: c_int = 1;

        // SAFETY: By this function's requirements.
        let (private, words, mut out) = unsafe {
            (
                &*(*ti).private.cast::<Private<T>>(),
                words(argc, argv),
                Answer::new(text, room),
            )
        };
        match words.and_then(|words| private.target.message(&words, &mut out)) {
            Ok(()) => {
                out.finish();
                ANSWERED
            }
            Err(error) => error.to_errno(),
        }
    }
}

impl<T: Target> Registration<T> {
    /// `target_type.io_hints`: what a disk of vbd.ko says of itself.
    ///
    /// Bios end here: none goes on to a device below, whose limits are therefore no limits of the
    /// target (there is no `iterate_devices`); and there is nothing to poll.
    ///
    /// # Safety
    ///
    /// Called by device-mapper with limits to write.
    unsafe extern "C" fn io_hints(
        _ti: *mut generated::dm_target,
        limits: *mut bindings::queue_limits,
    ) {
        // SAFETY: By this function's requirements.
        unsafe {
            (*limits).logical_block_size = SECTOR as u32;
            (*limits).physical_block_size = bindings::PAGE_SIZE as u32;
            (*limits).io_min = bindings::PAGE_SIZE as u32;
            (*limits).io_opt = T::OPTIMAL_SIZE;
            (*limits).features &= !generated::VBD_FEAT_POLL;
        }
    }
}

impl<T: Target> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by the type invariant. Tables that have named it pin the module, and are
        // waited for before the type goes.
        unsafe { generated::dm_unregister_target(self.kind.kind.get()) };
        self.kind.door.close();
    }
}

impl<T: Target> Private<T> {
    /// The table line, with devices as device-mapper names them.
    fn table(&self, out: &mut Answer<'_>) -> fmt::Result {
        use core::fmt::Write;

        for (i, pair) in self.words.chunks(2).enumerate() {
            let bytes = pair.get(1).map_or(&[][..], |word| word.as_slice());
            let space = if i == 0 { "" } else { " " };
            write!(
                out,
                "{space}{} {}",
                self.devices.name(i),
                core::str::from_utf8(bytes).unwrap_or("")
            )?;
        }
        Ok(())
    }
}

/// Words that device-mapper passes.
///
/// # Safety
///
/// `argv` holds `argc` pointers to NUL-terminated text, valid for `'a`.
unsafe fn words<'a>(argc: c_uint, argv: *mut *mut c_char) -> Result<KVec<&'a CStr>> {
    let mut words = KVec::with_capacity(argc as usize, GFP_KERNEL)?;
    for i in 0..argc as usize {
        // SAFETY: By this function's requirements.
        words.push(unsafe { CStr::from_char_ptr(*argv.add(i)) }, GFP_KERNEL)?;
    }
    Ok(words)
}
