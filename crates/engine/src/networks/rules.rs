//! Bridges and the packet filter: what has to be there for the records to be true.

use super::gateway::Attached;
use super::join::Joined;
use super::record::Network;
use super::table;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use network::Ruleset;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Between the two directories in what the table says of its owner.
const AND_RUN: &str = " --run-dir ";

/// Whether a monitor of the engine with this run directory watches over the rules: so one of its containers has a bridge.
fn is_watched(run: &str) -> bool {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::open(format!("{run}/networks/guard"), flags, Mode::empty());
    lock.is_ok_and(|lock| {
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK)
    })
}

pub(super) fn filter_failed() -> String {
    "cannot set up the packet filter".to_owned()
}

impl Engine {
    /// Sees to it that bridges and rules are there, whatever was done to them since, and publishes the ports. Returns what the
    /// user should know.
    pub(crate) fn set_up_networks(&self, joined: &Joined) -> Result<Option<String>> {
        let bridges = self.bridges(joined.all.iter().map(|each| &each.network))?;
        if bridges.is_empty() {
            return Ok(None);
        }
        self.bridges_and_rules(joined, &bridges)?;
        Ok(self.ask_firewalld(&bridges, true))
    }

    fn bridges_and_rules(&self, joined: &Joined, bridges: &[network::Bridge]) -> Result<()> {
        let mut present = true;
        let is_own = self.check_owner()?;
        present &= self.in_networks(|| -> Result<bool> {
            let mut present = is_own;
            for bridge in bridges {
                network::ensure_bridge(bridge).internal(|| format!("cannot set up the bridge {}", bridge.interface))?;
                present &= network::rules_present(bridge).internal(filter_failed)?;
            }
            Ok(present)
        })??;
        let publication = &joined.published.publication;
        if present && publication.ports.is_empty() {
            return Ok(());
        }
        let _alone = self.lock_networks()?;
        if !present {
            // Ours is among the publications, so that all is done when this is.
            return self.ensure_rules();
        }
        self.in_networks(|| network::publish(publication))?.kind(Kind::Conflict, || "cannot publish the ports".into())
    }

