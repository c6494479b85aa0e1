//! Joining and leaving networks, whether the container runs or not.

use super::gateway::{Attached, routes, ways_out};
use super::join::{Joined, links, take_place};
use super::options::{ConnectOptions, NetworkRequest};
use super::record::{Driver, Network};
use super::table::{self, Published};
use super::{DEFAULT, parameters, ports};
use crate::containers::options::{NetworkMode, PublishedPort};
use crate::containers::table as containers;
use crate::containers::table::Entry;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use monitor::NetworkChange;

/// What options begin with that Docker's own drivers obey.
const DOCKERS: &str = "com.docker.network.";

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, message)
}

/// Whether a network can give what is asked of it, without looking at who has what.
pub(crate) fn check(network: &Network, request: &NetworkRequest) -> Result<()> {
    let has_address = request.ipv4.is_some() || request.ipv6.is_some();
    if network.name == DEFAULT && has_address {
        return Err(invalid(
            "invalid config for network bridge: user specified IP address is supported on user defined networks only",
        ));
    }
    if network.name == DEFAULT && !request.aliases.is_empty() {
        return Err(invalid("network-scoped aliases are only supported for user-defined networks"));
    }
    let asked = |ipv6| network.settings.subnets.iter().any(|subnet| subnet.asked && subnet.subnet.is_ipv6() == ipv6);
    if (request.ipv4.is_some() && !asked(false)) || (request.ipv6.is_some() && !asked(true)) {
        return Err(invalid(format!(
            "invalid config for network {}: user specified IP address is supported only when connecting to networks with user configured subnets",
            network.name
        )));
    }
    if let Some(mac) = &request.mac
        && mac.parse::<network::Mac>().is_err()
    {
        return Err(invalid(format!("invalid MAC address: {mac}")));
    }
    // Docker keeps what it does not know for a driver that may: there is none here, and it is shown to whoever looks for it.
    for (key, value) in request.driver_options.iter().filter(|(key, _)| key.starts_with(DOCKERS)) {
        match key.as_str() {
            "com.docker.network.endpoint.ifname" => network::check_name(value)
                .kind(Kind::InvalidArgument, || format!("invalid interface name {value:?}"))?,
            parameters::OPTION => drop(parameters::asked(request, "eth0")?),
            _ => return Err(invalid(format!("the option {key} of a container on a network is not supported"))),
        }
    }
    if request.links.iter().any(|link| link.is_empty() || link.starts_with(':') || link.ends_with(':')) {
        return Err(invalid("invalid link: expected CONTAINER or CONTAINER:NAME"));
    }
    Ok(())
}

impl Engine {
    /// Finds the networks that a new container asks for, and checks what it asks of them. Each comes with its name.
    pub(crate) fn networks_for(
        &self,
        mode: &NetworkMode,
        asked: &[NetworkRequest],
    ) -> Result<Vec<(Network, NetworkRequest)>> {
        if *mode != NetworkMode::Bridge {
            return Ok(Vec::new());
        }
        let plain = [NetworkRequest::named(DEFAULT)];
        let asked = if asked.is_empty() { &plain[..] } else { asked };
        let mut all: Vec<(Network, NetworkRequest)> = Vec::new();
        for request in asked {
            let network = match request.network.as_str() {
                DEFAULT | "default" => self.default_network()?,
                name => table::find(self.database()?.read(), name)?,
            };
            if matches!(network.settings.driver, Driver::Host | Driver::Null) {
                return Err(invalid(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
                ));
            }
            check(&network, request)?;
            if all.iter().any(|(other, _)| other.id == network.id) {
                return Err(invalid(format!("network {:?} is specified multiple times", network.name)));
            }
            let request = NetworkRequest { network: network.name.clone(), ..request.clone() };
            all.push((network, request));
        }
        Ok(all)
    }

    /// Lets a container join a network, at once if it runs.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::Forbidden`] where containers cannot join, [`Kind::Conflict`] for one that is on it and
    /// for an address that is taken.
    pub fn connect_network(&self, wanted: &str, options: &ConnectOptions) -> Result<()> {
        self.put_right();
        self.begin_networks()?;
        let entry = containers::find(self.database()?.read(), &options.container)?;
        if wanted == DEFAULT {
            self.default_network()?;
        }
        let network = table::find(self.database()?.read(), wanted)?;
        may_change(&entry, &network, true)?;
        check(&network, &options.request)?;
        if entry.endpoints.iter().any(|endpoint| endpoint.network_id == network.id) {
            return Err(Error::new(
                Kind::Forbidden,
                format!("endpoint with name {} already exists in network {}", entry.name, network.name),
            ));
        }
        let request = NetworkRequest { network: network.name.clone(), ..options.request.clone() };
        if self.running_state(&entry.id)?.is_none() {
            self.database()?.write(|t| table::add_endpoint(t, &entry.id, &network.id, &request))?;
            self.record_of_network(&network, "connect", Some(&entry.id));
            return Ok(());
        }
        let before = self.attached(&entry)?;
        let place = self.database()?.write(|t| {
            table::add_endpoint(t, &entry.id, &network.id, &request)?;
            take_place(t, &entry.id, &network, &request, &before)
        })?;
        let mut after = before.clone();
        after.push(Attached { network: network.clone(), request, place });
        if let Err(error) = self.join_live(&entry, &before, &after) {
            // The first error is the one to report; what stays is given back when the container ends.
            self.withdraw(&entry.id, &network.id).unwrap_or_default();
            let forget = |t: &rusqlite::Transaction<'_>| table::remove_endpoint(t, &entry.id, &network.id);
            self.database().and_then(|mut database| database.write(forget)).unwrap_or_default();
            return Err(error);
        }
        self.record_of_network(&network, "connect", Some(&entry.id));
        Ok(())
    }

