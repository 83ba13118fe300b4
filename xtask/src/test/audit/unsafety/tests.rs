// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Crafted sources that must be found out, and those that must not.

use super::{check, check_manifest};

fn faults(path: &str, source: &str) -> usize {
    check(path, source).len()
}

#[test]
fn unsafe_outside_of_its_place_is_a_fault_whatever_it_says() {
    for source in [
        "// SAFETY: Sure.\nunsafe { f() }",
        "/// # Safety\n///\n/// None.\nunsafe fn f() {}",
        "// SAFETY: Sure.\nunsafe impl Send for A {}",
        "type F = unsafe fn();",
        "let x = unsafe\n{ f() };",
    ] {
        for path in [
            "kmod/queue.rs",
            "kmod/sys.rs",
            "userspace/src/a.rs",
            "tests/a.rs",
        ] {
            assert_eq!(faults(path, source), 1, "{path}: {source}");
        }
    }
}

#[test]
fn what_only_looks_like_it_is_none() {
    for source in [
        "// unsafe is not used here.",
        "let x = \"unsafe { }\";",
        "#![deny(unsafe_code)]",
        "/* unsafe { f() } */",
        "let not_unsafe = 1;",
    ] {
        assert_eq!(faults("kmod/queue.rs", source), 0, "{source}");
    }
}

#[test]
fn a_block_needs_its_comment() {
    for good in [
        "// SAFETY: Sure.\nunsafe { f() }",
        "// SAFETY: A long reason,\n// in two lines.\nlet x = unsafe { f() };",
        "// SAFETY: Sure.\nlet x = f(\n    unsafe { g() });",
        "// SAFETY: Sure.\nlet x =\n    unsafe { g() };",
        "// SAFETY: Sure.\n#[allow(x)]\nunsafe { f() }",
        "f(Foo {\n    // SAFETY: Sure.\n    a: unsafe { f() },\n})",
    ] {
        assert_eq!(faults("kmod/sys/a.rs", good), 0, "{good}");
    }
    for bad in [
        "unsafe { f() }",
        "// Sure.\nunsafe { f() }",
        "// SAFETY: Sure.\n\nunsafe { f() }",
        "// SAFETY: Sure.\nlet y = 1;\nlet x = unsafe { f() };",
        "// SAFETY: Of another block.\nunsafe { f() };\nunsafe { g() };",
        "f(Foo {\n    // SAFETY: Of another.\n    a: 1,\n    b: unsafe { f() },\n})",
        "unsafe {\n    // SAFETY: Too late.\n    f()\n}",
    ] {
        assert_eq!(faults("kmod/sys/a.rs", bad), 1, "{bad}");
    }
}

#[test]
fn two_blocks_that_lack_it_are_two_faults() {
    let found = check(
        "kmod/sys/a.rs",
        "f(unsafe { a() }, unsafe { b() });\nunsafe { c() }",
    );
    assert_eq!(found.len(), 3);
    assert!(found[2].starts_with("kmod/sys/a.rs:2: "), "{found:?}");
}

#[test]
fn an_impl_needs_its_comment() {
    let reason = "// SAFETY: Sure.\n";
    let source = "unsafe impl<T: Send> Send for A<T> {}";
    assert_eq!(faults("kmod/sys/a.rs", source), 1);
    assert_eq!(faults("kmod/sys/a.rs", &format!("{reason}{source}")), 0);
}

#[test]
fn a_function_needs_its_section() {
    let section = "/// Does it.\n///\n/// # Safety\n///\n/// Be careful.\n";
    for source in [
        "unsafe fn f() {}",
        "pub(crate) unsafe fn f() {}",
        "#[no_mangle]\nunsafe extern \"C\" fn f() {}",
        "unsafe extern \"C\"\nfn f() {}",
        "unsafe trait A {}",
    ] {
        assert_eq!(faults("kmod/sys/a.rs", source), 1, "{source}");
        assert_eq!(
            faults("kmod/sys/a.rs", &format!("{section}{source}")),
            0,
            "{source}"
        );
        // A reason is not a section.
        let source = format!("// SAFETY: Sure.\n{source}");
        assert_eq!(faults("kmod/sys/a.rs", &source), 1, "{source}");
    }
}

