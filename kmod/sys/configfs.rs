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

use super::this_module::Door;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::ffi::c_char;
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::{as_char_ptr_in_const_context, CStr};
use kernel::sync::atomic::{Atomic, Full, Release};
use kernel::types::Opaque;

/// Attributes that a directory has at most.
const MAX_ATTRIBUTES: usize = 11;

/// Bytes of an attribute's text: `SIMPLE_ATTR_SIZE`, which fs/configfs/file.c keeps for itself. Pages may be
/// larger, and more than this is refused there.
const ATTRIBUTE_BYTES: usize = 4096;

/// A directory in configfs that others can be made in.
pub(crate) trait Parent: Sized + Send + Sync + 'static {
    /// What `mkdir` in it makes.
    type Child: Directory;

    /// `mkdir`: makes directory `name`.
    fn make_child(&self, name: &CStr) -> Result<Self::Child>;

    /// `rmdir`: the child goes, and with it whatever it stands for. Must not fail.
    fn drop_child(&self, child: &Self::Child);
}

/// A directory that `mkdir` makes, and the files in it. The top directory of a module has none.
pub(crate) trait Directory: Parent {
    /// The files in it, at most [`MAX_ATTRIBUTES`].
    const ATTRIBUTES: &'static [Attribute<Self>];
}

/// A directory without directories in it is its own kind of child, never made.
impl Parent for core::convert::Infallible {
    type Child = Self;

    fn make_child(&self, _name: &CStr) -> Result<Self> {
        match *self {}
    }

    fn drop_child(&self, child: &Self) {
        match *child {}
    }
}

impl Directory for core::convert::Infallible {
    const ATTRIBUTES: &'static [Attribute<Self>] = &[];
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
    held: &'a Atomic<u32>,
}

impl Hold<'_> {
    /// Makes `rmdir` of the directory fail with `EBUSY` from now on. `EBUSY` if somebody else is about
    /// to do the same.
    pub(crate) fn take(self) -> Result {
        match self.held.cmpxchg(FREE, TAKING, Full) {
            Ok(_) => {}
            Err(HELD) => return Ok(()),
            Err(_) => return Err(EBUSY),
        }
        // SAFETY: By the type invariant the item is linked and the caller is a callback of the same
        // subsystem, which is what this function asks for.
        let result = to_result(unsafe {
            let parent = (*self.item.as_ptr()).ci_group;
            bindings::configfs_depend_item_unlocked((*parent).cg_subsys, self.item.as_ptr())
        });
        let held = if result.is_ok() { HELD } else { FREE };
        self.held.store(held, Release);
        result
    }

    /// Lets `rmdir` of the directory succeed again.
    pub(crate) fn release(self) {
        if self.held.cmpxchg(HELD, FREE, Full).is_ok() {
            // SAFETY: The item is linked by the type invariant, and `held` said that `take` has
            // made it depended on, which is undone just once.
            unsafe { bindings::configfs_undepend_item(self.item.as_ptr()) };
        }
    }
}

/// Whether a directory is kept from `rmdir`: it is not, is about to be, or is.
const FREE: u32 = 0;
const TAKING: u32 = 1;
const HELD: u32 = 2;

/// A directory that `mkdir` has made. configfs counts references to the group, and `release` frees
/// the whole.
#[repr(C)]
struct Group<D> {
    group: Opaque<bindings::config_group>,
    held: Atomic<u32>,
    directory: D,
}

/// The top directory of a module, there until this is dropped. It is seen at once; `mkdir` in it waits
/// until the module is loaded.
///
/// # Invariants
///
/// `root` is registered, and nothing moves it.
pub(crate) struct Subsystem<D: Parent> {
    root: KBox<Root<D>>,
}

#[repr(C)]
struct Root<D> {
    subsystem: Opaque<bindings::configfs_subsystem>,
    /// What directories come through.
    door: Door,
    directory: D,
}

// SAFETY: A subsystem may be unregistered from any thread.
unsafe impl<D: Parent> Send for Subsystem<D> {}
// SAFETY: Shared references give nothing away.
unsafe impl<D: Parent> Sync for Subsystem<D> {}

