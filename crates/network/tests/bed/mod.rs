//! A bed of network namespaces for the tests: each test makes its own "host", containers and neighbours, so that nothing
//! of the machine's own network is touched. They end with the test.
#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::process::Command;

/// A network namespace.
pub struct Netns {
    fd: OwnedFd,
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Netns {
    /// A fresh one, with nothing but a loopback device that is down.
    pub fn new() -> Netns {
        let make = || {
            #[expect(deprecated, reason = "the safe form; only the network namespace of this thread changes")]
            rustix::thread::unshare(UnshareFlags::NEWNET).expect("unshare(CLONE_NEWNET)");
            rustix::fs::openat(CWD, "/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .unwrap()
        };
        Netns { fd: std::thread::spawn(make).join().unwrap() }
    }

    /// A fresh one with its loopback device up.
    pub fn host() -> Netns {
        let netns = Netns::new();
        network::loopback_up(netns.as_fd()).unwrap();
        netns
    }

    /// Runs `work` on a thread of its own inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = || {
                move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            };
            match scope.spawn(inside).join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a program inside and returns what it printed; a failure is a panic with its complaint.
    pub fn sh(&self, command: &str) -> String {
        self.run(|| {
            let output = Command::new("sh").args(["-c", command]).output().unwrap();
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{command}: {complaint}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    /// Runs a program inside; whether it ended well.
    pub fn ok(&self, command: &str) -> bool {
        self.run(|| Command::new("sh").args(["-c", command]).output().unwrap().status.success())
    }
}

/// Whether the test can run here; says why not.
pub fn can_run(programs: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: needs root for network namespaces");
        return false;
    }
    for program in programs {
        if Command::new("sh")
            .args(["-c", &format!("command -v {program} >/dev/null")])
            .status()
            .map_or(true, |s| !s.success())
        {
            eprintln!("SKIP: {program} is not installed");
            return false;
        }
    }
    true
}

/// A host with a network of dhow's, two containers on it, and a neighbour on the LAN in front of it.
pub struct Bed {
    pub host: Netns,
    pub one: Netns,
    pub two: Netns,
    pub neighbour: Netns,
}

/// `10.88.0.NUMBER` and `fd00:88::NUMBER` on `dhow0`, or 89 on `dhow1` and so on.
pub fn attachment(network: u8, number: u8) -> network::Attachment {
    let address: std::net::IpAddr = format!("10.{}.0.{number}", 88 + network).parse().unwrap();
    let six = 88 + network;
    network::Attachment {
        bridge: format!("dhow{network}"),
        host_interface: format!("dh{network}x{number}"),
        container_interface: "eth0".into(),
        mac: network::Mac::for_address(address),
        addresses: vec![format!("{address}/16").parse().unwrap(), format!("fd00:{six}::{number}/64").parse().unwrap()],
        gateways: vec![format!("10.{six}.0.1").parse().unwrap(), format!("fd00:{six}::1").parse().unwrap()],
        mtu: None,
        isolated: false,
        parameters: Vec::new(),
    }
}

/// The bridge for [`attachment`].
pub fn bridge(network: u8) -> network::Bridge {
    let number = 88 + network;
    let subnets = [format!("10.{number}.0.0/16"), format!("fd00:{number}::/64")];
    network::Bridge::new(
        format!("dhow{network}"),
        subnets.iter().map(|subnet| network::Subnet::new(subnet.parse().unwrap())).collect(),
    )
}

impl Bed {
    /// Host `192.0.2.1`/`2001:db8::1` and neighbour `.2`/`::2`; containers `10.88.0.2` and `.3`; the neighbour has a route to
    /// the containers' subnet by way of the host, as an attacker on the LAN would set it.
    pub fn new() -> Bed {
        let bed = Bed { host: Netns::host(), one: Netns::new(), two: Netns::new(), neighbour: Netns::host() };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&bed.neighbour.fd);
        let pid = std::process::id();
        bed.host.sh(&format!(
            "ip link add eth0 type veth peer name lan0; ip link set lan0 netns /proc/{pid}/fd/{fd}; ip link set eth0 up;
             ip addr add 192.0.2.1/24 dev eth0; ip addr add 2001:db8::1/64 dev eth0 nodad"
        ));
        bed.neighbour
            .sh("ip link set lan0 up; ip addr add 192.0.2.2/24 dev lan0; ip addr add 2001:db8::2/64 dev lan0 nodad;
             ip route add 10.0.0.0/8 via 192.0.2.1; ip route add fd00::/16 via 2001:db8::1");
        bed.host.run(|| {
            network::ensure_bridge(&bridge(0)).unwrap();
            network::attach(&attachment(0, 2), bed.one.as_fd()).unwrap();
            network::attach(&attachment(0, 3), bed.two.as_fd()).unwrap();
        });
        bed
    }

    /// A further container on another network.
    pub fn container(&self, network: u8, number: u8) -> Netns {
        let netns = Netns::new();
        self.host.run(|| {
            network::ensure_bridge(&bridge(network)).unwrap();
            network::attach(&attachment(network, number), netns.as_fd()).unwrap();
        });
        netns
    }
}

/// A TCP server in a namespace that says, on its own line, whom it sees; it ends with the value.
pub struct Server {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    address: std::net::SocketAddr,
    netns: OwnedFd,
}

impl Server {
    pub fn start(netns: &Netns, address: &str) -> Server {
        let address: std::net::SocketAddr = address.parse().unwrap();
        let listener = netns.run(|| std::net::TcpListener::bind(address).unwrap());
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let ended = stop.clone();
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                if ended.load(std::sync::atomic::Ordering::SeqCst) {
                    break;
                }
                let _sent = std::io::Write::write_all(&mut stream, format!("{}\n", peer.ip()).as_bytes());
            }
        });
        Server { stop, thread: Some(thread), address, netns: netns.fd.try_clone().unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let netns = Netns { fd: self.netns.try_clone().unwrap() };
        let mut address = self.address;
        if address.ip().is_unspecified() {
            let loopback: std::net::IpAddr = if address.is_ipv6() {
                std::net::Ipv6Addr::LOCALHOST.into()
            } else {
                std::net::Ipv4Addr::LOCALHOST.into()
            };
            address.set_ip(loopback);
        }
        let _wake = netns.run(|| std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(1)));
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Connects from a namespace; what the server said it sees, `None` when there is no connection within 700 ms.
pub fn connect(from: &Netns, address: &str) -> Option<String> {
    let address: std::net::SocketAddr = address.parse().unwrap();
    from.run(|| {
        let timeout = std::time::Duration::from_millis(700);
        let mut stream = std::net::TcpStream::connect_timeout(&address, timeout).ok()?;
        stream.set_read_timeout(Some(timeout)).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).ok()?;
        Some(text.trim().to_owned())
    })
}
