//! Pulls an image into nowhere and says how fast that was: `pull IMAGE [READERS]`.
//!
//! All blobs are received, READERS (default 2) at a time, and checked, as an engine would do it.
#![allow(clippy::print_stdout, reason = "a program")]

use oci::platform::Platform;
use oci::reference::Reference;
use registry::{Client, Options};
use std::io::BufRead as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let reference: Reference = words.next().ok_or("usage: pull IMAGE [READERS]")?.parse()?;
    let readers: usize = words.next().map_or(Ok(2), |word| word.parse())?;
    let client = Client::new(Options::from_environment())?;
    let start = Instant::now();
    let image = client.resolve(&reference, &Platform::host())?;
    println!("{} {} in {:?}", reference, image.digest(), start.elapsed());
    let start = Instant::now();
    let blobs = [std::slice::from_ref(&image.manifest.config), &image.manifest.layers].concat();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..readers)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut reader = client.blob(&reference, blob).map_err(std::io::Error::other)?;
                        loop {
                            let length = reader.fill_buf()?.len();
                            if length == 0 {
                                break;
                            }
                            reader.consume(length);
                        }
                    }
                    std::io::Result::Ok(())
                })
            })
            .collect();
        running
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a reader panicked")?.map_err(|e| e.to_string()))
    })?;
    let bytes: u64 = blobs.iter().map(|blob| blob.size).sum();
    let seconds = start.elapsed().as_secs_f64();
    println!("{} blobs, {bytes} bytes in {seconds:.3} s: {:.0} MB/s", blobs.len(), bytes as f64 / 1e6 / seconds);
    Ok(())
}
