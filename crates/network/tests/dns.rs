//! The container's name server over real sockets: questions from a container, upstream servers on the host and on the LAN.
#![allow(missing_docs, reason = "tests")]

mod bed;

use bed::{Bed, Netns, can_run};
use network::Cidr;
use network::dns::{ADDRESS, Header, Responder, Zone};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const A: u16 = 1;
const AAAA: u16 = 28;

fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&1u16.to_be_bytes());
    bytes
}

/// The answer's header and its last bytes.
fn ask(from: &Netns, name: &str, kind: u16) -> Option<(Header, Vec<u8>)> {
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
        socket.connect((ADDRESS, 53)).unwrap();
        socket.send(&query(name, kind)).unwrap();
        let mut bytes = vec![0; 4096];
        let length = socket.recv(&mut bytes).ok()?;
        bytes.truncate(length);
        assert_eq!(bytes[..2], [0x12, 0x34]);
        Some((Header::read(&bytes).unwrap(), bytes))
    })
}

fn ask_tcp(from: &Netns, names: &[&str]) -> Vec<Header> {
    from.run(|| {
        let mut stream = TcpStream::connect((ADDRESS, 53)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
        for name in names {
            let message = query(name, A);
            stream.write_all(&(message.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&message).unwrap();
        }
        let mut headers = Vec::new();
        for _ in names {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message).unwrap();
            headers.push(Header::read(&message).unwrap());
        }
        headers
    })
}

/// The monitor's part: polls until told to stop.
struct Serving {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn serve(bed: &Bed, zone: Zone) -> Serving {
    let mut responder = bed.host.run(|| Responder::open(bed.one.as_fd(), zone).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let ended = stop.clone();
    let host = bed.host.as_fd().try_clone_to_owned().unwrap();
    let thread = std::thread::spawn(move || {
        rustix::thread::move_into_link_name_space(host.as_fd(), None).unwrap();
        while !ended.load(Ordering::SeqCst) {
            let timeout = responder.timeout(Instant::now()).unwrap_or(Duration::MAX).min(Duration::from_millis(50));
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(timeout.subsec_nanos()) };
            let fds = responder.fds();
            let mut polled: Vec<PollFd<'_>> = fds
                .iter()
                .map(|(fd, interest)| {
                    let mut flags = PollFlags::empty();
                    flags.set(PollFlags::IN, interest.read);
                    flags.set(PollFlags::OUT, interest.write);
                    PollFd::from_borrowed_fd(*fd, flags)
                })
                .collect();
            poll(&mut polled, Some(&timeout)).unwrap();
            drop(polled);
            responder.handle_ready(Instant::now());
        }
    });
    Serving { stop, thread: Some(thread) }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// An upstream server: answers every question as `answer` says (`None`: silence), and counts them.
fn upstream(
    netns: &Netns,
    address: &str,
    answer: impl Fn(&[u8]) -> Option<(u8, u8)> + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let address: SocketAddr = address.parse().unwrap();
    let (udp, tcp) = netns.run(|| (UdpSocket::bind(address).unwrap(), std::net::TcpListener::bind(address).unwrap()));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let reply = move |query: &[u8]| -> Option<Vec<u8>> {
        counted.fetch_add(1, Ordering::SeqCst);
        let (code, last) = answer(query)?;
        let mut bytes = query.to_vec();
        bytes[2] |= 0x80;
        bytes[3] = 0x80 | code;
        if code == 0 {
            bytes[7] = 1;
            bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, last]);
        }
        Some(bytes)
    };
    let reply = Arc::new(reply);
    let over_tcp = reply.clone();
    // The threads end with the process; their sockets keep nothing but a namespace of this test.
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut bytes) {
            if let Some(reply) = reply(&bytes[..length]) {
                udp.send_to(&reply, peer).unwrap();
            }
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message).unwrap();
            if let Some(reply) = over_tcp(&message) {
                stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&reply).unwrap();
            }
        }
    });
    count
}

fn zone(upstream: &[&str]) -> Zone {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    Zone {
        names: [
            ("web".to_owned(), vec![address("10.88.0.2"), address("10.88.0.3")]),
            ("db".to_owned(), vec![address("10.88.0.4")]),
        ]
        .into(),
        subnets: vec!["10.88.0.0/16".parse::<Cidr>().unwrap()],
        upstream: upstream.iter().map(|text| text.parse().unwrap()).collect(),
        ..Zone::default()
    }
}

