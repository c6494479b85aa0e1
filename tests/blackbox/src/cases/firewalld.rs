//! Beside firewalld itself, on a bus of its own: dhow asks it to let containers out, nobody else has to, and it stays so whatever is
//! loaded again. Ports are open as its zones say, and nothing of this machine is opened to containers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::networks::Lan;
use super::ports::lan;
use crate::bed::{Server, Ways};
use crate::case::{cases, same, skip};
use crate::clients;
use crate::host::{self, Background};
use crate::sandbox::Sandbox;

cases![firewalld: lets_containers_out [Root], operators_word [Root]];

/// A bus on which root may do everything.
const BUS: &str = "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
    \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\"><busconfig><type>system</type>\
    <listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth><policy context=\"default\"><allow user=\"root\"/>\
    <allow own=\"*\"/><allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>";

/// firewalld and its bus, in this test's own /run.
struct Firewalld {
    place: PathBuf,
    configuration: PathBuf,
    daemon: Option<Background>,
    bus: Option<Background>,
}

impl Firewalld {
    /// The bus; firewalld does not run yet.
    fn new(sandbox: &Sandbox) -> Result<Firewalld> {
        let place = clients::find("firewalld")?;
        let Some(program) = host::program("dbus-daemon") else { return skip("no dbus-daemon") };
        host::succeed(Command::new("mount").args(["-t", "tmpfs", "run", "/run"]))?;
        std::fs::create_dir_all("/run/dbus")?;
        let file = sandbox.file("bus", BUS)?;
        let mut command = Command::new(program);
        command.arg(format!("--config-file={file}")).args(["--nofork", "--nopidfile"]).stderr(Stdio::null());
        let bus = Some(Background(command.spawn()?));
        let socket = Path::new("/run/dbus/system_bus_socket");
        host::until("the bus", sandbox.seconds(10), || Ok(socket.exists().then_some(())))?;
        let configuration = sandbox.path("firewalld");
        for directory in ["zones", "policies", "services", "icmptypes", "ipsets", "helpers"] {
            std::fs::create_dir_all(configuration.join(directory))?;
        }
        Ok(Firewalld { place, configuration, daemon: None, bus })
    }

    fn python(&self, program: &str) -> Command {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(self.place.join(program)).env("PYTHONPATH", self.place.join("usr/lib/python3/dist-packages"));
        command
    }

    fn start(&mut self, sandbox: &Sandbox) -> Result<()> {
        let default = self.place.join("usr/lib/firewalld");
        let mut command = self.python("usr/sbin/firewalld");
        command
            .args(["--nofork", "--nopid", "--system-config"])
            .arg(&self.configuration)
            .arg("--default-config")
            .arg(default);
        command.arg("--log-file").arg(sandbox.path("firewalld.log")).stdout(Stdio::null()).stderr(Stdio::null());
        self.daemon = Some(Background(command.spawn()?));
        host::until("firewalld", sandbox.seconds(30), || Ok(self.tell(&["--state"]).ok()))?;
        Ok(())
    }

    /// `firewall-cmd WORDS`.
    fn tell(&self, words: &[&str]) -> Result<String> {
        host::succeed(self.python("usr/bin/firewall-cmd").args(words))
    }

    /// Ends it as `systemctl stop` does: its rules go.
    fn stop(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("firewalld does not run")?;
        host::succeed(Command::new("kill").arg(daemon.0.id().to_string()))?;
        daemon.0.wait()?;
        Ok(())
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        self.daemon = None;
        drop(host::succeed(Command::new("umount").args(["--lazy", "/run"])));
    }
}

struct Bed<'a> {
    sandbox: &'a Sandbox,
    lan: Lan,
    _servers: [Server; 2],
}

impl Bed<'_> {
    fn new(sandbox: &Sandbox) -> Result<Bed<'_>> {
        sandbox.load("busybox")?;
        let lan = lan()?;
        let servers = [Server::start(&lan.pid(), 7000, "neighbour")?, Server::start("self", 6000, "host")?];
        Ok(Bed { sandbox, lan, _servers: servers })
    }

    fn container(&self, name: &str, options: &[&str]) -> Result<(String, Server)> {
        self.sandbox.detached(&[&["--name", name], options].concat(), "exec sleep 1000")?;
        let pid = self.sandbox.pid(name)?.to_string();
        let server = Server::start(&pid, 80, name)?;
        Ok((pid, server))
    }

    /// Out as this machine by TCP and UDP, of both families; in by the port if it is open; this machine itself is closed.
    fn ways(&self, name: &str, pid: &str, port: Option<(&str, bool)>, when: &str) -> Result<()> {
        let mut ways = Ways::default();
        for (here, there) in [("192.0.2.1", "192.0.2.2"), ("[2001:db8::1]", "[2001:db8::2]")] {
            let sees = |who: &str, whom: &str| format!("{who} sees {}", whom.trim_matches(['[', ']']));
            ways.open(name, pid, format!("{there}:7000"), sees("neighbour", here));
            ways.open_to_datagrams(name, pid, format!("{there}:7000"), sees("neighbour", here));
            ways.closed(name, pid, format!("{here}:6000"));
            match port {
                Some((port, true)) => {
                    ways.open("neighbour", &self.lan.pid(), format!("{here}:{port}"), sees(name, there))
                }
                Some((port, false)) => ways.closed("neighbour", &self.lan.pid(), format!("{here}:{port}")),
                None => {}
            }
        }
        ways.check(when)
    }

    /// Waits for the consent, which a monitor has asked for.
    fn let_out(&self, pid: &str) -> Result<()> {
        let mut ways = Ways::default();
        ways.open("container", pid, "192.0.2.2:7000", "neighbour sees 192.0.2.1");
        host::until("containers are let out", self.sandbox.seconds(30), || Ok(ways.check("out").ok()))
    }
}