    /// The bridges of networks; those of an ordinary user carry packets as large as pasta takes them.
    fn bridges<'a>(&self, networks: impl Iterator<Item = &'a Network>) -> Result<Vec<network::Bridge>> {
        let bridges = networks.filter_map(Network::bridge);
        bridges.map(|bridge| Ok(network::Bridge { mtu: self.usual_mtu(bridge.mtu)?, ..bridge })).collect()
    }

    /// What the table says of its owner; nothing where the names of its directories are too long for that.
    fn owner(&self) -> String {
        let directories = self.directories();
        let text = format!("--root {}{AND_RUN}{}", directories.data.display(), directories.run.display());
        if text.len() > 127 { String::new() } else { text }
    }

    /// Two engines in one network namespace would undo each other's rules, and both have a bridge `dhow0`. So the table belongs
    /// to one as long as its containers run. Returns whether it is this one's.
    ///
    /// # Errors
    /// [`Kind::Conflict`] while another's containers run.
    pub(crate) fn check_owner(&self) -> Result<bool> {
        let own = self.owner();
        let owner = self.in_networks(network::rules_owner)?.internal(filter_failed)?;
        let Some(owner) = owner.filter(|owner| *owner != own && !own.is_empty()) else { return Ok(true) };
        if owner.split_once(AND_RUN).is_some_and(|(_, run)| is_watched(run)) {
            let message =
                format!("the networks of this machine are in use by another dhow, which was called with {owner}");
            return Err(Error::new(Kind::Conflict, message).hint(
                "stop its containers that have a bridge network, use its directories, or `--network host` or `none`",
            ));
        }
        Ok(false)
    }

    /// Whether a monitor of this engine watches over the rules.
    pub(super) fn is_watched(&self) -> bool {
        self.directories().run.to_str().is_some_and(is_watched)
    }

    /// Makes the packet filter hold exactly what the records say. The caller holds the lock of the networks.
    pub(crate) fn ensure_rules(&self) -> Result<()> {
        self.check_owner()?;
        let ruleset = {
            let database = self.database()?;
            let bridges = self.bridges(table::all(database.read())?.iter())?;
            let publications = table::publications(database.read())?;
            Ruleset { bridges, publications, relays: self.host()?.user_namespace, owner: self.owner() }
        };
        self.in_networks(|| network::ensure_rules(&ruleset))?.internal(filter_failed)?;
        Ok(())
    }

    /// Asks firewalld to let containers out by these bridges, if it judges packets here and has not said so. Takes some seconds at
    /// most, so not with the lock of the networks. Returns why it did not go well: containers run nevertheless.
    pub(crate) fn ask_firewalld(&self, bridges: &[network::Bridge], load_again: bool) -> Option<String> {
        if self.host().ok()?.user_namespace {
            return None;
        }
        let waits = network::firewalld_waits(bridges);
        let asked = waits.and_then(|waits| if waits { network::ask_firewalld(bridges, load_again) } else { Ok(()) });
        asked.err().map(|error| error.to_string())
    }

    /// The size of packets of a bridge for which nobody said one.
    pub(crate) fn usual_mtu(&self, asked: Option<u32>) -> Result<Option<u32>> {
        Ok(if self.host()?.user_namespace { asked.or(Some(super::user::MTU)) } else { asked })
    }

    /// [`Self::ensure_rules`], unless the networks are an ordinary user's and nobody uses them: then there is no packet filter.
    pub(crate) fn rules_of_present_networks(&self) -> Result<()> {
        if self.in_present_networks(|| ())?.is_none() {
            return Ok(());
        }
        match self.ensure_rules() {
            // The rules are another's, and nothing of this one stands in them.
            Err(error) if error.kind() == Kind::Conflict => Ok(()),
            other => other,
        }
    }

    /// Puts the packet filter right after another program changed it, and the bridges of networks that are in use.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn heal_networks(&self) -> Result<()> {
        let alone = self.lock_networks()?;
        self.ensure_rules()?;
        let bridges = self.bridges(table::all(self.database()?.read())?.iter())?;
        drop(alone);
        // Nobody is here to be told.
        self.ask_firewalld(&bridges, false);
        Ok(())
    }

    /// Takes away what the kernel does not clean by itself when a container ends: the veth pair goes with its namespace, the
    /// ports and the names are ours to take back.
    pub(crate) fn leave_networks(&self, container: &str) -> Result<()> {
        let (published, places) = {
            let database = self.database()?;
            let connection = database.read();
            (table::published(connection, container)?, table::places(connection, container)?)
        };
        for (id, _) in &places {
            self.withdraw(container, id)?;
            let network = table::exact(self.database()?.read(), id)?;
            if let Some(network) = network.filter(|network| network.name != super::DEFAULT) {
                self.record_of_network(&network, "disconnect", Some(container));
            }
        }
        let Some(published) = published else { return Ok(()) };
        let _alone = self.lock_networks()?;
        let unpublished = self.in_present_networks(|| network::unpublish(&published.publication))?;
        unpublished.unwrap_or(Ok(())).internal(|| "cannot take published ports back".into())?;
        self.database()?.write(|t| table::forget_published(t, container))
    }

    /// Removes the host's ends of pairs whose making was cut short, or whose namespace somebody else still holds.
    pub(crate) fn remove_pairs(&self, container: &str) -> Result<()> {
        let places = table::places(self.database()?.read(), container)?;
        for (_, place) in places {
            let name = network::host_interface(container, place.index);
            let detached = self.in_present_networks(|| network::detach(&name))?;
            detached.unwrap_or(Ok(())).internal(|| format!("cannot remove the interface {name}"))?;
        }
        Ok(())
    }

    /// From reading the database to the end of a change of the packet filter, one process at a time.
    pub(crate) fn lock_networks(&self) -> Result<OwnedFd> {
        let path = self.directories().data.join("networks.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))
            .internal(|| format!("cannot open {}", path.display()))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).internal(|| "cannot lock the networks".into())?;
        Ok(lock)
    }

    /// The lock by which monitors agree who watches over the rules; none where a container needs no rules.
    pub(crate) fn guard(&self, all: &[Attached]) -> Option<PathBuf> {
        let has_rules = all.iter().any(|each| each.network.bridge().is_some());
        has_rules.then(|| self.directories().run.join("networks").join("guard"))
    }

    /// Makes the directory of what lives until the next boot; the first to do so after a boot gives back what the containers
    /// had that the boot ended.
    pub(crate) fn begin_networks(&self) -> Result<()> {
        let directory = self.directories().run.join("networks");
        if directory.is_dir() {
            return Ok(());
        }
        let holders = table::holders(self.database()?.read())?;
        let runs = |id: &String| self.directories().container_run(id).exists();
        let ended: Vec<String> = holders.into_iter().filter(|id| !runs(id)).collect();
        if !ended.is_empty() {
            self.database()?.write(|t| {
                ended.iter().try_for_each(|id| {
                    table::release(t, id)?;
                    table::forget_published(t, id)
                })
            })?;
        }
        crate::directories::make(&directory, 0o700)
    }
}