    fn join_live(&self, entry: &Entry, before: &[Attached], after: &[Attached]) -> Result<()> {
        let Some(new) = after.last() else { return Ok(()) };
        self.announce(entry, std::slice::from_ref(new))?;
        self.set_up_networks(&Joined { all: vec![new.clone()], ..Joined::default() })?;
        let (pairs, direct) = links(after, &entry.id)?;
        let is_new = |name: &str| name == new.place.interface;
        let change = NetworkChange {
            attachments: pairs.into_iter().filter(|each| is_new(&each.container_interface)).collect(),
            direct: direct.into_iter().filter(|each| is_new(&each.container_interface)).collect(),
            ..NetworkChange::default()
        };
        if self.change_live(entry, before, after, change)? {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, format!("container {} has ended meanwhile", entry.name)))
    }

    /// Lets a container leave a network, at once if it runs. `force` also forgets a container that is gone.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::Forbidden`] where it cannot leave or is not on it.
    pub fn disconnect_network(&self, wanted: &str, container: &str, force: bool) -> Result<()> {
        self.put_right();
        let network = table::find(self.database()?.read(), wanted)?;
        let entry = match containers::find(self.database()?.read(), container) {
            Err(error) if force && error.kind() == Kind::NotFound => return Ok(()),
            other => other?,
        };
        may_change(&entry, &network, false)?;
        if !entry.endpoints.iter().any(|endpoint| endpoint.network_id == network.id) {
            return Err(Error::new(
                Kind::Forbidden,
                format!("container {} is not connected to network {}", entry.id, network.name),
            ));
        }
        let forget = |t: &rusqlite::Transaction<'_>| table::remove_endpoint(t, &entry.id, &network.id);
        if self.running_state(&entry.id)?.is_none() {
            self.database()?.write(forget)?;
            self.record_of_network(&network, "disconnect", Some(&entry.id));
            return Ok(());
        }
        let before = self.attached(&entry)?;
        let (gone, after): (Vec<Attached>, Vec<Attached>) =
            before.iter().cloned().partition(|each| each.network.id == network.id);
        let mut change = NetworkChange::default();
        for each in &gone {
            match each.network.settings.driver {
                Driver::Bridge => change.detach.push(network::host_interface(&entry.id, each.place.index)),
                _ => change.remove.push(each.place.interface.clone()),
            }
        }
        self.withdraw(&entry.id, &network.id)?;
        self.change_live(&entry, &before, &after, change)?;
        self.database()?.write(forget)?;
        self.record_of_network(&network, "disconnect", Some(&entry.id));
        Ok(())
    }

    /// The places that a running container has.
    pub(crate) fn attached(&self, entry: &Entry) -> Result<Vec<Attached>> {
        let database = self.database()?;
        let mut all = Vec::new();
        for endpoint in &entry.endpoints {
            let network = table::exact(database.read(), &endpoint.network_id)?;
            if let (Some(network), Some(place)) = (network, &endpoint.place) {
                all.push(Attached { network, request: endpoint.request.clone(), place: place.clone() });
            }
        }
        Ok(all)
    }

    /// Has the monitor change the container's devices, routes and names; ports follow the way out. False when the container has ended
    /// meanwhile, and with it all that was to be changed.
    pub(super) fn change_live(
        &self,
        entry: &Entry,
        before: &[Attached],
        after: &[Attached],
        change: NetworkChange,
    ) -> Result<bool> {
        let old = routes(before);
        let new_routes = routes(after);
        // A way out that stays as it is is not touched: connections go on.
        let routes = new_routes.into_iter().filter(|route| !old.contains(route)).collect();
        let change = NetworkChange {
            routes,
            names: self.name_plan(entry, after),
            relay_targets: Some(Joined::addresses(after)),
            ..change
        };
        let directory = self.directories().container_run(&entry.id);
        match monitor::client::change_network(&directory, change) {
            Err(error) if matches!(error.kind(), monitor::Kind::Gone | monitor::Kind::NotRunning) => return Ok(false),
            other => other.internal(|| format!("cannot change the networks of container {}", entry.name))?,
        }
        self.move_ports(entry, after)?;
        crate::files::rewrite_hosts(entry, &self.directories().container(&entry.id), before, after)?;
        Ok(true)
    }

    /// Ports lead to the address on the way out, which may be another one now.
    fn move_ports(&self, entry: &Entry, after: &[Attached]) -> Result<()> {
        let Some(old) = table::published(self.database()?.read(), &entry.id)? else { return Ok(()) };
        let way_out = ways_out(after)[0].and_then(|position| after.get(position)).map(|each| &each.network);
        let held: &[PublishedPort] = &old.ports;
        let new: Published = ports::published(held, Joined::addresses(after), way_out)?;
        if new.publication == old.publication {
            return Ok(());
        }
        let _alone = self.lock_networks()?;
        self.database()?.write(|t| table::set_published(t, &entry.id, &new))?;
        self.ensure_rules()
    }
}

/// Docker's rules of who may join and leave.
fn may_change(entry: &Entry, network: &Network, joins: bool) -> Result<()> {
    let forbidden = |message: String| Err(Error::new(Kind::Forbidden, message));
    if network.settings.driver == Driver::Host {
        return forbidden("container cannot be disconnected from host network or connected to host network".into());
    }
    match &entry.settings.network {
        NetworkMode::Host | NetworkMode::Container(_) => forbidden(
            "container sharing network namespace with another container or host cannot be connected to any other network".into(),
        ),
        NetworkMode::None if joins || network.settings.driver != Driver::Null => forbidden(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode".into(),
        ),
        _ if network.settings.driver == Driver::Null => {
            forbidden("container cannot be connected to the network none while it has another one".into())
        }
        _ => Ok(()),
    }
}
