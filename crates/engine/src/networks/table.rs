//! The rows of the database that belong to networks. Every function is one statement or a part of one transaction.

use super::DEFAULT;
use super::options::NetworkRequest;
use super::record::{Member, Network, Place};
use crate::containers::options::PublishedPort;
use crate::database::{Database, Sql};
use crate::error::{Context, Error, Kind, Result};
use network::Publication;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

const COLUMNS: &str = "SELECT id, name, created_at, coalesce(interface, ''), settings FROM network";

/// The published ports of a running container: for the packet filter, and as users see them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Published {
    /// What the maps hold.
    #[serde(flatten)]
    pub publication: Publication,
    /// The ports with all numbers chosen.
    #[serde(default, rename = "chosen", with = "network::runs")]
    pub ports: Vec<PublishedPort>,
}

fn parse<T: serde::de::DeserializeOwned>(text: &str, what: impl FnOnce() -> String) -> Result<T> {
    serde_json::from_str(text).kind(Kind::Corrupt, || format!("{} cannot be read", what()))
}

fn text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).internal(|| "cannot write the network's record".into())
}

type Raw = (Network, String);

fn network(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let network = Network {
        id: row.get(0)?,
        name: row.get(1)?,
        created_at: row.get(2)?,
        interface: row.get(3)?,
        settings: Default::default(),
    };
    Ok((network, row.get(4)?))
}

fn complete((mut network, settings): Raw) -> Result<Network> {
    network.settings = parse(&settings, || format!("the record of network {}", network.name))?;
    Ok(network)
}

/// All networks by name.
pub(crate) fn all(connection: &Connection) -> Result<Vec<Network>> {
    let mut statement = connection.prepare(&format!("{COLUMNS} ORDER BY name")).sql("list networks")?;
    let rows = statement.query_map([], network).sql("list networks")?;
    rows.map(|row| complete(row.sql("list networks")?)).collect()
}

/// The network of that identifier or name, in this order; `None` where there is none.
pub(crate) fn exact(connection: &Connection, wanted: &str) -> Result<Option<Network>> {
    let row = connection
        .prepare(&format!("{COLUMNS} WHERE name = ?1 OR id = ?1 ORDER BY id = ?1 DESC LIMIT 1"))
        .and_then(|mut statement| statement.query_row([wanted], network).optional())
        .sql("look up a network")?;
    row.map(complete).transpose()
}

/// The network of that name, identifier, or unambiguous beginning of an identifier.
pub(crate) fn find(connection: &Connection, wanted: &str) -> Result<Network> {
    if let Some(network) = exact(connection, wanted)? {
        return Ok(network);
    }
    let missing = || Error::new(Kind::NotFound, format!("network {wanted} not found"));
    if wanted.is_empty() || !wanted.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(missing());
    }
    let mut statement =
        connection.prepare(&format!("{COLUMNS} WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2")).sql("look up a network")?;
    let mut rows = statement.query_map([wanted], network).sql("look up a network")?;
    let first = rows.next().ok_or_else(missing)?.sql("look up a network")?;
    if rows.next().is_some() {
        return Err(Error::new(
            Kind::InvalidArgument,
            format!("network {wanted} is ambiguous: several identifiers begin so"),
        )
        .hint("give more digits, or the name"));
    }
    complete(first)
}

/// Adds a network; a name or an interface that is taken is a conflict.
pub(crate) fn insert(transaction: &Transaction<'_>, network: &Network) -> Result<()> {
    // It may be the identifier of another one: that stays what an identifier finds.
    let taken = transaction
        .prepare("SELECT 1 FROM network WHERE name = ?1")
        .and_then(|mut statement| statement.exists([&network.name]))
        .sql("look up a network")?;
    if taken {
        return Err(Error::new(Kind::Conflict, format!("network with name {} already exists", network.name)));
    }
    let interface = (!network.interface.is_empty()).then_some(&network.interface);
    let settings = text(&network.settings)?;
    transaction
        .execute(
            "INSERT INTO network (id, name, interface, created_at, settings) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![network.id, network.name, interface, network.created_at, settings],
        )
        .sql("record the network")?;
    Ok(())
}

