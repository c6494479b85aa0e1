//! `network xray`: the way of a packet from a container to the wire and back, read from the kernel: links, addresses, routes,
//! translation and filter rules with their counters, and who answers names.
//!
//! The records are consulted to know where to look, and to name what differs.

use super::gateway::Attached;
use super::record::{Driver, Member, Network};
use super::table;
use crate::containers::record::Container;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::xray::Section;
use network::{Link, Observed, RuleCounter};
use std::os::fd::AsFd;

/// What was seen of a network, or of a container's networks.
#[derive(Clone, Debug)]
pub struct NetworkXray {
    /// The network's or the container's name.
    pub name: String,
    /// What was seen, in the order of a packet on its way out.
    pub sections: Vec<Section>,
    /// The drawing: what is connected with what.
    pub drawing: Drawing,
    /// Where kernel and records disagree, or where packets will not pass, a sentence each.
    pub differences: Vec<String>,
}

/// Boxes and the lines between them.
#[derive(Clone, Debug, Default)]
pub struct Drawing {
    /// Each with an identifier and a text of several lines.
    pub boxes: Vec<(String, String)>,
    /// From, to, and what happens on the way.
    pub lines: Vec<(String, String, String)>,
}

impl Drawing {
    fn add(&mut self, id: &str, text: impl Into<String>) {
        if !self.boxes.iter().any(|(known, _)| known == id) {
            self.boxes.push((id.to_owned(), text.into()));
        }
    }

    fn connect(&mut self, from: &str, to: &str, text: impl Into<String>) {
        let line = (from.to_owned(), to.to_owned(), text.into());
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }
}

/// The chains that a packet out of a container meets, and those that one to it meets, in order; `*` is the bridge's name.
const OUT: &[&str] = &["guard", "prerouting", "forward", "out_of_*", "postrouting", "nat_*"];
const IN: &[&str] = &["guard", "prerouting", "ask", "input", "gate", "publish", "forward", "into_*", "output"];

impl Engine {
    /// Looks at the way of a network's or a container's packets.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is neither, [`Kind::Conflict`] for a container that does not run.
    pub fn network_xray(&self, wanted: &str) -> Result<NetworkXray> {
        match self.elsewhere(|engine| engine.network_xray_here(wanted))? {
            Some(seen) => Ok(seen),
            None => self.network_xray_here(wanted),
        }
    }

    fn network_xray_here(&self, wanted: &str) -> Result<NetworkXray> {
        match self.network(wanted) {
            Ok((network, members)) => self.xray_network(&network, &members),
            Err(error) if error.kind() == Kind::NotFound => match self.running(wanted, "look through") {
                Err(other) if other.kind() == Kind::NotFound => {
                    Err(Error::new(Kind::NotFound, format!("there is neither a network nor a container {wanted}")))
                }
                container => self.xray_container(&container?),
            },
            Err(error) => Err(error),
        }
    }

    fn xray_network(&self, network: &Network, members: &[Member]) -> Result<NetworkXray> {
        let mut seen = Seen::new(&network.name)?;
        seen.bridge(network);
        let mut section = Section::new("Containers");
        for member in members {
            let addresses: Vec<String> = member.place.addresses().map(|address| address.to_string()).collect();
            let pair = network::host_interface(&member.container, member.place.index);
            section.note(member.name.clone(), addresses.join(" "), format!("{} by {pair}", member.place.interface));
            seen.pair(network, member);
        }
        seen.sections.push(section);
        seen.rules(network)?;
        let published = table::all_published(self.database()?.read())?;
        let own = published.iter().filter(|(name, _)| members.iter().any(|member| member.name == *name));
        seen.ports(own.map(|(name, each)| (name.as_str(), each)));
        seen.wire(network);
        Ok(seen.finish())
    }

    fn xray_container(&self, container: &Container) -> Result<NetworkXray> {
        let entry = crate::containers::table::find(self.database()?.read(), &container.id)?;
        let all = self.attached(&entry)?;
        let mut seen = Seen::new(&container.name)?;
        let failed = || "cannot look into the container's network namespace".to_owned();
        let path = format!("/proc/{}/ns/net", container.run.pid);
        let namespace = std::fs::File::open(path).internal(failed)?;
        let inside = network::observe(namespace.as_fd()).internal(failed)?;
        seen.inside(container, &all, &inside);
        seen.names(self.name_plan(&entry, &all), container);
        for each in &all {
            seen.bridge(&each.network);
            let member =
                Member { container: container.id.clone(), name: container.name.clone(), place: each.place.clone() };
            seen.pair(&each.network, &member);
            seen.rules(&each.network)?;
        }
        let published = table::published(self.database()?.read(), &container.id)?;
        seen.ports(published.iter().map(|each| (container.name.as_str(), each)));
        for each in &all {
            seen.wire(&each.network);
        }
        Ok(seen.finish())
    }
}

/// What is being gathered.
struct Seen {
    name: String,
    host: Observed,
    sections: Vec<Section>,
    drawing: Drawing,
    differences: Vec<String>,
}

