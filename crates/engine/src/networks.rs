//! The engine's networks: today the default bridge, its addresses, and the rules that let packets out.
//!
//! The network's range is chosen once, from pools that the host's routes do not touch, and stays. Addresses belong to
//! running containers; the table row is made before the interface and deleted after it.

use crate::containers::record::{Address, Settings};
use crate::database::{Database, Sql};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use network::{Attachment, Bridge, Cidr, Mac, Protocol, Publication, PublishedPort, Ruleset, Subnet};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

/// Name of the network that containers are on by default, as Docker calls it.
const DEFAULT: &str = "bridge";

/// Name of its interface.
const DEFAULT_INTERFACE: &str = "dhow0";

/// A container's place on the default network, with all that is needed to make it.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    /// The address.
    pub address: Address,
    /// What the monitor makes.
    pub attachment: Attachment,
    /// The bridge that must be there.
    pub bridge: Bridge,
    /// The ports that lead to it.
    pub publication: Publication,
}

/// The hardware address that belongs to an address.
pub(crate) fn mac(address: Ipv4Addr) -> String {
    Mac::for_address(IpAddr::V4(address)).to_string()
}

/// Takes an address for the container, the lowest that is free; one that it has, it keeps.
pub(crate) fn join(database: &mut Database, container: &str, settings: &Settings) -> Result<Joined> {
    let subnet = default_subnet(database)?;
    let (address, publication) = database.write(|t| {
        let address = allocate(t, &subnet, container)?;
        let publication = publication(settings, IpAddr::V4(address))?;
        record_publication(t, container, &publication)?;
        Ok((address, publication))
    })?;
    let prefix = subnet.range.prefix();
    let range = Cidr::new(IpAddr::V4(address), prefix)
        .ok_or_else(|| Error::new(Kind::Internal, format!("{address}/{prefix} is not an address")))?;
    let attachment = Attachment {
        bridge: DEFAULT_INTERFACE.into(),
        host_interface: network::host_interface(container, 0),
        container_interface: "eth0".into(),
        mac: Mac::for_address(IpAddr::V4(address)),
        addresses: vec![range],
        gateways: vec![subnet.gateway],
        mtu: None,
        isolated: false,
    };
    Ok(Joined {
        address: Address {
            network: DEFAULT.into(),
            ipv4: address.to_string(),
            prefix,
            gateway: subnet.gateway.to_string(),
            mac: mac(address),
        },
        attachment,
        bridge: Bridge::new(DEFAULT_INTERFACE, vec![subnet]),
        publication,
    })
}

/// The network's range: as recorded, or chosen now.
fn default_subnet(database: &mut Database) -> Result<Subnet> {
    if let Some(subnet) = recorded(database.read())? {
        return Ok(subnet);
    }
    let failed = || "cannot choose a range for the default network".to_owned();
    let observed = network::observe_here().internal(failed)?;
    let name_of = |index| observed.links.iter().find(|link| link.index == index).map(|link| link.name.clone());
    let used = network::pools::of_routes(&observed.routes, name_of);
    let chosen = network::pools::choose(&network::pools::default_network(), &used).kind(Kind::Unavailable, failed)?;
    let subnet = Subnet::new(chosen);
    database.write(|t| {
        t.execute(
            "INSERT INTO network VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![DEFAULT, DEFAULT_INTERFACE, subnet.range.to_string(), subnet.gateway.to_string()],
        )
        .sql("record the default network")?;
        // Another process may have been quicker.
        recorded(t)?.ok_or_else(|| Error::new(Kind::Internal, "the default network was not recorded"))
    })
}

