//! The container's name server: `network::dns` in this process's poll loop.
//!
//! Who is on the container's networks stands in small files that the engine keeps, one for each container in a directory
//! for each network. They are read when a question comes and the directory has changed since: containers that come and go
//! wake nobody, and a network of a thousand costs those nothing who do not ask.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use network::Cidr;
use network::dns::{Interest, Responder, Zone};
use serde::{Deserialize, Serialize};

/// A directory that changed more recently than this may change again without a new time: the kernel's clock for files goes
/// in steps of up to 10 ms (`CONFIG_HZ`).
const STEP: Duration = Duration::from_millis(50);

/// What a container's name server is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamePlan {
    /// The networks whose names it knows.
    pub networks: Vec<NamePlace>,
    /// Names for this container alone, in lower case: `host.docker.internal`.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Further names of this container's own for names of its networks (`--link`): the new name, the old one.
    pub links: Vec<(String, String)>,
    /// Ranges whose addresses nobody else knows.
    pub subnets: Vec<Cidr>,
    /// Whom to ask for other names, in the order of preference; none on internal networks.
    pub upstream: Vec<SocketAddr>,
}

/// Where the names of one network stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamePlace {
    /// The network's name, which may follow a container's: `web.mynet`.
    pub network: String,
    /// A file for each container on it, with a [`NameEntry`].
    pub directory: PathBuf,
}

/// One container on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameEntry {
    /// Its names, the best one first, in lower case.
    pub names: Vec<String>,
    /// Its addresses on the network.
    pub addresses: Vec<IpAddr>,
}

/// The name server of a running container.
#[derive(Debug)]
pub(crate) struct NameServer {
    responder: Responder,
    plan: NamePlan,
    /// When the directories had changed last, as they were read; none if they have to be read anew in any case.
    read: Option<Vec<Option<SystemTime>>>,
}

impl NameServer {
    /// Opens its sockets in the container's network namespace.
    pub(crate) fn open(namespace: BorrowedFd<'_>, plan: NamePlan) -> Result<NameServer, network::Error> {
        Ok(NameServer { responder: Responder::open(namespace, Zone::default())?, plan, read: None })
    }

    /// The container has joined or left a network.
    pub(crate) fn set_plan(&mut self, plan: NamePlan) {
        (self.plan, self.read) = (plan, None);
    }

    /// What to poll.
    pub(crate) fn fds(&self) -> Vec<(BorrowedFd<'_>, Interest)> {
        self.responder.fds()
    }

    /// When [`Self::serve`] wants to be called even if nothing is ready.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        Some(now + self.responder.timeout(now)?)
    }

    /// Whether that time has come.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.responder.timeout(now).is_some_and(|time| time.is_zero())
    }

    /// Answers what can be answered without waiting.
    pub(crate) fn serve(&mut self) {
        self.refresh();
        self.responder.handle_ready(Instant::now());
    }

    fn refresh(&mut self) {
        let times = || -> Vec<Option<SystemTime>> {
            let changed = |place: &NamePlace| fs::metadata(&place.directory).and_then(|data| data.modified()).ok();
            self.plan.networks.iter().map(changed).collect()
        };
        let before = times();
        if self.read.as_ref() == Some(&before) {
            return;
        }
        self.responder.set_zone(zone(&self.plan));
        let now = SystemTime::now();
        let settled = before.iter().flatten().all(|time| now.duration_since(*time).is_ok_and(|age| age > STEP));
        self.read = settled.then_some(before);
    }
}

/// What the files say now. One that cannot be read is of a container that has just gone.
fn zone(plan: &NamePlan) -> Zone {
    let mut zone = Zone { subnets: plan.subnets.clone(), upstream: plan.upstream.clone(), ..Zone::default() };
    for place in &plan.networks {
        let Ok(files) = fs::read_dir(&place.directory) else { continue };
        let entries = files.flatten().filter_map(|file| fs::read(file.path()).ok());
        for entry in entries.filter_map(|bytes| serde_json::from_slice::<NameEntry>(&bytes).ok()) {
            let suffix = place.network.to_lowercase();
            if let Some(first) = entry.names.first() {
                zone.reverse.extend(entry.addresses.iter().map(|address| (*address, format!("{first}.{suffix}"))));
            }
            for name in &entry.names {
                for name in [name.clone(), format!("{name}.{suffix}")] {
                    add(&mut zone.names, name, &entry.addresses);
                }
            }
        }
    }
    for (new, old) in &plan.links {
        if let Some(addresses) = zone.names.get(old).cloned() {
            add(&mut zone.names, new.clone(), &addresses);
        }
    }
    for (name, addresses) in &plan.hosts {
        add(&mut zone.names, name.clone(), addresses);
    }
    // The order of a directory is nobody's; that of the answers goes round from here.
    zone.names.values_mut().for_each(|addresses| addresses.sort_unstable());
    zone
}

fn add(names: &mut BTreeMap<String, Vec<IpAddr>>, name: String, addresses: &[IpAddr]) {
    let known = names.entry(name).or_default();
    known.extend(addresses.iter().filter(|address| !known.contains(address)).copied().collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_several_networks() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| NamePlace { network: name.into(), directory: directory.path().join(name) };
        let entry = |network: &str, file: &str, names: &[&str], address: &str| {
            fs::create_dir_all(directory.path().join(network)).unwrap();
            let names = names.iter().map(ToString::to_string).collect();
            let entry = NameEntry { names, addresses: vec![address.parse().unwrap()] };
            fs::write(directory.path().join(network).join(file), serde_json::to_vec(&entry).unwrap()).unwrap();
        };
        entry("front", "1", &["web1", "web"], "10.0.0.3");
        entry("front", "2", &["web2", "web"], "10.0.0.2");
        entry("back", "1", &["web1"], "10.1.0.2");
        fs::write(directory.path().join("back/broken"), "{").unwrap();
        let plan = NamePlan {
            networks: vec![place("front"), place("back"), place("gone")],
            links: vec![("db".into(), "web2".into())],
            ..NamePlan::default()
        };
        let zone = zone(&plan);
        let of = |name: &str| zone.names[name].iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of("web"), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(of("web1"), ["10.0.0.3", "10.1.0.2"]);
        assert_eq!(of("web1.back"), ["10.1.0.2"]);
        assert_eq!(of("db"), ["10.0.0.2"]);
        assert_eq!(zone.reverse[&"10.1.0.2".parse().unwrap()], "web1.back");
    }
}
