//! A bed of machines, each a network namespace: the one that the test plays, and on one LAN with it a neighbour, by whom the
//! rest of the world is reached, a name server, and a second host, which may have a dhow of its own.
//!
//! ```text
//!  this host 192.0.2.1 ──┐                    ┌── neighbour  192.0.2.2 ── the world 198.51.100.9
//!         2001:db8::1    ├── switch (bridge) ─┼── name server 192.0.2.53
//!                        │                    └── second host 192.0.2.3
//! ```
//!
//! IPv6 as IPv4: `2001:db8::N`, and the world `2001:db8:9::9`. Servers run in threads of the test that are in another network.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::host;

pub mod names;

/// How long somebody waits who is to be answered.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it takes to believe that nobody answers.
const SILENCE: Duration = Duration::from_millis(400);
/// How often a server looks whether it is to end.
const TICK: Duration = Duration::from_millis(5);

/// A machine.
pub struct Machine(host::Background);

impl Machine {
    /// A namespace with a process in it.
    pub fn new() -> Result<Machine> {
        // As long as the test, however slow the processor is.
        let child = Command::new("unshare").args(["--net", "sleep", "infinity"]).spawn()?;
        let machine = Machine(host::Background(child));
        let own = host::namespace("self", "net")?;
        host::until("the other namespace", Duration::from_secs(10), || {
            Ok((host::namespace(&machine.pid(), "net")? != own).then_some(()))
        })?;
        Ok(machine)
    }

    /// The process by which its network is found.
    pub fn pid(&self) -> String {
        self.0.0.id().to_string()
    }

    /// A shell command there.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.pid(), "sh", "-c", script]);
        command
    }

    /// Runs a shell command there, and returns what it prints.
    pub fn run(&self, script: &str) -> Result<String> {
        host::succeed(&mut self.command(script))
    }
}

/// All machines; this one is where the test is.
pub struct Bed {
    /// On the LAN, and the way out.
    pub neighbour: Machine,
    /// Where names are asked for.
    pub resolver: Machine,
    /// Another host of containers.
    pub second: Machine,
    _switch: Machine,
}

impl Bed {
    /// Makes and joins them.
    pub fn new() -> Result<Bed> {
        let bed = Bed {
            neighbour: Machine::new()?,
            resolver: Machine::new()?,
            second: Machine::new()?,
            _switch: Machine::new()?,
        };
        let switch = bed._switch.pid();
        let mut script = "set -e; ip link set lo up\n".to_owned();
        bed._switch.run("ip link add lan type bridge; ip link set lan up")?;
        for (machine, place) in
            [(None, 1), (Some(&bed.neighbour), 2), (Some(&bed.second), 3), (Some(&bed.resolver), 53)]
        {
            // IPv6 addresses are written in hexadecimal.
            let (own, there) = match machine {
                Some(machine) => {
                    (format!("netns {}", machine.pid()), format!("nsenter --net --target {} ", machine.pid()))
                }
                None => (String::new(), String::new()),
            };
            let way_out = if place == 2 {
                "ip address add 198.51.100.9/32 dev lo; ip address add 2001:db8:9::9/128 dev lo"
            } else {
                "ip route add default via 192.0.2.2; ip route add default via 2001:db8::2"
            };
            script.push_str(&format!(
                "ip link add wire{place} {own} type veth peer name port{place} netns {switch}
                 {there}sh -ec 'ip link set lo up; ip link set wire{place} up; ip address add 192.0.2.{place}/24 dev wire{place}
                   ip address add 2001:db8::{place}/64 dev wire{place} nodad; {way_out}'
                 nsenter --net --target {switch} sh -ec 'ip link set port{place} master lan; ip link set port{place} up'\n"
            ));
        }
        host::succeed(Command::new("sh").args(["-c", &script]))?;
        Ok(bed)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // The others go with their namespaces.
        drop(host::succeed(Command::new("ip").args(["link", "delete", "wire1"])));
    }
}

/// Does something in the network of a process; `self` is this one.
pub fn within<T: Send>(pid: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/proc/{pid}/ns/net");
    let network = File::open(&path).with_context(|| format!("open {path}"))?;
    thread::scope(|scope| {
        let there = || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        scope.spawn(there).join().map_err(|_| anyhow::anyhow!("a panic in the network of {pid}"))?
    })
}

