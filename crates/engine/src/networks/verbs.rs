//! The verbs on networks themselves: create, list, look up, remove, prune.

use super::options::NetworkOptions;
use super::record::{Driver, Member, Network};
use super::settle::settle;
use super::table;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use std::collections::BTreeMap;

pub use super::settle::gather;

/// Docker's sentence for a network that cannot go.
fn in_use(network: &Network, members: &[Member]) -> Error {
    let name =
        |each: &Member| format!("name:\"{}\" id:\"{}\"", each.name, each.place.endpoint.get(..12).unwrap_or_default());
    let names: Vec<String> = members.iter().map(name).collect();
    let message =
        format!("error while removing network: network {} has active endpoints ({})", network.name, names.join(", "));
    Error::new(Kind::Forbidden, message).hint("stop these containers, or `dhow network disconnect` them")
}

impl Engine {
    /// Makes a network: its record, its bridge, its rules.
    ///
    /// # Errors
    /// [`Kind::Conflict`] for a name or an interface that is taken, [`Kind::Forbidden`] for a range that somebody else has
    /// (who, the cause says), [`Kind::InvalidArgument`] for options that make no sense.
    pub fn create_network(&self, options: &NetworkOptions) -> Result<Network> {
        self.put_right();
        self.check_networks_can_be()?;
        self.begin_networks()?;
        let alone = self.lock_networks()?;
        let settings = settle(options, &self.surroundings()?)?;
        if settings.driver != Driver::Bridge && self.host()?.user_namespace {
            let name = settings.driver.name();
            let message =
                format!("a network with the driver {name} puts containers on a device of the host, which is root's");
            return Err(Error::new(Kind::Unavailable, message).hint("use the driver bridge, or run dhow as root"));
        }
        if self.host()?.user_namespace
            && settings.options.iter().any(|(key, value)| key.contains("gateway_mode") && value == "routed")
        {
            return Err(Error::new(
                Kind::Unavailable,
                "nobody has a route to the networks of an ordinary user: routed makes no sense",
            )
            .hint("use the gateway mode nat, or run dhow as root"));
        }
        let id = crate::names::identifier()?;
        let named = settings.options.get("com.docker.network.bridge.name").cloned();
        let interface = match settings.driver {
            Driver::Bridge => named.unwrap_or_else(|| network::bridge_interface(&id)),
            _ => String::new(),
        };
        if !interface.is_empty() && self.has_device(&interface)? {
            return Err(Error::new(Kind::Conflict, format!("the interface {interface} exists already")));
        }
        if let Some(parent) = settings.options.get("parent")
            && !self.has_device(parent)?
        {
            return Err(Error::new(
                Kind::InvalidArgument,
                format!("this machine has no device {parent} to carry the network"),
            ));
        }
        let name = options.name.clone();
        let network = Network { id, name, created_at: crate::clock::now(), interface, settings };
        self.database()?.write(|t| table::insert(t, &network))?;
        if let Err(error) = self.make_network(&network) {
            // The first error is the one to report; what stays is a network that `network rm` removes.
            self.unmake_network(&network).unwrap_or_default();
            return Err(error);
        }
        self.record_of_network(&network, "create", None);
        drop(alone);
        // Whoever starts a container there is told if that did not go well.
        network.bridge().and_then(|bridge| self.ask_firewalld(&[bridge], true));
        Ok(network)
    }

    /// Whether there is such a device where the networks are.
    fn has_device(&self, name: &str) -> Result<bool> {
        let found = self.in_networks(|| network::link(name))?;
        Ok(found.internal(|| format!("cannot look for the device {name}"))?.is_some())
    }