fn recorded(connection: &Connection) -> Result<Option<Subnet>> {
    let row: Option<(String, String)> = connection
        .query_row("SELECT subnet, gateway FROM network WHERE name = ?1", [DEFAULT], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .sql("look up the default network")?;
    let Some((range, gateway)) = row else { return Ok(None) };
    let corrupt = || "the record of the default network cannot be read".to_owned();
    Ok(Some(Subnet {
        range: range.parse().kind(Kind::Corrupt, corrupt)?,
        gateway: gateway.parse().kind(Kind::Corrupt, corrupt)?,
    }))
}

fn allocate(transaction: &Transaction<'_>, subnet: &Subnet, container: &str) -> Result<Ipv4Addr> {
    let (IpAddr::V4(gateway), IpAddr::V4(first), IpAddr::V4(last)) =
        (subnet.gateway, subnet.range.network().address(), subnet.range.last())
    else {
        return Err(Error::new(Kind::Internal, "the default network has no IPv4 range"));
    };
    let own: Option<u32> = transaction
        .query_row("SELECT ipv4 FROM address WHERE network = ?1 AND container = ?2", [DEFAULT, container], |row| {
            row.get(0)
        })
        .optional()
        .sql("look up the container's address")?;
    if let Some(own) = own {
        return Ok(own.into());
    }
    let mut statement =
        transaction.prepare("SELECT ipv4 FROM address WHERE network = ?1 ORDER BY ipv4").sql("look up addresses")?;
    let taken = statement.query_map([DEFAULT], |row| row.get::<_, u32>(0)).sql("look up addresses")?;
    let mut candidate = u32::from(first) + 1;
    let after_gateway = |address: u32| if address == u32::from(gateway) { address + 1 } else { address };
    candidate = after_gateway(candidate);
    for taken in taken {
        if taken.sql("look up addresses")? == candidate {
            candidate = after_gateway(candidate + 1);
        }
    }
    // The last address is the broadcast address.
    if candidate >= u32::from(last) {
        return Err(Error::new(Kind::Unavailable, format!("no address is left in {}", subnet.range)));
    }
    transaction
        .execute("INSERT INTO address VALUES (?1, ?2, ?3)", params![DEFAULT, candidate, container])
        .sql("record the container's address")?;
    Ok(candidate.into())
}

/// The published ports of a container as the packet filter has them.
fn publication(settings: &Settings, address: IpAddr) -> Result<Publication> {
    let mut ports = Vec::with_capacity(settings.ports.len());
    for port in &settings.ports {
        let invalid = |what: &str| Error::new(Kind::InvalidArgument, format!("cannot publish a port: invalid {what}"));
        let protocol = match port.protocol.as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(invalid(&format!("protocol {other:?}"))),
        };
        let host_ip = match port.host_ip.as_str() {
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            text => text.parse().map_err(|_| invalid(&format!("address {text:?}")))?,
        };
        ports.push(PublishedPort {
            protocol,
            host_ip,
            host_port: port.host_port,
            container_port: port.container_port,
            bypass_firewall: false,
        });
    }
    Ok(Publication { addresses: vec![address], ports })
}

/// Records what is about to be published.
fn record_publication(transaction: &Transaction<'_>, container: &str, publication: &Publication) -> Result<()> {
    if publication.ports.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_string(publication).internal(|| "cannot write the published ports".into())?;
    transaction
        .execute(
            "INSERT INTO publication VALUES (?1, ?2) ON CONFLICT (container) DO UPDATE SET ports = excluded.ports",
            [container, &text],
        )
        .sql("record the published ports")?;
    Ok(())
}

fn publications(connection: &Connection) -> Result<Vec<Publication>> {
    let texts = || {
        let mut statement = connection.prepare("SELECT ports FROM publication")?;
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    let parse = |text: String| {
        serde_json::from_str(&text).kind(Kind::Corrupt, || "the record of published ports cannot be read".into())
    };
    texts().sql("look up published ports")?.into_iter().map(parse).collect()
}

impl Engine {
    /// Sees to it that the bridge and the rules are there, whatever was done to them since, and publishes the ports.
    pub(crate) fn set_up_network(&self, joined: &Joined) -> Result<()> {
        network::ensure_bridge(&joined.bridge).internal(|| format!("cannot set up the bridge {DEFAULT_INTERFACE}"))?;
        let failed = || "cannot set up the packet filter".to_owned();
        let present = network::rules_present(&joined.bridge).internal(failed)?;
        if present && joined.publication.ports.is_empty() {
            return Ok(());
        }
        let _alone = self.lock_networks()?;
        if !present {
            let publications = publications(self.database()?.read())?;
            // Ours is among them, so that all is done when this is.
            let rules = Ruleset { bridges: vec![joined.bridge.clone()], publications };
            network::ensure_rules(&rules).internal(failed)?;
            return Ok(());
        }
        network::publish(&joined.publication).kind(Kind::Conflict, || "cannot publish the ports".into())
    }

    /// Takes away what the kernel does not clean by itself when a container ends: the veth pair goes with its namespace, the
    /// ports are ours to take back.
    pub(crate) fn leave_networks(&self, container: &str) -> Result<()> {
        let text: Option<String> = self
            .database()?
            .read()
            .query_row("SELECT ports FROM publication WHERE container = ?1", [container], |row| row.get(0))
            .optional()
            .sql("look up published ports")?;
        let Some(text) = text else { return Ok(()) };
        let publication: Publication = serde_json::from_str(&text)
            .kind(Kind::Corrupt, || "the record of published ports cannot be read".into())?;
        let _alone = self.lock_networks()?;
        network::unpublish(&publication).internal(|| "cannot take published ports back".into())?;
        self.database()?.write(|t| {
            t.execute("DELETE FROM publication WHERE container = ?1", [container]).sql("forget the published ports")?;
            Ok(())
        })
    }

    /// From reading the database to the end of a change of the packet filter, one process at a time.
    fn lock_networks(&self) -> Result<OwnedFd> {
        let path = self.directories().data.join("networks.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))
            .internal(|| format!("cannot open {}", path.display()))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).internal(|| "cannot lock the networks".into())?;
        Ok(lock)
    }
}
