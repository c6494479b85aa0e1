//! Amounts of bytes: `1.24GB` (powers of 1000) and `7.662GiB` (powers of 1024).

use super::number::general;

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Three digits and a decimal unit, as in the table of images. `999.9` becomes `1e+03`, as it does in Docker.
pub fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 3)
}

/// Four digits and a decimal unit, as in progress bars.
pub fn transferred(bytes: u64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 4)
}

/// Four digits and a binary unit, as memory is given.
pub fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str; 9], digits: usize) -> String {
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= base && unit < units.len() - 1 {
        size /= base;
        unit += 1;
    }
    format!("{}{}", general(size, digits), units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_260_000, "4.26MB"),
            (74_810_000, "74.8MB"),
            (1_240_000_000, "1.24GB"),
            (116_999_999, "117MB"),
            (999_900, "1e+03kB"),
        ] {
            assert_eq!(decimal(bytes), text, "{bytes}");
        }
        assert_eq!(transferred(12_345_678), "12.35MB");
        assert_eq!(binary(8_227_000_320), "7.662GiB");
        assert_eq!(binary(64 << 20), "64MiB");
    }
}
