// SPDX-License-Identifier: GPL-2.0

//! Directories that users make in configfs, and the attributes in them.
//!
//! Mainline's `kernel::configfs` has no read-only attributes and cannot keep a directory from being
//! removed; and in 7.2 it mistakes a subsystem's root for an ordinary group, because it looks for
//! the root by an empty `cg_subsys`, which `link_group()` fills for the root too. C header:
//! `include/linux/configfs.h`.
//!
//! Who may call what when: configfs serialises `mkdir` and `rmdir` of a subsystem; attributes of one
//! directory can be read and written at the same time, and at the same time as `mkdir` below it,
//! but never after its `rmdir` has returned.

use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::ffi::c_char;
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::{as_char_ptr_in_const_context, CStr};
use kernel::sync::atomic::{Atomic, Full, Relaxed};
use kernel::types::Opaque;

/// Attributes that a directory has at most.
const MAX_ATTRIBUTES: usize = 11;

/// Bytes of the page that an attribute is shown in.
const PAGE_SIZE: usize = bindings::PAGE_SIZE;

/// A directory in configfs.
pub(crate) trait Directory: Sized + Send + Sync + 'static {
    /// The files in it, at most [`MAX_ATTRIBUTES`].
    const ATTRIBUTES: &'static [Attribute<Self>];

    /// What `mkdir` in it makes.
    type Child: Directory;

    /// `mkdir`: makes directory `name`.
    fn make_child(&self, name: &CStr) -> Result<Self::Child>;

    /// `rmdir`: the child goes, and with it whatever it stands for. Must not fail.
    fn drop_child(&self, child: &Self::Child);
}

/// A directory without directories in it is its own kind of child, never made.
impl Directory for core::convert::Infallible {
    const ATTRIBUTES: &'static [Attribute<Self>] = &[];
    type Child = Self;

    fn make_child(&self, _name: &CStr) -> Result<Self> {
        match *self {}
    }

    fn drop_child(&self, child: &Self) {
        match *child {}
    }
}

/// A file in a directory: mode 0444, or 0644 if it can be written.
pub(crate) struct Attribute<D> {
    pub(crate) name: &'static CStr,
    /// Writes the value; what does not fit a page is an error.
    pub(crate) show: fn(&D, &mut Text<'_>) -> fmt::Result,
    /// Takes what the user wrote.
    pub(crate) store: Option<Store<D>>,
}

/// Takes what the user wrote to an attribute of a directory.
pub(crate) type Store<D> = fn(&D, Hold<'_>, &[u8]) -> Result;

/// The page that an attribute is shown in.
pub(crate) struct Text<'a> {
    page: &'a mut [u8],
    len: usize,
}

impl Text<'_> {
    /// Appends bytes as they are.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> fmt::Result {
        let end = self.len.checked_add(bytes.len()).ok_or(fmt::Error)?;
        self.page
            .get_mut(self.len..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes())
    }
}

/// The directory whose attribute is being written, to be kept from `rmdir` or let go.
///
/// # Invariants
///
/// `item` is the item of a linked directory below a subsystem whose callback is running, and `held`
/// is that directory's.
#[derive(Clone, Copy)]
pub(crate) struct Hold<'a> {
    item: NonNull<bindings::config_item>,
    held: &'a Atomic<bool>,
}

impl Hold<'_> {
    /// Makes `rmdir` of the directory fail with `EBUSY` from now on.
    pub(crate) fn take(self) -> Result {
        if self.held.xchg(true, Full) {
            return Ok(());
        }
        // SAFETY: By the type invariant the item is linked and the caller is a callback of the same
        // subsystem, which is what this function asks for.
        let result = to_result(unsafe {
            let parent = (*self.item.as_ptr()).ci_group;
            bindings::configfs_depend_item_unlocked((*parent).cg_subsys, self.item.as_ptr())
        });
        if result.is_err() {
            self.held.store(false, Relaxed);
        }
        result
    }

    /// Lets `rmdir` of the directory succeed again.
    pub(crate) fn release(self) {
        if self.held.xchg(false, Full) {
            // SAFETY: The item is linked by the type invariant, and `held` said that `take` has
            // made it depended on, which is undone just once.
            unsafe { bindings::configfs_undepend_item(self.item.as_ptr()) };
        }
    }
}

/// A directory that `mkdir` has made. configfs counts references to the group, and `release` frees
/// the whole.
#[repr(C)]
struct Group<D> {
    group: Opaque<bindings::config_group>,
    held: Atomic<bool>,
    directory: D,
}

/// The top directory of a module, there until this is dropped.
///
/// # Invariants
///
/// `root` is registered, and nothing moves it.
pub(crate) struct Subsystem<D: Directory> {
    root: KBox<Root<D>>,
}

#[repr(C)]
struct Root<D> {
    subsystem: Opaque<bindings::configfs_subsystem>,
    directory: D,
}

// SAFETY: A subsystem may be unregistered from any thread.
unsafe impl<D: Directory> Send for Subsystem<D> {}
// SAFETY: Shared references give nothing away.
unsafe impl<D: Directory> Sync for Subsystem<D> {}