    /// Writes an event of a network down; `container` is who joined or left.
    pub(crate) fn record_of_network(&self, network: &Network, action: &str, container: Option<&str>) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), network.settings.driver.name().to_owned()),
        ]);
        attributes.extend(container.map(|id| ("container".to_owned(), id.to_owned())));
        self.record_event(crate::events::Type::Network, action, &network.id, attributes);
    }

    fn make_network(&self, network: &Network) -> Result<()> {
        let Some(bridge) = network.bridge() else { return Ok(()) };
        let is_own = self.check_owner()?;
        let bridge = network::Bridge { mtu: self.usual_mtu(bridge.mtu)?, ..bridge };
        let made = self.in_networks(|| network::ensure_bridge(&bridge))?;
        made.internal(|| format!("cannot make the network {}", network.name))?;
        // What others do to the rules is put right by who watches over them; otherwise it is found here.
        let is_known = is_own && self.is_watched();
        if is_known && self.in_networks(|| network::add_to_rules(&bridge))?.internal(super::rules::filter_failed)? {
            return Ok(());
        }
        self.ensure_rules()
    }

    /// The record goes when the bridge is gone: killed in between, this leaves a network whose bridge is made when it is
    /// needed. Rules follow the records.
    fn unmake_network(&self, network: &Network) -> Result<()> {
        if network.bridge().is_some() {
            let removed = self.in_present_networks(|| network::remove_bridge(&network.interface))?;
            removed.unwrap_or(Ok(())).internal(|| format!("cannot remove the bridge {}", network.interface))?;
        }
        self.database()?.write(|t| {
            // A container may have come since it was looked.
            let members = table::members(t, &network.id)?;
            if members.is_empty() { table::delete(t, &network.id) } else { Err(in_use(network, &members)) }
        })?;
        self.forget_names(&network.id);
        if network.bridge().is_none() {
            return Ok(());
        }
        self.rules_of_present_networks()
    }

    /// All networks by name, the predefined ones among them.
    pub fn networks(&self) -> Result<Vec<Network>> {
        self.put_right();
        if self.check_networks_can_be().is_ok() {
            self.default_network()?;
        }
        table::all(self.database()?.read())
    }

    /// A network and the containers on it.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn network(&self, wanted: &str) -> Result<(Network, Vec<Member>)> {
        self.put_right();
        if wanted == super::DEFAULT && self.check_networks_can_be().is_ok() {
            self.default_network()?;
        }
        let database = self.database()?;
        let network = table::find(database.read(), wanted)?;
        let mut members = table::members(database.read(), &network.id)?;
        drop(database);
        members.retain(|member| matches!(self.running_state(&member.container), Ok(Some(_))));
        Ok((network, members))
    }

    /// Removes a network that no running container is on; returns its identifier.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::Forbidden`] for one that is predefined or in use.
    pub fn remove_network(&self, wanted: &str) -> Result<String> {
        self.put_right();
        let alone = self.lock_networks()?;
        let (network, members) = {
            let database = self.database()?;
            let network = table::find(database.read(), wanted)?;
            let members = table::members(database.read(), &network.id)?;
            (network, members)
        };
        if network.is_predefined() {
            return Err(Error::new(
                Kind::Forbidden,
                format!("{} is a pre-defined network and cannot be removed", network.name),
            ));
        }
        if !members.is_empty() {
            return Err(in_use(&network, &members));
        }
        self.unmake_network(&network)?;
        self.record_of_network(&network, "destroy", None);
        drop(alone);
        if !network.interface.is_empty() && !self.host()?.user_namespace {
            // The zone of firewalld's keeps a name then that nobody has.
            network::forget_in_firewalld(&network.interface).ok();
        }
        Ok(network.id)
    }

    /// Removes the networks that nobody uses and that `wanted` takes; returns their names.
    ///
    /// # Errors
    /// The first that could not be removed.
    pub fn prune_networks(&self, mut wanted: impl FnMut(&Network) -> bool) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for network in self.networks()? {
            let in_use = !table::members(self.database()?.read(), &network.id)?.is_empty();
            if network.is_predefined() || in_use || !wanted(&network) {
                continue;
            }
            match self.remove_network(&network.id) {
                Ok(_) => removed.push(network.name),
                // A container has come, or another prune was quicker.
                Err(error) if matches!(error.kind(), Kind::Forbidden | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// Number of containers that run on each network, by its identifier.
    pub fn network_uses(&self) -> Result<BTreeMap<String, usize>> {
        let database = self.database()?;
        let mut uses = BTreeMap::new();
        for network in table::all(database.read())? {
            let count = table::members(database.read(), &network.id)?.len();
            uses.insert(network.id, count);
        }
        Ok(uses)
    }
}
