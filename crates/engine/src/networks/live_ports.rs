//! Published ports that a container gets, or loses, also while it runs.
//!
//! The monitor of a running container holds the sockets, so it is asked to; then the record and the rules follow. A kill in between
//! leaves a port that is held and leads nowhere, until the container ends. Docker cannot do this at all.

use super::gateway::ways_out;
use super::join::Joined;
use super::{ports, table};
use crate::containers::options::{NetworkMode, PublishedPort};
use crate::containers::record::Settings;
use crate::containers::table as containers;
use crate::containers::table::Entry;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use monitor::NetworkChange;

impl Engine {
    /// Publishes further ports of a container, at once if it runs, and from now on with every start.
    ///
    /// # Errors
    /// [`Kind::Conflict`] for what is published already or taken on the host; [`Kind::InvalidArgument`] for a container without a
    /// network of its own; [`Kind::Unavailable`] for a running one of an ordinary user.
    pub fn add_ports(&self, wanted: &str, new: &[PublishedPort]) -> Result<()> {
        self.put_right();
        let entry = containers::find(self.database()?.read(), wanted)?;
        if entry.settings.network != NetworkMode::Bridge {
            let message =
                format!("container {wanted} has no network of its own, so that no port of it can be published");
            return Err(Error::new(Kind::InvalidArgument, message));
        }
        not_published(&entry.settings, new)?;
        if self.running_state(&entry.id)?.is_none() {
            containers::change_settings(&mut *self.database()?, &entry.id, |stored| add(stored, new))?;
        } else {
            self.publish_live(&entry, new)?;
        }
        self.record_of(&entry.id, &entry.name, &entry.settings, "update", &[]);
        Ok(())
    }

    fn publish_live(&self, entry: &Entry, new: &[PublishedPort]) -> Result<()> {
        self.refuse_live_ports()?;
        let attached = self.attached(entry)?;
        let binding = attached.iter().find_map(|each| each.network.binding());
        let asked = Settings { ports: new.to_vec(), ..Settings::default() };
        // Taken here for a moment, to choose their numbers and to say well what is in the way.
        let held = self.hold_ports(&asked, binding)?.ports;
        let hold = held.iter().map(|port| Ok((ports::protocol(port)?, ports::address(port)?, port.host_port)));
        let hold = hold.collect::<Result<Vec<_>>>()?;
        let directory = self.directories().container_run(&entry.id);
        let let_go = hold.iter().map(|(protocol, _, port)| (*protocol, *port)).collect();
        monitor::client::change_network(&directory, NetworkChange { hold, ..NetworkChange::default() })
            .internal(|| format!("cannot publish ports of container {}", entry.name))?;
        let done = self.change_published(entry, |stored| add(stored, new), |ports| ports.extend(held));
        if done.is_err() {
            // The first error is the one to report; the monitor lets go with the container's end in any case.
            let undo = NetworkChange { let_go, ..NetworkChange::default() };
            drop(monitor::client::change_network(&directory, undo));
        }
        done
    }

    /// Takes back published ports of a container: those that lead to one of these ports, at once if it runs.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when one is not published.
    pub fn remove_ports(&self, wanted: &str, gone: &[(u16, String)]) -> Result<()> {
        self.put_right();
        let entry = containers::find(self.database()?.read(), wanted)?;
        let goes = |port: &PublishedPort| {
            gone.iter().any(|(number, protocol)| port.container_port == *number && port.protocol == *protocol)
        };
        for (number, protocol) in gone {
            let is_it = |port: &PublishedPort| port.container_port == *number && port.protocol == *protocol;
            if !entry.settings.ports.iter().any(is_it) {
                let message = format!("container {wanted} does not publish its port {number}/{protocol}");
                return Err(Error::new(Kind::NotFound, message));
            }
        }
        let forget = |stored: &mut Settings| {
            stored.ports.retain(|port| !goes(port));
            Ok(())
        };
        if self.running_state(&entry.id)?.is_none() {
            containers::change_settings(&mut *self.database()?, &entry.id, forget)?;
        } else {
            self.refuse_live_ports()?;
            let published = table::published(self.database()?.read(), &entry.id)?.unwrap_or_default();
            let let_go = published.ports.iter().filter(|port| goes(port));
            let let_go = let_go.map(|port| Ok((ports::protocol(port)?, port.host_port))).collect::<Result<Vec<_>>>()?;
            self.change_published(&entry, forget, |ports| ports.retain(|port| !goes(port)))?;
            // No connection leads there any more: the number is free for others.
            let change = NetworkChange { let_go, ..NetworkChange::default() };
            monitor::client::change_network(&self.directories().container_run(&entry.id), change)
                .internal(|| format!("cannot take back ports of container {wanted}"))?;
        }
        self.record_of(&entry.id, &entry.name, &entry.settings, "update", &[]);
        Ok(())
    }

    fn refuse_live_ports(&self) -> Result<()> {
        if self.host()?.user_namespace {
            let message = "the published ports of an ordinary user's running container cannot be changed";
            return Err(Error::new(Kind::Unavailable, message).hint("stop the container, change them, and start it"));
        }
        Ok(())
    }

    /// Changes what is recorded of a running container's ports, what it was asked for and what is in force, and the rules.
    fn change_published(
        &self,
        entry: &Entry,
        change: impl FnOnce(&mut Settings) -> Result<()>,
        in_force: impl FnOnce(&mut Vec<PublishedPort>),
    ) -> Result<()> {
        let attached = self.attached(entry)?;
        let way_out = ways_out(&attached)[0].and_then(|position| attached.get(position)).map(|each| &each.network);
        let _alone = self.lock_networks()?;
        self.database()?.write(|t| {
            let mut now = table::published(t, &entry.id)?.unwrap_or_default().ports;
            in_force(&mut now);
            let published = ports::published(&now, Joined::addresses(&attached), way_out)?;
            table::set_published(t, &entry.id, &published)?;
            containers::change_settings_in(t, &entry.id, change)
        })?;
        self.ensure_rules()
    }
}

fn add(settings: &mut Settings, new: &[PublishedPort]) -> Result<()> {
    not_published(settings, new)?;
    settings.ports.extend_from_slice(new);
    Ok(())
}

fn not_published(settings: &Settings, new: &[PublishedPort]) -> Result<()> {
    match new.iter().find(|port| settings.ports.contains(port)) {
        Some(port) => Err(Error::new(
            Kind::Conflict,
            format!("port {}/{} is published already in that way", port.container_port, port.protocol),
        )),
        None => Ok(()),
    }
}
