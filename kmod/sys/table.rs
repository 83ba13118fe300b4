// SPDX-License-Identifier: GPL-2.0

//! Memory whose size an image decides: as much as it takes and no more, and a refusal where there is no
//! more.
//!
//! The vectors of the kernel crate grow by doubling, ask in a way that has processes killed before it
//! fails, and take powers of two from the page allocator.

use super::generated;
use core::ptr::NonNull;
use kernel::alloc::AllocError;

/// A fixed number of elements, each its type's default at first.
///
/// # Invariants
///
/// `ptr` is valid for `len` elements, all of them initialised, in memory of `vbd_table_alloc()` that
/// belongs to this value; or `len` was 0 from the start and `ptr` dangles.
pub(crate) struct Table<T: Copy> {
    ptr: NonNull<T>,
    len: usize,
    allocated: bool,
}

// SAFETY: Owns its elements, as a box would.
unsafe impl<T: Copy + Send> Send for Table<T> {}
// SAFETY: As above.
unsafe impl<T: Copy + Sync> Sync for Table<T> {}

impl<T: Copy + Default> Table<T> {
    /// Allocates `len` elements. May sleep, and fails before anybody is killed for memory.
    pub(crate) fn new(len: usize) -> Result<Self, AllocError> {
        const {
            assert!(align_of::<T>() <= 8, "small tables are aligned to 8 bytes");
            assert!(size_of::<T>() != 0);
        }
        let mut table = Self {
            ptr: NonNull::dangling(),
            len: 0,
            allocated: false,
        };
        if len == 0 {
            return Ok(table);
        }
        let bytes = len.checked_mul(size_of::<T>()).ok_or(AllocError)?;
        // SAFETY: Takes a number that is not 0.
        let memory = unsafe { generated::vbd_table_alloc(bytes) };
        table.ptr = NonNull::new(memory.cast()).ok_or(AllocError)?;
        table.allocated = true;
        for place in 0..len {
            // SAFETY: Inside of what was allocated just now.
            unsafe { table.ptr.add(place).write(T::default()) };
        }
        // INVARIANT: All elements were written.
        table.len = len;
        Ok(table)
    }
}

impl<T: Copy> Table<T> {
    /// Bytes that a table of `len` elements takes.
    pub(crate) fn bytes(len: usize) -> u64 {
        (len as u64).saturating_mul(size_of::<T>() as u64)
    }

    /// Forgets all elements but the first `len`; their memory stays.
    pub(crate) fn truncate(&mut self, len: usize) {
        // INVARIANT: Fewer elements of the same memory.
        self.len = self.len.min(len);
    }
}

impl<T: Copy> core::ops::Deref for Table<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: By the type invariant.
        unsafe { core::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Copy> core::ops::DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: By the type invariant; the value is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Copy> Drop for Table<T> {
    fn drop(&mut self) {
        if self.allocated {
            // SAFETY: The memory is this value's by the type invariant, and this is its end.
            unsafe { generated::vbd_table_free(self.ptr.as_ptr().cast()) };
        }
    }
}