#[test]
fn names_are_answered_and_others_forwarded_over_udp_and_tcp() {
    if !can_run(&["ip"]) {
        return;
    }
    let bed = Bed::new();
    // On the host's loopback, as systemd-resolved is.
    upstream(&bed.host, "127.0.0.53:53", |_| Some((0, 7)));
    // The container itself uses port 53 of every address.
    let own =
        bed.one.run(|| (UdpSocket::bind("0.0.0.0:53").unwrap(), std::net::TcpListener::bind("0.0.0.0:53").unwrap()));
    let _serving = serve(&bed, zone(&["127.0.0.53:53"]));
    let (header, _) = ask(&bed.one, "web", A).unwrap();
    assert_eq!((header.code, header.answers), (0, 2));
    let (header, _) = ask(&bed.one, "web", AAAA).unwrap();
    assert_eq!((header.code, header.answers), (0, 0), "no data");
    let (header, bytes) = ask(&bed.one, "www.example.com", A).unwrap();
    assert_eq!((header.code, header.answers), (0, 1));
    assert!(bytes.ends_with(&[203, 0, 113, 7]));
    let headers = ask_tcp(&bed.one, &["web", "www.example.com", "db"]);
    assert_eq!(headers.iter().map(|header| header.answers).collect::<Vec<_>>(), [2, 1, 1]);
    // Again on the same sockets' tables, from another container: nobody is there.
    assert!(bed.two.run(|| TcpStream::connect_timeout(&(ADDRESS, 53).into(), Duration::from_secs(1))).is_err());
    drop(own);
}

#[test]
fn upstream_servers_are_asked_at_once_and_preferred_in_order() {
    if !can_run(&["ip"]) {
        return;
    }
    let bed = Bed::new();
    bed.neighbour.sh("for i in 3 4 5 6; do ip addr add 192.0.2.$i/24 dev lan0; done");
    upstream(&bed.neighbour, "192.0.2.3:53", |_| None);
    upstream(&bed.neighbour, "192.0.2.4:53", |_| Some((0, 4)));
    upstream(&bed.neighbour, "192.0.2.5:53", |_| Some((3, 0)));
    upstream(&bed.neighbour, "192.0.2.6:53", |_| Some((2, 0)));
    let time = |servers: &[&str]| {
        let _serving = serve(&bed, zone(servers));
        let start = Instant::now();
        let (header, _) = ask(&bed.one, "example.com", A).unwrap();
        (header.code, header.answers, start.elapsed())
    };
    // The first is silent: the second's answer does not wait.
    let (code, answers, elapsed) = time(&["192.0.2.3:53", "192.0.2.4:53"]);
    assert!(code == 0 && answers == 1 && elapsed < Duration::from_millis(250), "{elapsed:?}");
    // "No such name" of a later server does not win against an answer, however late by a little.
    assert_eq!(time(&["192.0.2.4:53", "192.0.2.5:53"]).1, 1);
    assert_eq!(time(&["192.0.2.5:53", "192.0.2.6:53"]).0, 3);
    let (code, _, elapsed) = time(&["192.0.2.3:53", "192.0.2.5:53"]);
    assert!(code == 3 && elapsed > Duration::from_millis(250) && elapsed < Duration::from_millis(1500), "{elapsed:?}");
    // Errors count when there is nothing else; a port that is closed is an error.
    assert_eq!(time(&["192.0.2.6:53", "192.0.2.2:53"]).0, 2);
    assert_eq!(time(&["192.0.2.2:53", "192.0.2.4:53"]).1, 1);
}

#[test]
fn cve_2024_29018_an_internal_network_sends_no_question_out() {
    if !can_run(&["ip"]) {
        return;
    }
    let bed = Bed::new();
    let count = upstream(&bed.neighbour, "192.0.2.2:53", |_| Some((0, 4)));
    let _serving = serve(&bed, zone(&[]));
    assert_eq!(ask(&bed.one, "secret.example.com", A).unwrap().0.code, 3);
    assert_eq!(ask_tcp(&bed.one, &["secret.example.com"])[0].code, 3);
    assert_eq!(ask(&bed.one, "web", A).unwrap().0.answers, 2);
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[test]
#[allow(clippy::print_stderr, reason = "the figures are wanted")]
fn latency_and_rate() {
    if !can_run(&["ip"]) {
        return;
    }
    let bed = Bed::new();
    let opening = bed.host.run(|| {
        let start = Instant::now();
        let responder = Responder::open(bed.two.as_fd(), zone(&[])).unwrap();
        let elapsed = start.elapsed();
        // A monitor that was restarted takes the place of the one before it.
        drop(responder);
        Responder::open(bed.two.as_fd(), zone(&[])).unwrap();
        elapsed
    });
    let _serving = serve(&bed, zone(&[]));
    let elapsed = bed.one.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((ADDRESS, 53)).unwrap();
        let (message, mut bytes) = (query("web", A), [0; 512]);
        let start = Instant::now();
        for _ in 0..2000 {
            socket.send(&message).unwrap();
            socket.recv(&mut bytes).unwrap();
        }
        start.elapsed()
    });
    eprintln!("Responder::open {opening:?}; one question {:?}", elapsed / 2000);
}