fn state(link: &Link) -> String {
    let mac = link.mac.map(|mac| format!(" {mac}")).unwrap_or_default();
    let up = if link.up { "up" } else { "down" };
    format!("{}{mac} mtu {} {up}", link.kind.as_deref().unwrap_or("device"), link.mtu)
}

fn traffic(link: &Link) -> String {
    let traffic = &link.traffic;
    let lost = match traffic.rx_dropped + traffic.tx_dropped {
        0 => String::new(),
        lost => format!(", {lost} dropped"),
    };
    format!("received {} packets, sent {}{lost}", traffic.rx_packets, traffic.tx_packets)
}

impl Seen {
    fn new(name: &str) -> Result<Seen> {
        let host = network::observe_here().internal(|| "cannot look at the host's network".into())?;
        let (sections, drawing) = (Vec::new(), Drawing::default());
        Ok(Seen { name: name.to_owned(), host, sections, drawing, differences: Vec::new() })
    }

    fn finish(self) -> NetworkXray {
        let Seen { name, sections, drawing, differences, .. } = self;
        let sections = sections.into_iter().filter(|section| !section.facts.is_empty()).collect();
        NetworkXray { name, sections, drawing, differences }
    }

    fn link(&self, name: &str) -> Option<Link> {
        self.host.links.iter().find(|link| link.name == name).cloned()
    }

    /// The container's own side.
    fn inside(&mut self, container: &Container, all: &[Attached], inside: &Observed) {
        let mut section = Section::new("In the container");
        let mut text = container.name.clone();
        for link in &inside.links {
            section.note(link.name.clone(), state(link), traffic(link));
            for address in inside.addresses.iter().filter(|address| address.index == link.index) {
                section.add(format!("{} address", link.name), address.address.to_string());
                if address.scope == 0 {
                    text.push_str(&format!("\n{} {}", link.name, address.address));
                }
            }
        }
        for route in &inside.routes {
            let device = inside.links.iter().find(|link| Some(link.index) == route.index);
            let device = device.map_or_else(String::new, |link| format!(" on {}", link.name));
            let way = route.gateway.map_or_else(|| "straight".to_owned(), |gateway| format!("by {gateway}"));
            section.add(format!("route {}", route.destination), format!("{way}{device}"));
        }
        self.sections.push(section);
        self.drawing.add(&format!("container {}", container.name), text);
        for each in all {
            for address in each.place.addresses() {
                if !inside.addresses.iter().any(|found| found.address.address() == address.address()) {
                    self.differences.push(format!(
                        "the records give {} the address {address} on the network {}; the kernel does not",
                        container.name, each.network.name
                    ));
                }
            }
        }
    }

    /// Who answers names.
    fn names(&mut self, plan: Option<monitor::NamePlan>, container: &Container) {
        let mut section = Section::new("Names");
        let Some(plan) = plan else {
            section.add("answered by", "the servers of the host's resolv.conf, directly");
            self.sections.push(section);
            return;
        };
        section.note("answered by", format!("{}:53", network::dns::ADDRESS), "the container's monitor");
        for place in &plan.networks {
            let count = std::fs::read_dir(&place.directory).map_or(0, Iterator::count);
            section.add(format!("names of {}", place.network), format!("{count} containers"));
        }
        for endpoint in &container.networks {
            section.add(format!("own names on {}", endpoint.network), container.names_on(endpoint).join(" "));
        }
        let upstream: Vec<String> = plan.upstream.iter().map(ToString::to_string).collect();
        let others =
            if upstream.is_empty() { "nobody: nothing leaves an internal network".into() } else { upstream.join(" ") };
        section.add("other names", others);
        self.sections.push(section);
    }

    /// The network's bridge, or the device that carries it.
    fn bridge(&mut self, network: &Network) {
        let mut section = Section::new("On the host");
        let carrier = match network.settings.driver {
            Driver::Bridge => network.interface.clone(),
            _ => network.settings.options.get("parent").cloned().unwrap_or_default(),
        };
        let mut text = format!("{} {carrier}", network.settings.driver.name());
        match self.link(&carrier) {
            Some(link) => {
                section.note(carrier.clone(), state(&link), format!("network {}, {}", network.name, traffic(&link)));
                for address in self.host.addresses.iter().filter(|each| each.index == link.index && each.scope == 0) {
                    section.add(format!("{carrier} address"), address.address.to_string());
                    text.push_str(&format!("\n{}", address.address));
                }
            }
            None if network.settings.driver == Driver::Bridge => {
                section.note(carrier.clone(), "missing", "it is made when a container needs it");
            }
            None => {
                self.differences.push(format!("the host has no device {carrier} to carry the network {}", network.name))
            }
        }
        self.drawing.add(&format!("network {}", network.name), format!("{}\n{text}", network.name));
        self.sections.push(section);
    }