impl<D: Parent> Subsystem<D> {
    /// Makes `/sys/kernel/config/<name>`.
    // Not inlined, so that the module's init takes little of the stack while it attaches.
    #[inline(never)]
    pub(crate) fn new(name: &'static CStr, directory: D) -> Result<Self> {
        let root = Root {
            subsystem: Opaque::new(pin_init::zeroed::<bindings::configfs_subsystem>()),
            door: Door::new(),
            directory,
        };
        let root = KBox::new(root, GFP_KERNEL)?;
        let subsystem = root.subsystem.get();
        // SAFETY: The subsystem is zero and its address final; the mutex and the group in it are
        // initialised before it is registered. The name of the mutex is static.
        unsafe {
            bindings::config_group_init_type_name(
                &raw mut (*subsystem).su_group,
                name.as_char_ptr(),
                &Root::<D>::TYPE,
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

impl<D: Parent> Drop for Subsystem<D> {
    fn drop(&mut self) {
        // Directories pin the module, so from here on there are none.
        self.root.door.close();
        // SAFETY: Registered by the type invariant, and empty. Whoever is about to make a directory is
        // waited for, and nobody else comes after.
        unsafe { bindings::configfs_unregister_subsystem(self.root.subsystem.get()) };
    }
}

/// What lies around a `config_group` that directories are made in.
///
/// # Safety
///
/// The implementing type is `repr(C)` and begins with a `config_group`.
unsafe trait Container: Sized {
    type Directory: Parent;

    fn directory(&self) -> &Self::Directory;

    /// Lets a directory in, or says why not.
    fn enter(&self) -> Result;

    const GROUP_OPS: bindings::configfs_group_operations = bindings::configfs_group_operations {
        make_item: None,
        make_group: Some(make_group::<Self>),
        disconnect_notify: None,
        drop_item: Some(drop_item::<Self>),
        is_visible: None,
        is_bin_visible: None,
    };
}

// SAFETY: `group` is transparent over the group and comes first.
unsafe impl<D: Directory> Container for Group<D> {
    type Directory = D;

    fn directory(&self) -> &D {
        &self.directory
    }

    fn enter(&self) -> Result {
        Ok(())
    }
}

// SAFETY: `subsystem` is transparent over the subsystem, which begins with its group; checked below.
unsafe impl<D: Parent> Container for Root<D> {
    type Directory = D;

    fn directory(&self) -> &D {
        &self.directory
    }

    fn enter(&self) -> Result {
        self.door.enter()
    }
}

impl<D: Parent> Root<D> {
    /// It lies in memory of its owner's, so there is nothing to be done when configfs lets go of it;
    /// and it has no attributes, whose functions take what `make_group` makes.
    const TYPE: bindings::config_item_type = bindings::config_item_type {
        ct_owner: (&raw const bindings::__this_module).cast_mut(),
        ct_item_ops: core::ptr::null(),
        ct_group_ops: &<Self as Container>::GROUP_OPS,
        ct_attrs: core::ptr::null_mut(),
        ct_bin_attrs: core::ptr::null_mut(),
    };
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

/// The tables that configfs is given for directories that `mkdir` makes.
impl<D: Directory> Group<D> {
    const TYPE: bindings::config_item_type = bindings::config_item_type {
        // A directory pins the module.
        ct_owner: (&raw const bindings::__this_module).cast_mut(),
        ct_item_ops: &Self::ITEM_OPS,
        ct_group_ops: &<Self as Container>::GROUP_OPS,
        ct_attrs: Self::ATTRIBUTE_LIST.as_ptr().cast_mut(),
        ct_bin_attrs: core::ptr::null_mut(),
    };

    const ITEM_OPS: bindings::configfs_item_operations = bindings::configfs_item_operations {
        release: Some(Self::release),
        allow_link: None,
        drop_link: None,
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
        // SAFETY: The item begins its group, which `make_group` has made.
        let directory = unsafe { &*item.cast::<Self>() }.directory();
        // SAFETY: By this function's requirements; nobody else has the page.
        let page = unsafe { core::slice::from_raw_parts_mut(page.cast::<u8>(), ATTRIBUTE_BYTES) };
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
        // SAFETY: The item begins its group, which `make_group` has made.
        let group = unsafe { &*item.cast::<Self>() };
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
    /// Called by configfs when nobody refers to an item any more that `make_group` has made.
    unsafe extern "C" fn release(item: *mut bindings::config_item) {
        // SAFETY: The item begins its group, which `make_group` has boxed.
        drop(unsafe { KBox::from_raw(item.cast::<Self>()) });
    }
}

/// `configfs_group_operations.make_group`.
///
/// # Safety
///
/// Called by configfs with a group of container `C` and a NUL-terminated name.
unsafe extern "C" fn make_group<C: Container>(
    parent: *mut bindings::config_group,
    name: *const c_char,
) -> *mut bindings::config_group {
    // SAFETY: The group begins its container (`Container`).
    let container = unsafe { &*parent.cast::<C>() };
    // SAFETY: NUL-terminated by this function's requirements.
    let text = unsafe { CStr::from_char_ptr(name) };
    let made = permitted()
        .and_then(|()| container.enter())
        .and_then(|()| Group::make(container.directory(), text));
    match made {
        Ok(group) => {
            let group = KBox::into_raw(group).cast::<bindings::config_group>();
            // SAFETY: The group is zero and its address final. It is given to configfs, whose last
            // reference ends in `release`.
            unsafe {
                bindings::config_group_init_type_name(
                    group,
                    name,
                    &Group::<<C::Directory as Parent>::Child>::TYPE,
                );
            }
            group
        }
        Err(error) => error.to_ptr(),
    }
}

impl<D: Directory> Group<D> {
    fn make<P: Parent<Child = D>>(parent: &P, name: &CStr) -> Result<KBox<Self>> {
        // The memory first: a child that is made is told of its end, which takes its group.
        let room = KBox::<Self>::new_uninit(GFP_KERNEL)?;
        let group = Self {
            group: Opaque::new(pin_init::zeroed::<bindings::config_group>()),
            held: Atomic::new(FREE),
            directory: parent.make_child(name)?,
        };
        Ok(KBox::write(room, group))
    }
}

/// `configfs_group_operations.drop_item`.
///
/// # Safety
///
/// Called by configfs with a group of container `C` and an item that its `make_group` has made.
unsafe extern "C" fn drop_item<C: Container>(
    parent: *mut bindings::config_group,
    item: *mut bindings::config_item,
) {
    // SAFETY: The group begins its container (`Container`).
    let directory = unsafe { &*parent.cast::<C>() }.directory();
    // SAFETY: The item begins the `Group` that `make_group` has boxed.
    let child = unsafe { &*item.cast::<Group<<C::Directory as Parent>::Child>>() };
    directory.drop_child(&child.directory);
    // SAFETY: The reference that `make_group` gave to configfs is given back here.
    unsafe { bindings::config_item_put(item) };
}
