//! Whether a program is static, as its ELF header says.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Type of the program header that names the dynamic loader; elf(5).
const PT_INTERP: u32 = 3;

/// Fails if the program asks for a dynamic loader.
pub fn check_static(program: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("read {}", program.display()))?;
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "{} is no 64-bit little-endian ELF file", program.display());
    let number = |offset: usize, length: usize| -> Result<u64> {
        let field = bytes.get(offset..offset + length).context("the ELF header ends early")?;
        Ok(field.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    };
    // e_phoff, e_phentsize, e_phnum.
    let (start, size, count) = (number(32, 8)? as usize, number(54, 2)? as usize, number(56, 2)? as usize);
    for index in 0..count {
        ensure!(number(start + index * size, 4)? as u32 != PT_INTERP, "{} is not static", program.display());
    }
    Ok(())
}