    /// The pair between a container and its bridge.
    fn pair(&mut self, network: &Network, member: &Member) {
        let (from, to) = (format!("container {}", member.name), format!("network {}", network.name));
        let addresses: Vec<String> = member.place.addresses().map(|address| address.to_string()).collect();
        self.drawing.add(&from, format!("{}\n{}", member.name, addresses.join("\n")));
        if network.settings.driver != Driver::Bridge {
            return self.drawing.connect(
                &from,
                &to,
                format!("{}, {}", member.place.interface, network.settings.driver.name()),
            );
        }
        let name = network::host_interface(&member.container, member.place.index);
        self.drawing.connect(&from, &to, format!("{} = {name}", member.place.interface));
        let Some(link) = self.link(&name) else {
            return self.differences.push(format!("{} has no interface {name} on the host", member.name));
        };
        let mut section = Section::new("Pairs");
        section.note(
            name.clone(),
            state(&link),
            format!("the other end of {}'s {}", member.name, member.place.interface),
        );
        let bridge = self.link(&network.interface).map(|link| link.index);
        if link.master.is_none() || link.master != bridge {
            self.differences.push(format!("{name} is not a port of {}", network.interface));
        }
        self.sections.push(section);
    }

    /// The rules that its packets meet, with counters.
    fn rules(&mut self, network: &Network) -> Result<()> {
        let Some(bridge) = network.bridge() else { return Ok(()) };
        let counters = network::rule_counters().internal(|| "cannot read the packet filter".into())?;
        let present = network::rules_present(&bridge).internal(|| "cannot read the packet filter".into())?;
        if !present {
            self.differences.push(format!(
                "the packet filter does not know {}: it is put right at the next start",
                bridge.interface
            ));
        }
        for (title, chains) in [("Rules on the way out", OUT), ("Rules on the way in", IN)] {
            let mut section = Section::new(title);
            for chain in chains {
                let chain = chain.replace('*', &bridge.interface);
                for rule in counters.iter().filter(|rule| rule.chain == chain) {
                    section.note(
                        chain.clone(),
                        rule.rule.clone(),
                        format!("{} packets, {} B", rule.packets, rule.bytes),
                    );
                }
            }
            self.sections.push(section);
        }
        self.masquerade(network, &counters);
        Ok(())
    }

    fn masquerade(&mut self, network: &Network, counters: &[RuleCounter]) {
        let chain = format!("nat_{}", network.interface);
        let count: u64 = counters.iter().filter(|rule| rule.chain == chain).map(|rule| rule.packets).sum();
        let way = match (network.settings.internal, network.bridge().is_some_and(|bridge| bridge.masquerade)) {
            (true, _) => "internal: nothing passes".to_owned(),
            (false, true) => format!("as this host ({count} connections)"),
            (false, false) => "with the container's own address".to_owned(),
        };
        self.drawing.add("host", "this host");
        self.drawing.connect(&format!("network {}", network.name), "host", way);
        let forwards = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1");
        if !network.settings.internal && !forwards {
            self.differences.push("net.ipv4.ip_forward is 0: nothing is forwarded".to_owned());
        }
    }

    fn ports<'a>(&mut self, published: impl Iterator<Item = (&'a str, &'a table::Published)>) {
        let mut section = Section::new("Published ports");
        for (name, each) in published {
            for port in &each.publication.ports {
                let target = each.publication.addresses.iter().find(|ip| ip.is_ipv6() == port.host_ip.is_ipv6());
                let Some(target) = target else { continue };
                let asked = match (port.host_ip.is_loopback(), port.bypass_firewall) {
                    (true, _) => "this host alone",
                    (_, true) => "past the host's firewall",
                    _ => "if the host's firewall allows it",
                };
                section.note(port.to_string(), format!("{name} at {target}"), asked);
                self.drawing.connect("host", &format!("container {name}"), port.to_string());
            }
        }
        self.sections.push(section);
    }

    /// The host's ways into the world.
    fn wire(&mut self, network: &Network) {
        if self.sections.iter().any(|section| section.title == "Wire") {
            return;
        }
        let mut section = Section::new("Wire");
        let routes: Vec<_> = self.host.routes.iter().filter(|route| route.destination.prefix() == 0).cloned().collect();
        for route in &routes {
            let link = self.host.links.iter().find(|link| Some(link.index) == route.index);
            let (name, shown) = link.map_or(("?".to_owned(), String::new()), |link| (link.name.clone(), state(link)));
            let by = route.gateway.map(|gateway| format!("by {gateway}")).unwrap_or_default();
            section.note(name.clone(), by.clone(), shown);
            let from = if network.bridge().is_some() { "host".to_owned() } else { format!("network {}", network.name) };
            self.drawing.add(&format!("device {name}"), name.clone());
            self.drawing.connect(&from, &format!("device {name}"), by);
        }
        if routes.is_empty() && !network.settings.internal {
            self.differences
                .push("the host has no default route: containers reach no further than its own links".to_owned());
        }
        self.sections.push(section);
    }
}