/// It starts while a container runs, loads its rules again, starts again; and networks come later.
fn lets_containers_out(sandbox: &Sandbox) -> Result<()> {
    let mut firewalld = Firewalld::new(sandbox)?;
    let bed = Bed::new(sandbox)?;
    let (web, _server) = bed.container("web", &["-p", "8080:80"])?;
    firewalld.start(sandbox)?;
    bed.let_out(&web)?;
    bed.ways("web", &web, Some(("8080", false)), "firewalld has started")?;
    firewalld.tell(&["--permanent", "--add-port=8080/tcp"])?;
    for word in ["--reload", "--complete-reload"] {
        firewalld.tell(&[word])?;
        bed.ways("web", &web, Some(("8080", true)), word)?;
    }
    firewalld.stop()?;
    firewalld.start(sandbox)?;
    bed.ways("web", &web, Some(("8080", true)), "started again")?;
    // By the zone that is there; a name of the user's own is added to it, and a network that is open to the LAN gets a policy.
    sandbox.ok(["network", "create", "mine"])?;
    sandbox.ok(["network", "create", "-o", "com.docker.network.bridge.name=other0", "other"])?;
    let mode = "com.docker.network.bridge.gateway_mode_ipv4=routed";
    sandbox.ok(["network", "create", "--subnet", "10.200.0.0/24", "-o", mode, "routed"])?;
    let (mine, _server) = bed.container("mine", &["--network", "mine", "-p", "8081:80"])?;
    bed.ways("mine", &mine, Some(("8081", false)), "a network made beside it")?;
    let (other, _server) = bed.container("other", &["--network", "other"])?;
    bed.lan.run("ip route add 10.200.0.0/24 via 192.0.2.1")?;
    let (_, _server) = bed.container("routed", &["--network", "routed", "--ip", "10.200.0.9", "-p", "80"])?;
    firewalld.tell(&["--reload"])?;
    bed.ways("other", &other, None, "a bridge with a name of its own")?;
    let mut ways = Ways::default();
    ways.open("neighbour", &bed.lan.pid(), "10.200.0.9:80", "routed sees 192.0.2.2");
    ways.check("a routed network")?;
    sandbox.ok(["rm", "-f", "other"])?;
    sandbox.ok(["network", "rm", "other"])?;
    same!(firewalld.tell(&["--permanent", "--zone=dhow", "--list-interfaces"])?.trim(), "dhow+");
    Ok(())
}

/// What the operator has said of our bridges holds; and without a bus containers start, with a warning.
fn operators_word(sandbox: &Sandbox) -> Result<()> {
    let mut firewalld = Firewalld::new(sandbox)?;
    let bed = Bed::new(sandbox)?;
    firewalld.start(sandbox)?;
    firewalld.tell(&["--permanent", "--zone=drop", "--add-interface=dhow+"])?;
    firewalld.tell(&["--reload"])?;
    let (shut, _server) = bed.container("shut", &[])?;
    let mut ways = Ways::default();
    ways.closed("shut", &shut, "192.0.2.2:7000");
    ways.check("the zone drop has our bridges")?;
    ensure!(!firewalld.tell(&["--permanent", "--get-zones"])?.contains("dhow"), "a zone was made nevertheless");
    firewalld.tell(&["--permanent", "--zone=drop", "--remove-interface=dhow+"])?;
    firewalld.tell(&["--reload"])?;
    bed.let_out(&shut)?;
    sandbox.ok(["network", "create", "-o", "com.docker.network.bridge.name=other0", "other"])?;
    firewalld.bus = None;
    let started = sandbox.dhow(["run", "--rm", "--network", "other", "busybox", "true"])?;
    ensure!(started.stderr.contains("firewalld"), "no warning: {}", started.stderr);
    started.success()?;
    Ok(())
}