/// Forgets a network and the addresses of it.
pub(crate) fn delete(transaction: &Transaction<'_>, id: &str) -> Result<()> {
    transaction.execute("DELETE FROM network WHERE id = ?1", [id]).sql("forget the network")?;
    Ok(())
}

/// The containers that have a place on a network, by name.
pub(crate) fn members(connection: &Connection, id: &str) -> Result<Vec<Member>> {
    let rows = || {
        let mut statement = connection.prepare(
            "SELECT c.id, c.name, e.place FROM endpoint e JOIN container c ON c.id = e.container
             WHERE e.network = ?1 AND e.place IS NOT NULL ORDER BY c.name",
        )?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        statement.query_map([id], row)?.collect::<rusqlite::Result<Vec<(String, String, String)>>>()
    };
    let member = |(container, name, place): (String, String, String)| {
        let place = parse(&place, || format!("the place of container {name}"))?;
        Ok(Member { container, name, place })
    };
    rows().sql("look up a network's containers")?.into_iter().map(member).collect()
}

/// Notes that a container is to be on a network.
pub(crate) fn add_endpoint(
    t: &Transaction<'_>,
    container: &str,
    network: &str,
    request: &NetworkRequest,
) -> Result<()> {
    t.execute(
        "INSERT INTO endpoint (container, network, position, request)
         SELECT ?1, ?2, 1 + coalesce(max(position), -1), ?3 FROM endpoint WHERE container = ?1",
        params![container, network, text(request)?],
    )
    .sql("record the container's network")?;
    Ok(())
}

/// Notes what is asked of a container's place on a network from now on.
pub(crate) fn set_request(t: &Transaction<'_>, container: &str, network: &str, request: &NetworkRequest) -> Result<()> {
    t.execute(
        "UPDATE endpoint SET request = ?3 WHERE container = ?1 AND network = ?2",
        params![container, network, text(request)?],
    )
    .sql("record the container's network")?;
    Ok(())
}

/// Notes that a container is not on a network any more, with its addresses there.
pub(crate) fn remove_endpoint(t: &Transaction<'_>, container: &str, network: &str) -> Result<()> {
    for table in ["lease", "endpoint"] {
        t.execute(&format!("DELETE FROM {table} WHERE container = ?1 AND network = ?2"), [container, network])
            .sql("forget the container's network")?;
    }
    Ok(())
}

/// Notes the place that a container has on a network; none when it has left.
pub(crate) fn set_place(t: &Transaction<'_>, container: &str, network: &str, place: &Place) -> Result<()> {
    t.execute(
        "UPDATE endpoint SET place = ?3 WHERE container = ?1 AND network = ?2",
        params![container, network, text(place)?],
    )
    .sql("record the container's address")?;
    Ok(())
}

/// Gives back everything that a running container had.
pub(crate) fn release(t: &Transaction<'_>, container: &str) -> Result<()> {
    t.execute("DELETE FROM lease WHERE container = ?1", [container]).sql("give the container's addresses back")?;
    t.execute("UPDATE endpoint SET place = NULL WHERE container = ?1", [container])
        .sql("give the container's addresses back")?;
    Ok(())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
    }
}

/// The addresses of a network that are given, without those of `except`.
pub(crate) fn leases(connection: &Connection, network: &str, except: &str) -> Result<BTreeSet<IpAddr>> {
    let mut statement = connection
        .prepare("SELECT address FROM lease WHERE network = ?1 AND container <> ?2")
        .sql("look up addresses")?;
    let rows = statement.query_map([network, except], |row| row.get::<_, Vec<u8>>(0)).sql("look up addresses")?;
    rows.filter_map(|row| row.map(|octets| address(&octets)).transpose())
        .collect::<rusqlite::Result<_>>()
        .sql("look up addresses")
}

/// The address of one family that a container has on a network.
pub(crate) fn own_lease(connection: &Connection, network: &str, container: &str, ipv6: bool) -> Result<Option<IpAddr>> {
    let row: Option<Vec<u8>> = connection
        .query_row(
            "SELECT address FROM lease WHERE network = ?1 AND container = ?2 AND length(address) = ?3",
            params![network, container, if ipv6 { 16 } else { 4 }],
            |row| row.get(0),
        )
        .optional()
        .sql("look up the container's address")?;
    Ok(row.and_then(|octets| address(&octets)))
}

