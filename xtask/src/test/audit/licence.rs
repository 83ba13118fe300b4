// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The licence line of a source file.

use std::path::Path;

const KERNEL: &str = "GPL-2.0";
const SHARED: &str = "GPL-2.0 OR MIT OR Apache-2.0";

/// Endings of source files' names.
const ENDINGS: &[&str] = &["c", "h", "mk", "py", "rs", "sh", "toml"];
/// Source files that have none.
const NAMES: &[&str] = &["Kbuild", "Makefile", "run"];

/// Whether a file is one that carries a licence line.
pub(super) fn is_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match path.extension() {
        Some(ending) => ENDINGS.iter().any(|known| ending == *known),
        None => NAMES.contains(&&*name),
    }
}

/// The licence that holds for a file, by its path in the checkout.
fn expected(path: &str) -> &'static str {
    let kernel = path.starts_with("kmod/") && !path.starts_with("kmod/format/");
    if kernel || path == "Kbuild" || path == "Makefile" {
        KERNEL
    } else {
        SHARED
    }
}

/// Says what is wrong with the licence line of a file, if anything.
pub(super) fn check(path: &str, text: &str) -> Option<String> {
    let mut lines = text.lines();
    let mut line = lines.next().unwrap_or_default();
    let mut number = 1;
    if line.starts_with("#!/") {
        line = lines.next().unwrap_or_default();
        number = 2;
    }
    let wanted = expected(path);
    let comments = [("// ", ""), ("# ", ""), ("/* ", " */")];
    let good = comments
        .iter()
        .any(|(begin, end)| line == format!("{begin}SPDX-License-Identifier: {wanted}{end}"));
    (!good).then(|| format!("{path}:{number}: the file must begin with the licence {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPL: &str = "// SPDX-License-Identifier: GPL-2.0\n";
    const ANY: &str = "// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0\n";

    #[test]
    fn each_part_of_the_tree_has_its_licence() {
        for path in ["kmod/vbd.rs", "kmod/sys/mq.rs", "kmod/formatting.rs"] {
            assert_eq!(check(path, GPL), None, "{path}");
            assert!(check(path, ANY).is_some(), "{path}");
        }
        for path in ["kmod/format/tar.rs", "userspace/src/main.rs", "tests/a.rs"] {
            assert_eq!(check(path, ANY), None, "{path}");
            assert!(check(path, GPL).is_some(), "{path}");
        }
    }

    #[test]
    fn every_comment_style_and_an_interpreter_line_will_do() {
        let header = "/* SPDX-License-Identifier: GPL-2.0 */\n#pragma once\n";
        assert_eq!(check("kmod/sys/shim.h", header), None);
        assert_eq!(
            check("Makefile", "# SPDX-License-Identifier: GPL-2.0\n"),
            None
        );
        let script = "#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0\n";
        assert_eq!(check(".ci/run", script), None);
    }

    #[test]
    fn a_missing_late_or_other_licence_is_a_fault() {
        for text in [
            "",
            "fn main() {}\n",
            "\n// SPDX-License-Identifier: GPL-2.0\n",
            "// SPDX-License-Identifier: GPL-2.0-only\n",
            "// SPDX-License-Identifier: MIT\n",
            "//! SPDX-License-Identifier: GPL-2.0\n",
        ] {
            let said = check("kmod/vbd.rs", text);
            assert!(
                said.is_some_and(|line| line.starts_with("kmod/vbd.rs:1: ")),
                "{text:?}"
            );
        }
    }

    #[test]
    fn sources_are_told_from_data() {
        for path in ["a.rs", "x/b.c", "x/Cargo.toml", "x/Makefile", ".ci/run"] {
            assert!(is_source(Path::new(path)), "{path}");
        }
        for path in ["Cargo.lock", "a.bin", "README.md", "0", "x/vbd.mod"] {
            assert!(!is_source(Path::new(path)), "{path}");
        }
    }
}
