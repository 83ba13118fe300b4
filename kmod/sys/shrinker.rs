// SPDX-License-Identifier: GPL-2.0

//! Caches that give memory back when the system is short of it.
//!
//! Mainline has no Rust abstraction for shrinkers. C header: `include/linux/shrinker.h`.

use core::ptr::NonNull;
use kernel::bindings;
use kernel::ffi::c_ulong;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Something that can be made smaller. Both functions are called from anywhere memory is allocated
/// with the right to reclaim, so they must not allocate nor wait for those who do.
pub(crate) trait Shrinkable: Send + Sync + 'static {
    /// Objects that could be freed.
    fn count(&self) -> usize;

    /// Frees about `objects` objects; returns how many were.
    fn scan(&self, objects: usize) -> usize;
}

/// A cache's registration with memory reclaim, until this is dropped.
///
/// # Invariants
///
/// `shrinker` is registered, and its private data is `cache`.
pub(crate) struct Shrinker<T: Shrinkable> {
    shrinker: NonNull<bindings::shrinker>,
    _cache: Arc<T>,
}

// SAFETY: A shrinker may be freed from any thread.
unsafe impl<T: Shrinkable> Send for Shrinker<T> {}
// SAFETY: Shared references give nothing away.
unsafe impl<T: Shrinkable> Sync for Shrinker<T> {}

impl<T: Shrinkable> Shrinker<T> {
    /// Registers a cache.
    pub(crate) fn new(cache: Arc<T>) -> Result<Self> {
        // SAFETY: The format takes no arguments.
        let shrinker = unsafe { bindings::shrinker_alloc(0, c"vbd-blocks".as_char_ptr()) };
        let shrinker = NonNull::new(shrinker).ok_or(ENOMEM)?;
        // SAFETY: Just allocated; the cache outlives the registration, which `drop` ends first.
        unsafe {
            let raw = shrinker.as_ptr();
            (*raw).count_objects = Some(Self::count);
            (*raw).scan_objects = Some(Self::scan);
            (*raw).private_data = core::ptr::from_ref(&*cache).cast_mut().cast();
            bindings::shrinker_register(raw);
        }
        // INVARIANT: Registered just now.
        Ok(Self {
            shrinker,
            _cache: cache,
        })
    }

    /// # Safety
    ///
    /// Called by memory reclaim with a registered shrinker.
    unsafe extern "C" fn count(
        shrinker: *mut bindings::shrinker,
        _control: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: The private data is the cache, by the type invariant.
        let cache = unsafe { &*(*shrinker).private_data.cast::<T>() };
        cache.count()
    }

    /// # Safety
    ///
    /// Called by memory reclaim with a registered shrinker and what it wants.
    unsafe extern "C" fn scan(
        shrinker: *mut bindings::shrinker,
        control: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: The private data is the cache, by the type invariant.
        let cache = unsafe { &*(*shrinker).private_data.cast::<T>() };
        // SAFETY: By this function's requirements.
        let wanted = unsafe { (*control).nr_to_scan };
        cache.scan(wanted)
    }
}

impl<T: Shrinkable> Drop for Shrinker<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by the type invariant; waits for calls under way.
        unsafe { bindings::shrinker_free(self.shrinker.as_ptr()) };
    }
}