/// Notes that an address is a container's.
pub(crate) fn lease(t: &Transaction<'_>, network: &str, container: &str, address: IpAddr) -> Result<()> {
    t.execute(
        "INSERT INTO lease (network, address, container) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![network, octets(address), container],
    )
    .sql("record the container's address")?;
    Ok(())
}

/// Takes back an address that turned out not to be the wanted one.
pub(crate) fn unlease(t: &Transaction<'_>, network: &str, container: &str, address: IpAddr) -> Result<()> {
    t.execute(
        "DELETE FROM lease WHERE network = ?1 AND container = ?2 AND address = ?3",
        params![network, container, octets(address)],
    )
    .sql("give an address back")?;
    Ok(())
}

/// The default network, if its range has been chosen.
pub(crate) fn default_network(connection: &Connection) -> Result<Option<Network>> {
    exact(connection, DEFAULT)
}

/// Notes what is about to be published.
pub(crate) fn set_published(t: &Transaction<'_>, container: &str, published: &Published) -> Result<()> {
    if published.ports.is_empty() {
        return forget_published(t, container);
    }
    t.execute(
        "INSERT INTO publication VALUES (?1, ?2) ON CONFLICT (container) DO UPDATE SET ports = excluded.ports",
        [container, &text(published)?],
    )
    .sql("record the published ports")?;
    Ok(())
}

/// Notes that nothing is published any more.
pub(crate) fn forget_published(t: &Transaction<'_>, container: &str) -> Result<()> {
    t.execute("DELETE FROM publication WHERE container = ?1", [container]).sql("forget the published ports")?;
    Ok(())
}

/// What a container publishes.
pub(crate) fn published(connection: &Connection, container: &str) -> Result<Option<Published>> {
    let row: Option<String> = connection
        .query_row("SELECT ports FROM publication WHERE container = ?1", [container], |row| row.get(0))
        .optional()
        .sql("look up published ports")?;
    row.map(|row| parse(&row, || "the record of published ports".into())).transpose()
}

/// Everything that is published. The table of containers is not looked at: its rows are long, and each look-up reads several.
pub(crate) fn publications(connection: &Connection) -> Result<Vec<Publication>> {
    let rows = || {
        let mut statement = connection.prepare("SELECT ports FROM publication")?;
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    let rows = rows().sql("look up published ports")?;
    let publication = |row: String| -> Result<Publication> {
        Ok(parse::<Published>(&row, || "the record of published ports".into())?.publication)
    };
    rows.into_iter().map(publication).collect()
}

/// Everything that is published, with the name of the container.
pub(crate) fn all_published(connection: &Connection) -> Result<Vec<(String, Published)>> {
    let rows = || {
        let mut statement =
            connection.prepare("SELECT c.name, p.ports FROM publication p JOIN container c ON c.id = p.container")?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        statement.query_map([], row)?.collect::<rusqlite::Result<Vec<(String, String)>>>()
    };
    let rows = rows().sql("look up published ports")?;
    rows.into_iter().map(|(name, row)| Ok((name, parse(&row, || "the record of published ports".into())?))).collect()
}

/// Containers that have something of a running one.
pub(crate) fn holders(connection: &Connection) -> Result<Vec<String>> {
    let rows = || {
        let mut statement =
            connection.prepare("SELECT container FROM publication UNION SELECT container FROM lease")?;
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    rows().sql("look up addresses")
}

/// Records a network that dhow makes by itself, unless another process was quicker.
pub(crate) fn insert_default(database: &mut Database, network: &Network) -> Result<Network> {
    database.write(|t| match default_network(t)? {
        Some(known) => Ok(known),
        None => insert(t, network).map(|()| network.clone()),
    })
}

/// The places that a container has, with the identifiers of the networks.
pub(crate) fn places(connection: &Connection, container: &str) -> Result<Vec<(String, Place)>> {
    let rows = || {
        let mut statement =
            connection.prepare("SELECT network, place FROM endpoint WHERE container = ?1 AND place IS NOT NULL")?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        statement.query_map([container], row)?.collect::<rusqlite::Result<Vec<(String, String)>>>()
    };
    let rows = rows().sql("look up the container's networks")?;
    rows.into_iter().map(|(network, place)| Ok((network, parse(&place, || "the container's place".into())?))).collect()
}
