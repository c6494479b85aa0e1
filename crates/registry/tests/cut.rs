//! Connections that end at any byte, between us and Debian's registry: every transfer goes on, and what arrives is right.
//!
//! Someone in the middle passes bytes on and cuts a connection after so many, in one direction. `DHOW_CUTS=all` takes many
//! more places than the sample.

mod servers;

use oci::digest::Digest;
use oci::image::{Descriptor, media_type};
use oci::reference::Reference;
use registry::{Client, Options};
use servers::{RealRegistry, has_programs, manifest, noise};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Which bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// To the registry.
    Up,
    /// From it.
    Down,
}

/// A way through that is cut `times` times, each after `after` bytes of one direction.
fn through(port: u16, way: Way, after: u64, times: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().port();
    let left = Arc::new(AtomicUsize::new(times));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // The first attempt is always TLS, to a registry that has none: not what is to be cut.
            let mut first = [0];
            if client.peek(&mut first).unwrap_or(0) == 0 || first[0] == 0x16 {
                continue;
            }
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let is_cut = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            let budget = |this| Arc::new(AtomicU64::new(if is_cut && this == way { after } else { u64::MAX }));
            let (up, down) = (budget(Way::Up), budget(Way::Down));
            let pairs = [(&client, &server, up), (&server, &client, down)];
            for (from, to, budget) in pairs {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || pass(from, to, &budget));
            }
        }
    });
    here
}

fn pass(mut from: TcpStream, mut to: TcpStream, budget: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let most = budget.load(Ordering::SeqCst).min(buffer.len() as u64) as usize;
        let count = match most {
            0 => 0,
            most => from.read(&mut buffer[..most]).unwrap_or(0),
        };
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            to.shutdown(Shutdown::Both).ok();
            from.shutdown(Shutdown::Both).ok();
            return;
        }
        if budget.load(Ordering::SeqCst) != u64::MAX {
            budget.fetch_sub(count as u64, Ordering::SeqCst);
        }
    }
}

/// Edges, and places in between by a fixed seed.
fn places(length: u64, edges: &[u64]) -> Vec<u64> {
    let many = std::env::var_os("DHOW_CUTS").is_some_and(|text| text == "all");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut places: Vec<u64> = edges.to_vec();
    for _ in 0..if many { 400 } else { 3 } {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        places.push(state % length);
    }
    places
}

/// Does the work for each place, eight at once.
fn each(places: &[u64], work: impl Fn(u64) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(place) = places.get(next.fetch_add(1, Ordering::SeqCst)) {
                    work(*place);
                }
            });
        }
    });
}

fn client() -> Client {
    Client::new(Options::default()).unwrap()
}

fn named(port: u16) -> Reference {
    format!("127.0.0.1:{port}/app:1").parse().unwrap()
}

#[test]
fn downloads_go_on_wherever_they_are_cut() {
    if !has_programs(&["docker-registry"]) {
        return;
    }
    let server = RealRegistry::plain();
    let bytes = noise(1_500_000);
    let layer = Descriptor::of(media_type::OCI_LAYER, &bytes);
    let direct = named(server.port);
    client().upload_bytes(&direct, &bytes).unwrap();
    client().upload_bytes(&direct, b"{}").unwrap();
    client().put_manifest(&direct, media_type::OCI_MANIFEST, &manifest(&layer)).unwrap();
    // Before the head, in it, at its end, in the body, before its last byte.
    let places = places(1_500_000, &[0, 1, 20, 300, 400, 1000, 1_499_999, 1_500_000, 1_500_300]);
    each(&places, |place| {
        let name = named(through(server.port, Way::Down, place, 2));
        let client = client();
        let found = client.manifest(&name).unwrap_or_else(|error| panic!("cut after {place}: {error}"));
        assert_eq!(found.bytes, manifest(&layer));
        let mut back = Vec::new();
        let read = client.blob(&name, &layer).unwrap().read_to_end(&mut back);
        read.unwrap_or_else(|error| panic!("cut after {place}: {error}"));
        assert!(back == bytes, "cut after {place}");
    });
}

#[test]
fn uploads_go_on_wherever_they_are_cut() {
    if !has_programs(&["docker-registry"]) {
        return;
    }
    let server = RealRegistry::plain();
    // Three pieces of 4 MiB, the last short.
    let length = (8 << 20) + 1017;
    let piece = 4 << 20;
    let edges = [0, 1, 100, 400, piece, piece + 600, 2 * piece, length - 1, length, length + 1500];
    for way in [Way::Up, Way::Down] {
        let places = match way {
            Way::Up => places(length, &edges),
            Way::Down => places(2000, &[0, 1, 20, 500, 900]),
        };
        each(&places, |place| {
            let mut bytes = noise(length as usize);
            bytes[..8].copy_from_slice(&place.to_le_bytes());
            bytes[8] = way as u8;
            let name = named(through(server.port, way, place, 2));
            let sent = client().upload_bytes(&name, &bytes);
            let (digest, size) = sent.unwrap_or_else(|error| panic!("{way:?}, cut after {place}: {error}"));
            assert_eq!((&digest, size), (&Digest::sha256(&bytes), length));
            assert_eq!(client().has_blob(&named(server.port), &digest).unwrap(), Some(length), "{way:?} {place}");
        });
    }
}