/// Answers everybody who asks on a port, by TCP and by UDP, over IPv4 and IPv6, with its name and the client's address; ends with
/// the value.
pub struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Server {
    /// Begins to answer in the network of a process.
    pub fn start(pid: &str, port: u16, name: &str) -> Result<Server> {
        let has_ipv6 = || Ok(!std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default().is_empty());
        let any = if within(pid, has_ipv6)? { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) };
        Server::start_at(pid, any, port, name)
    }

    /// The same on one address.
    pub fn start_at(pid: &str, address: IpAddr, port: u16, name: &str) -> Result<Server> {
        let bound = || Ok((TcpListener::bind((address, port))?, UdpSocket::bind((address, port))?));
        let (listener, socket) = within(pid, bound).with_context(|| format!("a server {name} on port {port}"))?;
        listener.set_nonblocking(true)?;
        socket.set_read_timeout(Some(TICK * 4))?;
        let stop = Arc::new(AtomicBool::new(false));
        let answer = |name: &str, peer: SocketAddr| format!("{name} sees {}\n", peer.ip().to_canonical());
        let (own, ended) = (name.to_owned(), stop.clone());
        let streams = thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                match listener.accept() {
                    // The client may have gone.
                    Ok((mut stream, peer)) => drop(stream.write_all(answer(&own, peer).as_bytes())),
                    Err(_) => thread::sleep(TICK),
                }
            }
        });
        let (own, ended) = (name.to_owned(), stop.clone());
        let datagrams = thread::spawn(move || {
            let mut bytes = [0; 64];
            while !ended.load(Ordering::SeqCst) {
                if let Ok((_, peer)) = socket.recv_from(&mut bytes) {
                    drop(socket.send_to(answer(&own, peer).as_bytes(), peer));
                }
            }
        });
        Ok(Server { stop, threads: vec![streams, datagrams] })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // A thread that panicked has ended.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// What a server says to whoever asks by TCP from the network of a process; nothing where the way is closed.
pub fn ask(from: &str, to: &str) -> Result<Option<String>> {
    ask_for(from, to, PATIENCE)
}

fn ask_for(from: &str, to: &str, patience: Duration) -> Result<Option<String>> {
    let to: SocketAddr = to.parse().with_context(|| format!("{to} is no address"))?;
    within(from, || {
        let said = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&to, patience)?;
            stream.set_read_timeout(Some(patience))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        Ok(said().ok().map(|text| text.trim_end().to_owned()).filter(|text| !text.is_empty()))
    })
}

/// The same by UDP.
pub fn ask_by_datagram(from: &str, to: &str) -> Result<Option<String>> {
    let to: SocketAddr = to.parse().with_context(|| format!("{to} is no address"))?;
    within(from, || {
        let any = if to.is_ipv6() { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) };
        let socket = UdpSocket::bind((any, 0))?;
        let said = || -> std::io::Result<String> {
            socket.connect(to)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send(b"?")?;
            let mut bytes = [0; 128];
            let length = socket.recv(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes[..length]).trim_end().to_owned())
        };
        Ok(said().ok())
    })
}

/// Ways that are to be tried, all at once: who asks, whom, and what must be the answer.
#[derive(Default)]
pub struct Ways(Vec<Way>);

struct Way {
    who: String,
    from: String,
    to: String,
    datagrams: bool,
    answer: Option<String>,
}

impl Ways {
    /// It must be open, and the answer be this.
    pub fn open(&mut self, who: &str, from: &str, to: impl Into<String>, answer: impl Into<String>) {
        let answer = Some(answer.into());
        self.0.push(Way { who: who.into(), from: from.into(), to: to.into(), datagrams: false, answer });
    }

    /// The same for datagrams.
    pub fn open_to_datagrams(&mut self, who: &str, from: &str, to: impl Into<String>, answer: impl Into<String>) {
        self.open(who, from, to, answer);
        self.0.iter_mut().last().into_iter().for_each(|way| way.datagrams = true);
    }

    /// It must be closed.
    pub fn closed(&mut self, who: &str, from: &str, to: impl Into<String>) {
        self.0.push(Way { who: who.into(), from: from.into(), to: to.into(), datagrams: false, answer: None });
    }

    fn wrong(&self) -> Result<Vec<String>> {
        let one = |way: &Way| {
            let patience = if way.answer.is_some() { PATIENCE } else { SILENCE };
            let answer = match way.datagrams {
                true => ask_by_datagram(&way.from, &way.to)?,
                false => ask_for(&way.from, &way.to, patience)?,
            };
            let kind = if way.datagrams { " by UDP" } else { "" };
            let (who, to) = (&way.who, &way.to);
            Ok((answer != way.answer).then(|| format!("{who} to {to}{kind}: {answer:?}, wanted {:?}", way.answer)))
        };
        thread::scope(|scope| {
            let asking: Vec<_> = self.0.iter().map(|way| scope.spawn(move || one(way))).collect();
            let answers = asking.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a panic"))?);
            answers.filter_map(Result::transpose).collect()
        })
    }

    /// Tries them; what is wrong must be wrong three times, since a machine may be slow.
    pub fn check(&self, when: &str) -> Result<()> {
        let mut last = vec![];
        for _ in 0..3 {
            last = self.wrong()?;
            if last.is_empty() {
                eprintln!("{when}: {} ways are as they must be", self.0.len());
                return Ok(());
            }
        }
        ensure!(last.is_empty(), "{when}: {}", last.join("; "));
        Ok(())
    }
}
