//! Another machine for tests that are not root: made by the runner, which is, before the test begins.
//!
//! The runner's cage has a wire to a network namespace with a process of this program in it, which executes what the test
//! asks for over a socket. This machine is 192.0.2.1 and 2001:db8::1, the other `.2` and `::2`, by which everything else is
//! reached.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::sandbox::Sandbox;

/// The socket in the test's directory.
const SOCKET: &str = "neighbour";

/// The script that makes a cage: loopback, for ordinary users the device that pasta needs (which udev gives to everybody, and
/// machines without udev do not), and the wire. And pings, which systemd allows to all users.
pub fn cage(program: &Path, directory: &Path, user: bool, lan: bool) -> String {
    let mut script = "ip link set lo up\n".to_owned();
    let directory = directory.display();
    if user {
        script.push_str(&format!(
            "echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range
             [ -c /dev/net/tun ] && mknod -m 666 {directory}/tun c 10 200 && mount --bind {directory}/tun /dev/net/tun\n"
        ));
    }
    if user && lan {
        let program = program.display();
        script.push_str(&format!(
            "ip link add wire0 type veth peer name wire1
             unshare --net {program} --neighbour {directory}/{SOCKET} &
             until [ -S {directory}/{SOCKET} ]; do sleep 0.01; done
             ip link set wire1 netns $!
             ip address add 192.0.2.1/24 dev wire0; ip address add 2001:db8::1/64 dev wire0 nodad; ip link set wire0 up
             there() {{ nsenter --net --target $! \"$@\"; }}
             there ip link set lo up; there ip link set wire1 up
             there ip address add 192.0.2.2/24 dev wire1; there ip address add 2001:db8::2/64 dev wire1 nodad
             there ip address add 198.51.100.9/32 dev lo
             ip route add default via 192.0.2.2; ip route add default via 2001:db8::2\n"
        ));
    }
    script + "exec \"$@\""
}

/// The process there: executes scripts, one for each connection, until it is killed with the cage.
pub fn main(socket: &Path) -> ExitCode {
    let Ok(listener) = UnixListener::bind(socket) else { return ExitCode::FAILURE };
    use std::os::unix::fs::PermissionsExt;
    drop(std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)));
    for connection in listener.incoming().flatten() {
        thread::spawn(move || drop(serve(connection)));
    }
    ExitCode::SUCCESS
}

fn serve(mut connection: UnixStream) -> Result<()> {
    let mut script = String::new();
    connection.read_to_string(&mut script)?;
    let output = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output()?;
    connection.write_all(if output.status.success() { b"+" } else { b"-" })?;
    connection.write_all(&output.stdout)?;
    connection.write_all(&output.stderr)?;
    Ok(())
}

/// Runs a shell script on the other machine and returns what it prints.
pub fn run(sandbox: &Sandbox, script: &str) -> Result<String> {
    let path = sandbox.path(SOCKET);
    let mut connection = UnixStream::connect(&path).with_context(|| format!("connect to {}", path.display()))?;
    connection.write_all(script.as_bytes())?;
    connection.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    eprintln!("neighbour$ {script}\n{}", text.get(1..).unwrap_or_default());
    ensure!(text.starts_with('+'), "on the other machine, {script}: {text}");
    Ok(text.get(1..).unwrap_or_default().trim_end().to_owned())
}
