//! Compression of a stream that we hand out, always the same way, so that the same bytes give the same digest.

use flate2::read::GzEncoder;
use std::io::{self, BufReader, Read};

/// A gzip stream without name and time, at zlib-rs's level 6. Every dhow with the same version of zlib-rs makes the same bytes.
pub fn gzip<R: Read>(source: R) -> impl Read {
    GzEncoder::new(source, flate2::Compression::new(6))
}

/// A zstd stream with a check sum, at level 3.
///
/// # Errors
/// When there is no memory for the encoder.
pub fn zstd<R: Read>(source: R) -> io::Result<impl Read> {
    let mut encoder = zstd::stream::read::Encoder::with_buffer(BufReader::with_capacity(128 << 10, source), 3)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompress::{Compression, Decompressor, Limits};

    #[test]
    fn comes_back() {
        let plain: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let zstd: Box<dyn Read> = Box::new(zstd(&plain[..]).unwrap());
        for (format, mut stream) in
            [(Compression::Gzip, Box::new(gzip(&plain[..])) as Box<dyn Read>), (Compression::Zstd, zstd)]
        {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            assert!(bytes.len() < plain.len() / 2);
            let mut back = Decompressor::new(&bytes[..], Limits::default()).unwrap();
            assert_eq!(back.format(), format);
            let mut out = Vec::new();
            back.read_to_end(&mut out).unwrap();
            assert!(out == plain);
        }
    }
}