impl<D: Directory> Subsystem<D> {
    /// Makes `/sys/kernel/config/<name>`. The top directory has no attributes of its own.
    // Not inlined, so that the module's init takes little of the stack while it attaches.
    #[inline(never)]
    pub(crate) fn new(name: &CStr, directory: D) -> Result<Self> {
        let root = Root {
            subsystem: Opaque::new(pin_init::zeroed::<bindings::configfs_subsystem>()),
            directory,
        };
        let root = KBox::new(root, GFP_KERNEL)?;
        let subsystem = root.subsystem.get();
        // SAFETY: The subsystem is zero and its address final; the mutex and the group in it are
        // initialised before it is registered.
        unsafe {
            bindings::config_group_init_type_name(
                &raw mut (*subsystem).su_group,
                name.as_char_ptr(),
                &Table::<Root<D>, D>::TYPE,
            );
            bindings::__mutex_init(
                &raw mut (*subsystem).su_mutex,
                name.as_char_ptr(),
                kernel::static_lock_class!().as_ptr(),
            );
            to_result(bindings::configfs_register_subsystem(subsystem))?;
        }
        // INVARIANT: Registered just now; a box does not move what it holds.
        Ok(Self { root })
    }
}

impl<D: Directory> Drop for Subsystem<D> {
    fn drop(&mut self) {
        // SAFETY: Registered by the type invariant. Directories below it pin the module, so there
        // are none when the module goes.
        unsafe { bindings::configfs_unregister_subsystem(self.root.subsystem.get()) };
    }
}

/// How to get from a `config_group` to the directory around it.
///
/// # Safety
///
/// The implementing type is `repr(C)` and begins with a `config_group`.
unsafe trait Container {
    type Directory: Directory;

    fn directory(&self) -> &Self::Directory;
}

// SAFETY: `group` is transparent over the group and comes first.
unsafe impl<D: Directory> Container for Group<D> {
    type Directory = D;

    fn directory(&self) -> &D {
        &self.directory
    }
}

// SAFETY: `subsystem` is transparent over the subsystem, which begins with its group; checked below.
unsafe impl<D: Directory> Container for Root<D> {
    type Directory = D;

    fn directory(&self) -> &D {
        &self.directory
    }
}

const _: () = assert!(core::mem::offset_of!(bindings::configfs_subsystem, su_group) == 0);
const _: () = assert!(core::mem::offset_of!(bindings::config_group, cg_item) == 0);

/// Refuses whoever may not make disks: configfs asks for the modes of files alone, and those the root
/// user of a container passes that was given the directory.
fn permitted() -> Result {
    // SAFETY: Looks at the credentials of the current task.
    if unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as kernel::ffi::c_int) } {
        Ok(())
    } else {
        Err(EPERM)
    }
}

/// The tables that configfs is given for directories `D` in containers `C`.
struct Table<C, D>(PhantomData<(C, D)>);

impl<C: Container<Directory = D>, D: Directory> Table<C, D> {
    const TYPE: bindings::config_item_type = bindings::config_item_type {
        // A directory pins the module.
        ct_owner: (&raw const bindings::__this_module).cast_mut(),
        ct_item_ops: &Self::ITEM_OPS,
        ct_group_ops: &Self::GROUP_OPS,
        ct_attrs: Self::ATTRIBUTE_LIST.as_ptr().cast_mut(),
        ct_bin_attrs: core::ptr::null_mut(),
    };

    const ITEM_OPS: bindings::configfs_item_operations = bindings::configfs_item_operations {
        release: Some(Self::release),
        allow_link: None,
        drop_link: None,
    };

    const GROUP_OPS: bindings::configfs_group_operations = bindings::configfs_group_operations {
        make_item: None,
        make_group: Some(Self::make_group),
        disconnect_notify: None,
        drop_item: Some(Self::drop_item),
        is_visible: None,
        is_bin_visible: None,
    };

