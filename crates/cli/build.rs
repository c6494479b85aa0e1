//! Tells the linker where the program begins: `kernel::entry`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let has = |name: &str, word: &str| env::var(name).is_ok_and(|value| value.split(',').any(|each| each == word));
    // A program that is loaded by somebody else's program begins there.
    let alone = has("CARGO_CFG_TARGET_FEATURE", "crt-static") && has("CARGO_CFG_TARGET_ENV", "gnu");
    if alone && has("CARGO_CFG_TARGET_ARCH", "x86_64") && has("CARGO_CFG_TARGET_OS", "linux") {
        println!("cargo::rustc-link-arg-bin=dhow=-Wl,--entry=dhow_entry");
    }
}