#[test]
fn the_trait_says_what_a_function_of_its_impl_demands() {
    let body = "    unsafe fn f() {}\n}\n";
    let reason = "// SAFETY: Sure.\n";
    for head in [
        "impl A for B {\n",
        "// SAFETY: Sure.\nunsafe impl<T: C> A<T> for B<T> {\n    type D = i32;\n\n",
        "impl<T> A<T> for B<T>\nwhere\n    T: C,\n{\n    fn g() {\n        h();\n    }\n\n",
    ] {
        let source = format!("{head}{body}");
        assert_eq!(faults("kmod/sys/a.rs", &source), 0, "{source}");
        // What its blocks claim is theirs to say.
        let block = format!("{head}    fn f() {{\n        unsafe {{ g() }}\n    }}\n}}\n");
        assert_eq!(faults("kmod/sys/a.rs", &block), 1, "{block}");
    }
    for head in [
        "impl B {\n",
        "mod b {\n",
        "trait A {\n",
        "impl A for B {}\n\nimpl B {\n",
    ] {
        let source = format!("{reason}{head}{body}");
        assert_eq!(faults("kmod/sys/a.rs", &source), 1, "{source}");
    }
    let after = "impl A for B {\n}\n\nunsafe fn f() {}\n";
    assert_eq!(faults("kmod/sys/a.rs", after), 1);
}

#[test]
fn a_type_of_functions_needs_nothing() {
    for source in [
        "f: Option<unsafe extern \"C\" fn(i32)>,",
        "type F = unsafe fn(i32);",
    ] {
        assert_eq!(faults("kmod/sys/a.rs", source), 0, "{source}");
    }
}

#[test]
fn a_crate_root_denies_it_and_allows_it_for_sys_only() {
    let root = "#![deny(unsafe_code)]\nmod a;\n#[allow(unsafe_code)]\nmod sys;\nmodule! {}\n";
    assert_eq!(faults("kmod/vbd.rs", root), 0);
    let inline = root.replace("mod sys;", "mod sys {\n    mod b;\n}");
    assert_eq!(faults("kmod/vbd.rs", &inline), 0);
    let inside = root.replace("mod sys;", "mod sys {\n    unsafe fn f() {}\n}");
    assert_eq!(faults("kmod/vbd.rs", &inside), 1);
    assert_eq!(
        faults("kmod/vbd.rs", &root.replace("mod sys", "mod system")),
        1
    );
    assert_eq!(
        faults("kmod/vbd.rs", &root.replace("#![deny", "#![warn")),
        2
    );
    assert_eq!(faults("kmod/vbd.rs", "mod a;\n"), 1);
    assert_eq!(faults("kmod/new_root.rs", "module! {\n}\n"), 1);
    assert_eq!(
        faults("kmod/vbd.rs", &root.replace("mod sys", "mod other")),
        1
    );
    assert_eq!(faults("kmod/a.rs", "#[allow(unsafe_code)]\nmod sys;\n"), 1);
    assert_eq!(
        faults("userspace/src/a.rs", "#![allow(dead_code, unsafe_code)]\n"),
        1
    );
    assert_eq!(
        faults("xtask/src/a.rs", "#[expect(unsafe_code)]\nfn f() {}\n"),
        1
    );
}

#[test]
fn a_manifest_takes_the_lints_of_the_workspace() {
    let workspace = "[workspace]\nmembers = []\n\n[workspace.lints.rust]\nunsafe_code = \"deny\"\n";
    assert_eq!(check_manifest("Cargo.toml", workspace), None);
    let package = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";
    assert_eq!(check_manifest("a/Cargo.toml", package), None);
    for bad in [
        workspace.replace("deny", "warn"),
        workspace.replace("[workspace.lints.rust]", "[workspace.lints.clippy]"),
        package.replace("[lints]", "[features]"),
        package.replace("true", "false"),
    ] {
        assert!(check_manifest("Cargo.toml", &bad).is_some(), "{bad}");
    }
}
