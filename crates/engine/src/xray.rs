//! `xray`: what the kernel really did for a container, read from the kernel, and where our records differ.
//!
//! Every fact comes from /proc, the cgroup file system or netlink at the moment of asking; the database is consulted only
//! to name differences.

mod process;

use crate::containers::record::Container;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use kernel::namespaces::Namespaces;
use rustix::process::WaitOptions;
use std::fs;
use std::os::fd::AsFd;

/// Everything seen of one container.
#[derive(Clone, Debug)]
pub struct Xray {
    /// Identifier.
    pub id: String,
    /// Name.
    pub name: String,
    /// First process, as the host numbers it.
    pub pid: i32,
    /// What was seen, by topic.
    pub sections: Vec<Section>,
    /// Where kernel and records disagree, a sentence each.
    pub differences: Vec<String>,
}

/// Facts of one topic.
#[derive(Clone, Debug)]
pub struct Section {
    /// The topic.
    pub title: &'static str,
    /// Facts in the order in which they are shown.
    pub facts: Vec<Fact>,
}

/// One fact.
#[derive(Clone, Debug)]
pub struct Fact {
    /// What it is about.
    pub name: String,
    /// What the kernel says.
    pub value: String,
    /// What follows from it; empty if nothing.
    pub note: String,
}

impl Section {
    pub(crate) fn new(title: &'static str) -> Section {
        Section { title, facts: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.note(name, value, "");
    }

    pub(crate) fn note(&mut self, name: impl Into<String>, value: impl Into<String>, note: impl Into<String>) {
        self.facts.push(Fact { name: name.into(), value: value.into(), note: note.into() });
    }
}

impl Engine {
    /// Looks through a running container.
    pub fn xray(&self, wanted: &str) -> Result<Xray> {
        let container = self.ready(wanted, crate::containers::state::Step::Look)?;
        let pid = container.run.pid;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .kind(Kind::Conflict, || format!("container {wanted} ended while it was looked at"))?;
        let mut differences = Vec::new();
        let sections = vec![
            process::first(pid, &status),
            process::all(self.top(&container.id, &process::columns())?),
            process::limits(pid),
            process::namespaces(pid, self.host()?.user_namespace, &self.list(false)?),
            self.control_group(&container, &mut differences)?,
            file_system(pid, &container),
            capabilities(&status, &container, &mut differences),
            filters(pid, &status, &container, &mut differences),
            self.network_section(pid, &container, &mut differences)?,
        ];
        Ok(Xray { id: container.id, name: container.name, pid, sections, differences })
    }

    fn network_section(&self, pid: i32, container: &Container, differences: &mut Vec<String>) -> Result<Section> {
        let mut section = Section::new("Network");
        let observed = seen_inside(pid, container, self.host()?.user_namespace)?;
        for link in &observed.links {
            let mac = link.mac.map(|mac| format!(" {mac}")).unwrap_or_default();
            let state = if link.up { "up" } else { "down" };
            section.note(
                link.name.clone(),
                format!("{}{mac} mtu {} {state}", link.kind.as_deref().unwrap_or("device"), link.mtu),
                format!("received {} B, sent {} B", link.traffic.rx_bytes, link.traffic.tx_bytes),
            );
            for address in observed.addresses.iter().filter(|address| address.index == link.index) {
                section.add(format!("{} address", link.name), address.address.to_string());
            }
        }
        for route in &observed.routes {
            let way = route.gateway.map_or_else(|| "on the link".into(), |gateway| format!("by {gateway}"));
            section.add(format!("route {}", route.destination), way);
        }
        if container.settings.network == crate::NetworkMode::Bridge {
            let outside = self.in_networks(network::observe_here)?;
            let outside = outside.internal(|| "cannot look at the host's network".into())?;
            host_side(container, &observed, &outside, &mut section);
        }
        if let Some(address) = &container.address
            && !observed.addresses.iter().any(|seen| seen.address.address().to_string() == address.ipv4)
        {
            differences.push(format!("the records give the container {}; the kernel does not", address.ipv4));
        }
        Ok(section)
    }

    fn control_group(&self, container: &Container, differences: &mut Vec<String>) -> Result<Section> {
        let mut section = Section::new("Cgroup");
        let failed = || "cannot read the container's cgroup".to_owned();
        let membership = fs::read_to_string(format!("/proc/{}/cgroup", container.run.pid)).internal(failed)?;
        let path = crate::lower::cgroup_path(&container.settings, &container.id);
        for line in membership.lines() {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, place) = (fields.next(), fields.next().unwrap_or(""), fields.next().unwrap_or(""));
            let name = if controllers.is_empty() { "unified" } else { controllers };
            section.add(name, place);
        }
        let state = self.running_state(&container.id)?;
        let without = self.host()?.user_namespace && state.as_ref().is_some_and(|state| state.cgroup.is_none());
        if without {
            section.add("limits", "none: no cgroup is delegated to this user");
        } else if !membership.contains(&path) {
            differences.push(format!("the records say that the cgroup is {path}; the kernel does not"));
        }
        if let Some(group) = crate::group::find(self.host()?, &path, state.as_ref())? {
            for tree in group.limits().internal(failed)?.groups {
                for value in tree.values {
                    section.add(value.file, value.value);
                }
            }
        }
        Ok(section)
    }
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or("").trim()
}

