// SPDX-License-Identifier: GPL-2.0

//! A string module parameter of any length.
//!
//! Mainline's `module!` takes integers only, and the kernel's `charp` stops at 1024 characters,
//! which 255 paths exceed. C header: `include/linux/moduleparam.h`.

use core::cell::UnsafeCell;
use kernel::bindings;
use kernel::ffi::{c_char, c_int, c_void};
use kernel::prelude::*;
use kernel::str::{as_char_ptr_in_const_context, CStr};

/// A parameter's text, set before the module's init runs and constant afterwards.
///
/// # Invariants
///
/// The text is written only by [`set`], which the kernel calls while it parses the arguments of
/// the module: once an argument, one at a time, all before init. The parameter has no permissions
/// in sysfs, so nobody writes it later.
pub(crate) struct StringParam(UnsafeCell<Option<KVVec<u8>>>);

// SAFETY: By the type invariant writes never overlap with other accesses.
unsafe impl Sync for StringParam {}

impl StringParam {
    const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }

    /// The text without its NUL; empty if the parameter was not given.
    ///
    /// To be called from the module's init or later, which is the only time there is.
    pub(crate) fn value(&'static self) -> &'static [u8] {
        // SAFETY: By the type invariant nothing writes any more.
        unsafe { (*self.0.get()).as_deref().unwrap_or_default() }
    }

    /// Frees the text.
    ///
    /// # Safety
    ///
    /// Nobody holds or asks for the value any more.
    unsafe fn free(&self) {
        // SAFETY: By this function's requirements the access is exclusive.
        unsafe { *self.0.get() = None };
    }
}

/// `kernel_param_ops.set`: copies the argument.
///
/// # Safety
///
/// `val` is null or NUL-terminated; `kp` is the parameter below.
unsafe extern "C" fn set(val: *const c_char, kp: *const bindings::kernel_param) -> c_int {
    if val.is_null() {
        return EINVAL.to_errno();
    }
    // SAFETY: NUL-terminated by this function's requirements.
    let text = unsafe { CStr::from_char_ptr(val) }.to_bytes();
    let mut copy = KVVec::new();
    if copy.extend_from_slice(text, GFP_KERNEL).is_err() {
        return ENOMEM.to_errno();
    }
    // SAFETY: `arg` of the only parameter with these operations is a `StringParam`; by its
    // invariant the access is exclusive.
    unsafe {
        let param = (*kp).__bindgen_anon_1.arg.cast::<StringParam>();
        *(*param).0.get() = Some(copy);
    }
    0
}

/// `kernel_param_ops.free`: called when the module goes, or when its init fails.
///
/// # Safety
///
/// `arg` is a `StringParam` that nobody uses any more.
unsafe extern "C" fn free(arg: *mut c_void) {
    // SAFETY: By this function's requirements.
    unsafe { (*arg.cast::<StringParam>()).free() };
}

static OPS: bindings::kernel_param_ops = bindings::kernel_param_ops {
    flags: 0,
    set: Some(set),
    get: None,
    free: Some(free),
};

/// `backfile=`: layer files, bottom first, separated by commas.
pub(crate) static BACKFILE: StringParam = StringParam::new();

/// A `kernel_param` is found by its section and only ever read.
#[repr(transparent)]
struct Registration(bindings::kernel_param);

// SAFETY: The structure is constant, and what it points to is `Sync`.
unsafe impl Sync for Registration {}

#[link_section = "__param"]
#[used(compiler)]
static BACKFILE_PARAM: Registration = Registration(bindings::kernel_param {
    name: as_char_ptr_in_const_context(c"backfile"),
    // The kernel makes this object when it loads the module; only its address is taken.
    mod_: (&raw const bindings::__this_module).cast_mut(),
    ops: &OPS,
    perm: 0,
    level: -1,
    flags: 0,
    __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
        arg: core::ptr::from_ref(&BACKFILE).cast_mut().cast(),
    },
});

#[link_section = ".modinfo"]
#[used(compiler)]
static BACKFILE_TYPE: [u8; 24] = *b"parmtype=backfile:charp\0";

#[link_section = ".modinfo"]
#[used(compiler)]
static BACKFILE_TEXT: [u8; 68] =
    *b"parm=backfile:layer files of /dev/vbd0, bottom first, comma between\0";