    const ATTRIBUTES: &'static [bindings::configfs_attribute; MAX_ATTRIBUTES] = &[
        Self::attribute::<0>(),
        Self::attribute::<1>(),
        Self::attribute::<2>(),
        Self::attribute::<3>(),
        Self::attribute::<4>(),
        Self::attribute::<5>(),
        Self::attribute::<6>(),
        Self::attribute::<7>(),
        Self::attribute::<8>(),
        Self::attribute::<9>(),
        Self::attribute::<10>(),
    ];

    const ATTRIBUTE_LIST: &'static [*mut bindings::configfs_attribute; MAX_ATTRIBUTES + 1] = &{
        assert!(D::ATTRIBUTES.len() <= MAX_ATTRIBUTES);
        let mut list = [core::ptr::null_mut(); MAX_ATTRIBUTES + 1];
        let mut i = 0;
        while i < D::ATTRIBUTES.len() {
            // configfs does not write to attributes.
            list[i] = core::ptr::from_ref(&Self::ATTRIBUTES[i]).cast_mut();
            i += 1;
        }
        list
    };

    const fn attribute<const I: usize>() -> bindings::configfs_attribute {
        let (name, writable) = if I < D::ATTRIBUTES.len() {
            let attribute = &D::ATTRIBUTES[I];
            (
                as_char_ptr_in_const_context(attribute.name),
                attribute.store.is_some(),
            )
        } else {
            (core::ptr::null(), false)
        };
        bindings::configfs_attribute {
            ca_name: name,
            ca_owner: (&raw const bindings::__this_module).cast_mut(),
            ca_mode: if writable { 0o644 } else { 0o444 },
            show: Some(Self::show::<I>),
            store: if writable {
                Some(Self::store::<I>)
            } else {
                None
            },
        }
    }

    /// # Safety
    ///
    /// Called by configfs for attribute `I` of a group made by `make_group`, with a page to write.
    unsafe extern "C" fn show<const I: usize>(
        item: *mut bindings::config_item,
        page: *mut c_char,
    ) -> isize {
        // SAFETY: The item begins its group, which begins its container (`Container`).
        let directory = unsafe { &*item.cast::<C>() }.directory();
        // SAFETY: By this function's requirements; nobody else has the page.
        let page = unsafe { core::slice::from_raw_parts_mut(page.cast::<u8>(), PAGE_SIZE) };
        let mut text = Text { page, len: 0 };
        match D::ATTRIBUTES.get(I).map(|a| (a.show)(directory, &mut text)) {
            Some(Ok(())) => text.len as isize,
            _ => EIO.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by configfs for attribute `I` of a group made by `make_group`, with `len` bytes.
    unsafe extern "C" fn store<const I: usize>(
        item: *mut bindings::config_item,
        page: *const c_char,
        len: usize,
    ) -> isize {
        // SAFETY: Only groups made by `make_group` have attributes; the item begins one.
        let group = unsafe { &*item.cast::<Group<D>>() };
        // SAFETY: By this function's requirements.
        let bytes = unsafe { core::slice::from_raw_parts(page.cast::<u8>(), len) };
        let Some(store) = D::ATTRIBUTES.get(I).and_then(|a| a.store) else {
            return EINVAL.to_errno() as isize;
        };
        let Some(item) = NonNull::new(item) else {
            return EINVAL.to_errno() as isize;
        };
        // INVARIANT: configfs keeps a directory linked while an attribute of it is written.
        let hold = Hold {
            item,
            held: &group.held,
        };
        match permitted().and_then(|()| store(&group.directory, hold, bytes)) {
            Ok(()) => len as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by configfs with a group of container `C` and a NUL-terminated name.
    unsafe extern "C" fn make_group(
        parent: *mut bindings::config_group,
        name: *const c_char,
    ) -> *mut bindings::config_group {
        // SAFETY: The group begins its container (`Container`).
        let directory = unsafe { &*parent.cast::<C>() }.directory();
        // SAFETY: NUL-terminated by this function's requirements.
        let text = unsafe { CStr::from_char_ptr(name) };
        // The memory first: a child that is made is told of its end, which takes its group.
        let room = KBox::<Group<D::Child>>::new_uninit(GFP_KERNEL).map_err(Error::from);
        let made = permitted().and(room).and_then(|room| {
            let group = Group {
                group: Opaque::new(pin_init::zeroed::<bindings::config_group>()),
                held: Atomic::new(false),
                directory: directory.make_child(text)?,
            };
            Ok(KBox::write(room, group))
        });
        match made {
            Ok(group) => {
                let group = KBox::into_raw(group).cast::<bindings::config_group>();
                // SAFETY: The group is zero and its address final. It is given to configfs, whose
                // last reference ends in `release`.
                unsafe {
                    bindings::config_group_init_type_name(
                        group,
                        name,
                        &Table::<Group<D::Child>, D::Child>::TYPE,
                    );
                }
                group
            }
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by configfs with a group of container `C` and an item that its `make_group` has made.
    unsafe extern "C" fn drop_item(
        parent: *mut bindings::config_group,
        item: *mut bindings::config_item,
    ) {
        // SAFETY: The group begins its container (`Container`).
        let directory = unsafe { &*parent.cast::<C>() }.directory();
        // SAFETY: The item begins the `Group` that `make_group` has boxed.
        directory.drop_child(&unsafe { &*item.cast::<Group<D::Child>>() }.directory);
        // SAFETY: The reference that `make_group` gave to configfs is given back here.
        unsafe { bindings::config_item_put(item) };
    }

    /// # Safety
    ///
    /// Called by configfs when nobody refers to an item of container `C` any more.
    unsafe extern "C" fn release(item: *mut bindings::config_item) {
        // A subsystem's own item is never released: it lies in a `Root`, which its owner frees, and
        // unregistering gives back just the references that registering took.
        // SAFETY: The item begins the container, which `make_group` has boxed.
        drop(unsafe { KBox::from_raw(item.cast::<C>()) });
    }
}
