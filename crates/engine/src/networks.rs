//! The engine's networks: today the default bridge, its addresses, and the rules that let packets out.
//!
//! The network's range is chosen once, from pools that the host's routes do not touch, and stays. Addresses belong to
//! running containers; the table row is made before the interface and deleted after it.

use crate::containers::record::Address;
use crate::database::{Database, Sql};
use crate::error::{Context, Error, Kind, Result};
use network::{Attachment, Bridge, Cidr, Mac, Ruleset, Subnet};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::net::{IpAddr, Ipv4Addr};

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
}

/// The hardware address that belongs to an address.
pub(crate) fn mac(address: Ipv4Addr) -> String {
    Mac::for_address(IpAddr::V4(address)).to_string()
}

/// Takes an address for the container, the lowest that is free; one that it has, it keeps.
pub(crate) fn join(database: &mut Database, container: &str) -> Result<Joined> {
    let subnet = default_subnet(database)?;
    let address = database.write(|t| allocate(t, &subnet, container))?;
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
    })
}

/// The network's range: as recorded, or chosen now.
fn default_subnet(database: &mut Database) -> Result<Subnet> {
    if let Some(subnet) = recorded(database.read())? {
        return Ok(subnet);
    }
    let chosen = network::pools::choose(&[]).kind(Kind::Unavailable, || "cannot choose a range for the default network".into())?;
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
        .query_row("SELECT subnet, gateway FROM network WHERE name = ?1", [DEFAULT], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .sql("look up the default network")?;
    let Some((range, gateway)) = row else { return Ok(None) };
    let corrupt = || "the record of the default network cannot be read".to_owned();
    Ok(Some(Subnet { range: range.parse().kind(Kind::Corrupt, corrupt)?, gateway: gateway.parse().kind(Kind::Corrupt, corrupt)? }))
}

fn allocate(transaction: &Transaction<'_>, subnet: &Subnet, container: &str) -> Result<Ipv4Addr> {
    let (IpAddr::V4(gateway), IpAddr::V4(first), IpAddr::V4(last)) =
        (subnet.gateway, subnet.range.network().address(), subnet.range.last())
    else {
        return Err(Error::new(Kind::Internal, "the default network has no IPv4 range"));
    };
    let own: Option<u32> = transaction
        .query_row("SELECT ipv4 FROM address WHERE network = ?1 AND container = ?2", [DEFAULT, container], |row| row.get(0))
        .optional()
        .sql("look up the container's address")?;
    if let Some(own) = own {
        return Ok(own.into());
    }
    let mut statement = transaction
        .prepare_cached("SELECT ipv4 FROM address WHERE network = ?1 ORDER BY ipv4")
        .sql("look up addresses")?;
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

/// Sees to it that the bridge and the rules are there, whatever was done to them since.
pub(crate) fn ensure(joined: &Joined) -> Result<()> {
    network::ensure_bridge(&joined.bridge).internal(|| format!("cannot set up the bridge {DEFAULT_INTERFACE}"))?;
    let rules = Ruleset { bridges: vec![joined.bridge.clone()], publications: Vec::new() };
    network::ensure_rules(&rules).internal(|| "cannot set up the packet filter rules".into())?;
    Ok(())
}

/// Takes away what the kernel does not clean by itself when a container ends.
pub(crate) fn leave(_database: &Database, _container: &str) -> Result<()> {
    // The veth pair goes with the container's network namespace, the address with the record of the run.
    Ok(())
}
