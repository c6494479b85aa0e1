//! Where clients come in: Unix sockets, TCP, and sockets that systemd has opened (sd_listen_fds(3)).

use rustix::fs::{Gid, Mode};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A place to listen at, as `--host` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:///run/dhow.sock`
    Unix(PathBuf),
    /// `tcp://127.0.0.1:2375`; without TLS only on loopback, which [`open`] sees to.
    Tcp(SocketAddr),
    /// `fd://`: all sockets that systemd has passed.
    Inherited,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp://{address}"),
            Address::Inherited => f.write_str("fd://"),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let invalid = |reason: &str| format!("invalid address {text:?}: {reason}");
        let (kind, rest) =
            text.split_once("://").ok_or_else(|| invalid("write unix://PATH, tcp://ADDRESS:PORT or fd://"))?;
        match kind {
            "unix" if rest.starts_with('/') => Ok(Address::Unix(rest.into())),
            "unix" => Err(invalid("the path must be absolute")),
            "tcp" => {
                let address = rest.replace("localhost", "127.0.0.1");
                let address: SocketAddr =
                    address.parse().map_err(|_| invalid("write an IP address and a port, as tcp://127.0.0.1:2375"))?;
                Ok(Address::Tcp(address))
            }
            "fd" => Ok(Address::Inherited),
            _ => Err(invalid("unix, tcp and fd are known")),
        }
    }
}

/// A socket that clients connect to.
#[derive(Debug)]
pub enum Listener {
    /// With the path that is removed at the end, if we made it.
    Unix(std::os::unix::net::UnixListener, Option<Made>),
    /// On loopback.
    Tcp(std::net::TcpListener),
}

/// A socket's file that we made.
#[derive(Debug)]
pub struct Made {
    path: PathBuf,
    inode: u64,
}

impl Drop for Made {
    fn drop(&mut self) {
        // Another server may have put its own there since.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            // What cannot be removed is replaced by the next server.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// How places are opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way<'a> {
    /// The group that may connect to Unix sockets beside their owner.
    pub group: Option<&'a str>,
    /// Everybody may connect to Unix sockets, as a policy decides who may do what.
    pub everybody: bool,
    /// TCP is spoken with TLS and clients' certificates.
    pub tls: bool,
}

/// Opens a place. Must be called while there is one thread: the mode of a Unix socket is made by the umask.
///
/// # Errors
/// A sentence about the address.
pub fn open(address: &Address, way: &Way<'_>) -> Result<Vec<Listener>, String> {
    let tls = way.tls;
    match address {
        Address::Unix(path) => Ok(vec![unix(path, way)?]),
        Address::Tcp(address) if !tls && !address.ip().is_loopback() => Err(format!(
            "cannot listen at tcp://{address}: without TLS everybody who reaches it would be root here: use a loopback \
             address, or --tlsverify with --tlscacert, --tlscert and --tlskey"
        )),
        Address::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)
                .map_err(|error| format!("cannot listen at tcp://{address}: {error}"))?;
            Ok(vec![Listener::Tcp(listener)])
        }
        Address::Inherited => inherited(),
    }
}

fn unix(path: &Path, way: &Way<'_>) -> Result<Listener, String> {
    let failed = |error: std::io::Error| format!("cannot listen at unix://{}: {error}", path.display());
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(format!("cannot listen at unix://{}: another server answers there", path.display()));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    // Docker's mode: its owner and its group.
    let mask = if way.everybody { 0o111 } else { 0o117 };
    let before = rustix::process::umask(Mode::from_raw_mode(mask));
    let bound = std::os::unix::net::UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(failed)?;
    let inode = std::fs::symlink_metadata(path).map_err(failed)?.ino();
    let made = Made { path: path.to_owned(), inode };
    if let Some(name) = way.group {
        let gid = group_id(name)?;
        let group = Some(Gid::from_raw(gid));
        rustix::fs::chown(path, None, group)
            .map_err(|error| format!("cannot give {} to the group {name}: {error}", path.display()))?;
    }
    Ok(Listener::Unix(listener, Some(made)))
}

fn group_id(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = std::fs::read_to_string("/etc/group").map_err(|error| format!("cannot read /etc/group: {error}"))?;
    text.lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then(|| fields.nth(1)?.parse().ok()).flatten()
        })
        .ok_or_else(|| format!("there is no group {name:?}"))
}

/// The sockets that systemd has passed: from descriptor 3 on, `LISTEN_FDS` of them, if `LISTEN_PID` is us.
fn inherited() -> Result<Vec<Listener>, String> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let own = rustix::process::getpid();
    if number("LISTEN_PID") != Some(own.as_raw_nonzero().get()) {
        return Err("fd:// needs sockets from systemd: LISTEN_PID does not name this process".into());
    }
    let count = number("LISTEN_FDS").filter(|count| (1..=64).contains(count));
    let count = count.ok_or("fd:// needs sockets from systemd: LISTEN_FDS is no number from 1 to 64")?;
    // A descriptor by its number without unsafe code: through ourselves, as another process's (Linux 5.6).
    let failed = |error: rustix::io::Errno| format!("cannot take the sockets of systemd: {error}");
    let process = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty()).map_err(failed)?;
    (3..3 + count)
        .map(|fd| {
            let flags = rustix::process::PidfdGetfdFlags::empty();
            listener(rustix::process::pidfd_getfd(process.as_fd(), fd, flags).map_err(failed)?)
        })
        .collect()
}

fn listener(socket: OwnedFd) -> Result<Listener, String> {
    let failed = |error: rustix::io::Errno| format!("a socket of systemd cannot be used: {error}");
    if !rustix::net::sockopt::socket_acceptconn(&socket).map_err(failed)? {
        return Err("a socket of systemd does not listen: set Accept=no in its unit".into());
    }
    match rustix::net::sockopt::socket_domain(&socket).map_err(failed)? {
        rustix::net::AddressFamily::UNIX => Ok(Listener::Unix(socket.into(), None)),
        rustix::net::AddressFamily::INET | rustix::net::AddressFamily::INET6 => Ok(Listener::Tcp(socket.into())),
        _ => Err("a socket of systemd is neither a Unix nor a TCP socket".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!("unix:///run/x".parse(), Ok(Address::Unix("/run/x".into())));
        assert_eq!("tcp://localhost:1".parse(), Ok(Address::Tcp(([127, 0, 0, 1], 1).into())));
        assert_eq!("fd://".parse(), Ok(Address::Inherited));
        for bad in ["", "unix://x", "tcp://x", "http://x", "/run/x"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
        let everywhere = "tcp://0.0.0.0:0".parse().unwrap();
        assert!(open(&everywhere, &Way::default()).unwrap_err().contains("without TLS"));
    }

    #[test]
    fn a_socket_is_private_and_goes_again() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = open(&Address::Unix(path.clone()), &Way::default()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(open(&Address::Unix(path.clone()), &Way::default()).unwrap_err().contains("another server"));
        drop(first);
        assert!(!path.exists());
        // One that a killed server left.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        open(&Address::Unix(path), &Way::default()).unwrap();
    }
}