fn file_system(pid: i32, container: &Container) -> Section {
    let mut section = Section::new("Layers and mounts");
    for (number, layer) in container.settings.layers.iter().enumerate() {
        section.add(format!("layer {number}"), layer.clone());
    }
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(dash) = fields.iter().position(|&field| field == "-") else { continue };
        let [Some(root), Some(target), Some(options)] = [fields.get(3), fields.get(4), fields.get(5)] else { continue };
        let (kind, source) = (fields.get(dash + 1).unwrap_or(&""), fields.get(dash + 2).unwrap_or(&""));
        let from = if *root == "/" { (*source).to_owned() } else { format!("{source}:{root}") };
        section.note(*target, format!("{kind} {from}"), *options);
    }
    section
}

/// Bits of a capability set as names.
fn names(hexadecimal: &str) -> Vec<String> {
    let bits = u64::from_str_radix(hexadecimal, 16).unwrap_or(0);
    kernel::capabilities::Set::from_bits(bits).names().map(str::to_owned).collect()
}

fn capabilities(status: &str, container: &Container, differences: &mut Vec<String>) -> Section {
    let mut section = Section::new("Capabilities");
    for (name, key) in [
        ("effective", "CapEff"),
        ("permitted", "CapPrm"),
        ("inheritable", "CapInh"),
        ("bounding", "CapBnd"),
        ("ambient", "CapAmb"),
    ] {
        let list = names(field(status, key));
        section.add(name, if list.is_empty() { "none".into() } else { list.join(" ") });
    }
    let bounding = names(field(status, "CapBnd"));
    let beyond: Vec<_> =
        bounding.iter().filter(|name| !container.settings.capabilities.contains(name)).cloned().collect();
    if !beyond.is_empty() {
        differences.push(format!("the kernel's bounding set has more than the records: {}", beyond.join(" ")));
    }
    section
}

fn filters(pid: i32, status: &str, container: &Container, differences: &mut Vec<String>) -> Section {
    let mut section = Section::new("Confinement");
    let mode = field(status, "Seccomp");
    let (text, filters) = match mode {
        "2" => ("filter", field(status, "Seccomp_filters")),
        "1" => ("strict", ""),
        _ => ("none", ""),
    };
    section.add("seccomp", format!("{text} {filters}").trim().to_owned());
    let unconfined = container.settings.privileged
        || container
            .settings
            .security_options
            .iter()
            .any(|option| option.contains("seccomp") && option.ends_with("unconfined"));
    if mode != "2" && !unconfined {
        differences.push("the records say that system calls are filtered; the kernel does not".into());
    }
    section.add("no_new_privs", field(status, "NoNewPrivs"));
    let label = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap_or_default();
    let label = label.trim_matches(['\0', '\n', ' ']);
    section.add("security label", if label.is_empty() { "none" } else { label });
    section
}

/// What the kernel says of a container's network.
fn seen_inside(pid: i32, container: &Container, one_way: bool) -> Result<network::Observed> {
    let failed = || "cannot look into the container's network namespace".to_owned();
    if container.settings.network == crate::NetworkMode::Host {
        return network::observe_here().internal(failed);
    }
    let path = format!("/proc/{pid}/ns/net");
    let namespace = fs::File::open(&path).map_err(|error| Error::caused(Kind::Internal, failed(), error))?;
    if one_way { observe_one_way(&namespace) } else { network::observe(namespace.as_fd()).internal(failed) }
}

/// By a process that ends there: root of a user namespace could not return from the container's network to the host's.
fn observe_one_way(namespace: &fs::File) -> Result<network::Observed> {
    let failed = || "cannot look into the container's network namespace".to_owned();
    let (reader, writer) = std::io::pipe().map_err(|error| Error::caused(Kind::Internal, failed(), error))?;
    let child = kernel::clone::Clone::default()
        .spawn(|| {
            let look = || {
                kernel::namespaces::join(namespace.as_fd(), Namespaces::NETWORK).map_err(|error| error.to_string())?;
                network::observe_here().map_err(|error| error.to_string())
            };
            i32::from(serde_json::to_writer(&writer, &look()).is_err())
        })
        .internal(failed)?;
    drop(writer);
    let seen: std::result::Result<std::result::Result<network::Observed, String>, _> = serde_json::from_reader(reader);
    rustix::process::waitpid(Some(child.pid), WaitOptions::empty()).internal(failed)?;
    seen.map_err(|error| Error::caused(Kind::Internal, failed(), error))?
        .map_err(|text| Error::new(Kind::Internal, text))
}

/// From the container's end of the veth pair over the host's end to the bridge.
fn host_side(container: &Container, inside: &network::Observed, outside: &network::Observed, section: &mut Section) {
    let name = network::host_interface(&container.id, 0);
    let Some(end) = outside.links.iter().find(|link| link.name == name) else {
        section.note("host side", name, "missing");
        return;
    };
    let peer = inside.links.iter().find(|link| Some(link.index) == end.link).map_or("?", |link| &link.name);
    section.note("host side", name, format!("the other end of {peer}"));
    if let Some(bridge) = outside.links.iter().find(|link| Some(link.index) == end.master) {
        let addresses: Vec<String> = outside
            .addresses
            .iter()
            .filter(|address| address.index == bridge.index && address.scope == 0)
            .map(|address| address.address.to_string())
            .collect();
        section.note("bridge", bridge.name.clone(), addresses.join(" "));
    }
    for route in outside.routes.iter().filter(|route| route.destination.prefix() == 0) {
        let device = outside.links.iter().find(|link| Some(link.index) == route.index).map_or("?", |link| &link.name);
        section.note("wire", device, route.gateway.map(|gateway| format!("by {gateway}")).unwrap_or_default());
    }
}
