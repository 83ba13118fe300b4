// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! That no function of the modules takes much of the stack.
//!
//! A kernel stack has 16 KiB, which the system call above us, and the file system and the disk below the
//! file that we read, use as well. The kernel's own limit (`CONFIG_FRAME_WARN`) is looked at by C compilers
//! alone, so the frames are read from the machine code.

use super::steps::{Count, Step, Steps};
use crate::kit::Kit;
use anyhow::{bail, ensure, Result};
use std::path::Path;

/// Bytes that one function may take: half of what the kernel allows itself.
const LIMIT: u64 = 1024;

/// Looks at the modules beside `module`, the path of `vbd.ko`.
pub(super) fn check(steps: &mut Steps, kit: &Kit, module: &Path) -> Result<()> {
    steps.step("stack frames of the modules", |step| {
        let mut found = 0;
        for name in ["vbd.ko", "vbd_dm.ko"] {
            found += large(step, kit, &module.with_file_name(name))?;
        }
        match found {
            0 => Ok(Count::default()),
            _ => bail!("{found} functions take more than {LIMIT} bytes of the stack"),
        }
    })?;
    Ok(())
}

/// Prints the functions of a module whose frames are too large; returns how many there are.
fn large(step: &Step, kit: &Kit, module: &Path) -> Result<usize> {
    let directory = module.parent().unwrap_or(Path::new("/"));
    let mut objdump = kit.command(&[directory], directory, "objdump");
    let code = step.run(objdump.args(["-d", "--no-show-raw-insn"]).arg(module))?;
    let frames = frames(&code);
    ensure!(!frames.is_empty(), "{}: no frame found", module.display());
    let large: Vec<_> = frames.iter().filter(|frame| frame.1 > LIMIT).collect();
    for (function, bytes) in &large {
        println!("      {bytes} bytes: {function}");
    }
    Ok(large.len())
}

/// Functions in the text of objdump, and the bytes by which each moves the stack pointer at once.
fn frames(code: &str) -> Vec<(&str, u64)> {
    let mut frames = Vec::new();
    let mut function = "";
    for line in code.lines() {
        if let Some(name) = line.strip_suffix(">:") {
            function = name.split_once('<').map_or(name, |(_, name)| name);
        } else if let Some(bytes) = taken(line) {
            frames.push((function, bytes));
        }
    }
    frames
}

/// Bytes that an instruction takes from the stack: `sub $0x88,%rsp`, or, of 128 bytes,
/// `add $0xffffffffffffff80,%rsp`.
fn taken(line: &str) -> Option<u64> {
    let words = line.trim_end().strip_suffix(",%rsp")?;
    let (before, number) = words.rsplit_once("$0x")?;
    let number = u64::from_str_radix(number, 16).ok()?;
    let bytes = match before.split_whitespace().next_back()? {
        "sub" => number,
        "add" => number.wrapping_neg(),
        _ => return None,
    };
    // Else they are given back.
    (bytes < 1 << 32).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_compilers_make_them() {
        let code = "\
vbd.ko:     file format elf64-x86-64

0000000000000010 <vbd_list>:
      10:\tendbr64
      14:\tpush   %rbp
      15:\tsub    $0x108,%rsp
      1c:\tadd    $0x108,%rsp
      20:\tret

0000000000000040 <_RNvNtCs_3vbd4init>:
      40:\tadd    $0xffffffffffffff80,%rsp
      44:\tand    $0xfffffffffffffff0,%rsp
      48:\tsub    %rax,%rsp
      49:\tsub    $0xffffffffffffff80,%rsp
      4c:\tsub    $0x10,%rax
";
        assert_eq!(
            frames(code),
            [("vbd_list", 0x108), ("_RNvNtCs_3vbd4init", 0x80)]
        );
    }
}
