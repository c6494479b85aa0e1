//! A name server for the bed, which keeps what it was asked, and a client.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::within;

/// `A`
pub const A: u16 = 1;
/// `AAAA`
pub const AAAA: u16 = 28;
/// No error.
pub const OK: u8 = 0;
/// No such name.
pub const NO_SUCH_NAME: u8 = 3;

/// Addresses of `big.example.com`: more than a datagram of 512 bytes has room for.
const BIG: u8 = 60;

/// Knows `www.example.com` (A), `six.example.com` (AAAA) and `big.example.com` (many A, by TCP only); ends with the value.
pub struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl NameServer {
    /// Answers on port 53 of an address in the network of a process.
    pub fn start(pid: &str, address: &str) -> Result<NameServer> {
        let address: IpAddr = address.parse()?;
        let (socket, listener) =
            within(pid, || Ok((UdpSocket::bind((address, 53))?, TcpListener::bind((address, 53))?)))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        listener.set_nonblocking(true)?;
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (note, ended) = (asked.clone(), stop.clone());
        let datagrams = thread::spawn(move || {
            let mut bytes = [0; 1500];
            while !ended.load(Ordering::SeqCst) {
                let Ok((length, peer)) = socket.recv_from(&mut bytes) else { continue };
                if let Some(reply) = answer(&bytes[..length], false, &note) {
                    drop(socket.send_to(&reply, peer));
                }
            }
        });
        let (note, ended) = (asked.clone(), stop.clone());
        let streams = thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                match listener.accept() {
                    // The client may have gone.
                    Ok((stream, _)) => drop(serve(stream, &note)),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(NameServer { asked, stop, threads: vec![datagrams, streams] })
    }

    /// The names that it was asked for until now.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().map(|asked| asked.clone()).unwrap_or_default()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // A thread that panicked has ended.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn serve(mut stream: TcpStream, note: &Mutex<Vec<String>>) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let question = receive(&mut stream)?;
    send(&mut stream, &answer(&question, true, note).context("no question")?)
}

fn send(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    stream.write_all(&[&u16::try_from(message.len())?.to_be_bytes(), message].concat())?;
    Ok(())
}

fn receive(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Name and type of the first question, and where it ends.
fn question(message: &[u8]) -> Option<(String, u16, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]);
    Some((labels.join("."), kind, at + 4))
}

fn answer(message: &[u8], by_stream: bool, note: &Mutex<Vec<String>>) -> Option<Vec<u8>> {
    let (name, kind, end) = question(message)?;
    if let Ok(mut asked) = note.lock() {
        asked.push(name.clone());
    }
    let address: Vec<Vec<u8>> = match (name.as_str(), kind) {
        ("www.example.com", A) => vec![vec![203, 0, 113, 7]],
        ("six.example.com", AAAA) => vec![vec![0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]],
        ("big.example.com", A) if by_stream => (0..BIG).map(|last| vec![203, 0, 113, last]).collect(),
        _ => vec![],
    };
    let is_known = matches!(name.as_str(), "www.example.com" | "six.example.com" | "big.example.com");
    let is_cut = name == "big.example.com" && !by_stream;
    let mut reply = message.get(..end)?.to_vec();
    reply[2] = 0x84 | (message[2] & 1) | u8::from(is_cut) << 1;
    reply[3] = 0x80 | if is_known { OK } else { NO_SUCH_NAME };
    reply[4..12].copy_from_slice(&[0, 1, 0, address.len() as u8, 0, 0, 0, 0]);
    for each in address {
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 60, 0, each.len() as u8]);
        reply.extend(each);
    }
    Some(reply)
}

/// What a name server said.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// [`OK`], [`NO_SUCH_NAME`], …
    pub code: u8,
    /// The answer does not fit into the datagram.
    pub is_cut: bool,
    /// How many answers.
    pub answers: u16,
}

/// How somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A datagram with room for 512 bytes of answer.
    Datagram,
    /// The same with EDNS, room for 1232.
    Edns,
    /// TCP.
    Stream,
}

/// Asks a name server from the network of a process.
pub fn look_up(from: &str, server: &str, name: &str, kind: u16, how: How) -> Result<Reply> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(how == How::Edns)];
    for label in name.split('.') {
        message.push(u8::try_from(label.len())?);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    if how == How::Edns {
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    let to = SocketAddr::new(server.parse()?, 53);
    let reply = within(from, || {
        if how == How::Stream {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            send(&mut stream, &message)?;
            return receive(&mut stream);
        }
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send(&message)?;
        let mut bytes = vec![0; 4096];
        let length = socket.recv(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    })
    .with_context(|| format!("ask {server} for {name}, type {kind}, {how:?}"))?;
    ensure!(reply.len() >= 12 && reply[..2] == [0x12, 0x34], "no answer to the question: {reply:?}");
    Ok(Reply { code: reply[3] & 15, is_cut: reply[2] & 2 != 0, answers: u16::from_be_bytes([reply[6], reply[7]]) })
}
