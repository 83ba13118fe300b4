// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Kernels of our own: some check themselves, one is User-Mode Linux.
//!
//! They are built from the very source package of the stock kernel, in a root of the same suite,
//! so a module that is right for one is right for the other; the stock kernel stays what counts.
//! Nothing here needs the stock kernel's symbol comparison: the Rust metadata come from the same
//! build as the kernel.

mod build;

pub(super) use build::make;

use clap::ValueEnum;

/// What the kernel is built with, besides what every kit has.
const PACKAGES: &[&str] = &["bc", "bison", "flex", "gcc", "libelf-dev", "libssl-dev"];

/// KASAN and Rust go together only with LLVM.
const LLVM: &[&str] = &["clang", "lld", "llvm"];

/// What User-Mode Linux is built from besides the source package.
const CRC: &str = include_str!("../../kernel/uml-crc32.patch");

/// Faults of it that the checks and the tests meet.
const FIXES: &str = include_str!("../../kernel/uml-fixes.patch");

/// A kernel of our own.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Own {
    /// Locks, sleeping, objects, lists, bounds; fault injection. Quick enough for every run
    Light,
    /// The same, and every access to memory (KASAN), as User-Mode Linux: a program of the host with one
    /// processor, quicker than any emulated machine
    #[value(name = "uml")]
    UmlKasan,
    /// User-Mode Linux: a program of the host, for times
    #[value(skip)]
    Uml,
}

impl Own {
    /// As part of file names and of the kernel's release.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Own::Light => "light",
            Own::UmlKasan => "uml-kasan",
            Own::Uml => "uml",
        }
    }

    /// The option that chooses it.
    pub(super) fn option(self) -> &'static str {
        match self {
            Own::Light => "--debug=light",
            Own::UmlKasan => "--debug=uml",
            Own::Uml => "--uml",
        }
    }

    /// Whether it is a program of the host, and not a kernel for a machine.
    pub(crate) fn is_uml(self) -> bool {
        matches!(self, Own::UmlKasan | Own::Uml)
    }

    /// Whether it watches the order of locks.
    pub(crate) fn checks_locks(self) -> bool {
        matches!(self, Own::Light | Own::UmlKasan)
    }

    /// How many times longer than on the stock kernel things may take.
    pub(crate) fn slowness(self) -> u32 {
        match self {
            Own::Light | Own::UmlKasan => 4,
            Own::Uml => 1,
        }
    }

    /// Arguments of every make with this kernel's tree, its own and that of modules.
    pub(crate) fn make_arguments(self) -> &'static [&'static str] {
        match self {
            Own::Light => &[],
            // Else rustc addresses symbols of other objects through relocations that the loader of
            // modules does not know.
            Own::Uml => &[
                "ARCH=um",
                "RUSTFLAGS_MODULE=-Zdirect-access-external-data=yes",
            ],
            // A header of this architecture calculates with a null pointer, and only clang says so.
            Own::UmlKasan => &[
                "ARCH=um",
                "LLVM=1",
                "KCFLAGS=-Wno-null-pointer-arithmetic",
                "RUSTFLAGS_MODULE=-Zdirect-access-external-data=yes",
            ],
        }
    }

    /// The parts of the configuration; what stands in a later one holds.
    fn fragments(self) -> Vec<&'static str> {
        let base = include_str!("../../kernel/base.config");
        let light = include_str!("../../kernel/light.config");
        let kasan = include_str!("../../kernel/kasan.config");
        let uml = include_str!("../../kernel/uml.config");
        let uml_kasan = include_str!("../../kernel/uml-kasan.config");
        match self {
            Own::Light => vec![base, light],
            Own::UmlKasan => vec![base, uml, light, kasan, uml_kasan],
            Own::Uml => vec![base, uml],
        }
    }

    /// Packages of the root besides those of every kit.
    pub(super) fn packages(self) -> Vec<&'static str> {
        match self {
            Own::Light => PACKAGES.to_vec(),
            Own::UmlKasan => [PACKAGES, LLVM, &["patch"]].concat(),
            Own::Uml => [PACKAGES, &["patch"]].concat(),
        }
    }

    /// What the source is changed by, as unified diffs.
    fn patches(self) -> &'static [&'static str] {
        match self {
            Own::Light => &[],
            Own::UmlKasan => &[CRC, FIXES],
            Own::Uml => &[CRC],
        }
    }

    /// The target of make that makes the kernel, and the file that this leaves in the tree.
    fn image(self) -> (&'static str, &'static str) {
        if self.is_uml() {
            ("linux", "linux")
        } else {
            ("bzImage", "arch/x86/boot/bzImage")
        }
    }

    /// What a build of it takes where nothing else runs.
    fn build_time(self) -> &'static str {
        match self {
            Own::Light => "a quarter of an hour and more",
            Own::UmlKasan | Own::Uml => "five minutes and more",
        }
    }

    /// Directories of `arch` that modules are built with.
    fn architectures(self) -> &'static [&'static str] {
        if self.is_uml() {
            &["um", "x86"]
        } else {
            &["x86"]
        }
    }

    /// Everything besides the package list that decides what comes out of a build.
    pub(super) fn recipe(self) -> Vec<&'static str> {
        let arguments = self.make_arguments();
        [&self.fragments(), arguments, self.patches()].concat()
    }

    /// The release of this kernel of a package version such as `7.2.12-1~bpo13+1`.
    pub(super) fn release(self, version: &str) -> String {
        let upstream = version.split('-').next().unwrap_or(version);
        format!("{upstream}{}", self.suffix())
    }

    fn suffix(self) -> String {
        format!("-vbd-{}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Wanted;
    use super::*;

    #[test]
    fn the_release_is_the_upstream_version_and_the_kind() {
        assert_eq!(Own::Light.release("7.2.12-1~bpo13+1"), "7.2.12-vbd-light");
        assert_eq!(Own::Uml.release("7.2-1"), "7.2-vbd-uml");
        assert_eq!(Own::UmlKasan.release("7.2-1"), "7.2-vbd-uml-kasan");
    }

    #[test]
    fn the_kinds_are_told_apart_by_their_recipes() {
        assert_ne!(Own::Uml.recipe(), Own::UmlKasan.recipe());
        assert_ne!(Own::Light.packages(), Own::UmlKasan.packages());
    }

    #[test]
    fn the_checks_that_tests_rely_on_are_asked_for() {
        let text = Own::Light.fragments().join("\n");
        let light = Wanted::parse(&text);
        for name in [
            "CONFIG_PROVE_LOCKING",
            "CONFIG_PROVE_RCU",
            "CONFIG_DEBUG_ATOMIC_SLEEP",
            "CONFIG_FAILSLAB",
            "CONFIG_FAIL_PAGE_ALLOC",
            "CONFIG_BLK_ERROR_INJECTION",
        ] {
            assert_eq!(light.value(name), Some("y"), "{name}");
        }
        assert_eq!(light.value("CONFIG_KASAN"), None);
        for own in [Own::Light, Own::UmlKasan] {
            let text = own.fragments().join("\n");
            let locks = Wanted::parse(&text).value("CONFIG_PROVE_LOCKING").is_some();
            assert_eq!(locks, own.checks_locks(), "{own:?}");
        }
        let text = Own::UmlKasan.fragments().join("\n");
        let kasan = Wanted::parse(&text);
        assert_eq!(kasan.value("CONFIG_KASAN"), Some("y"));
        assert_eq!(kasan.value("CONFIG_DEBUG_KMEMLEAK_DEFAULT_OFF"), None);
    }
}
