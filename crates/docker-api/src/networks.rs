//! `/networks/…`

use crate::context::Context;
use crate::create::EndpointAsked;
use crate::failure::Failure;
use crate::filters::Filters;
use crate::reply::{self, Reply};
use engine::{Cidr, ConnectOptions, Driver, Network, NetworkOptions, PoolRequest};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    name: Option<String>,
    driver: Option<String>,
    internal: Option<bool>,
    attachable: Option<bool>,
    ingress: Option<bool>,
    config_only: Option<bool>,
    scope: Option<String>,
    #[serde(rename = "EnableIPv4")]
    ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<Ipam>,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    driver: Option<String>,
    config: Option<Vec<Pool>>,
    options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Pool {
    subnet: Option<String>,
    #[serde(rename = "IPRange")]
    ip_range: Option<String>,
    gateway: Option<String>,
    #[serde(alias = "AuxAddress")]
    auxiliary_addresses: Option<BTreeMap<String, String>>,
}

fn parsed<T: std::str::FromStr>(what: &str, text: Option<String>) -> Result<Option<T>, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Failure::bad(format!("invalid {what}: {text:?}")))
}

fn pool(pool: Pool) -> Result<PoolRequest, Failure> {
    let others = pool.auxiliary_addresses.unwrap_or_default().into_iter();
    let others = others.map(|(name, text)| {
        let address = text.parse().map_err(|_| Failure::bad(format!("invalid auxiliary address: {text:?}")))?;
        Ok((name, address))
    });
    Ok(PoolRequest {
        subnet: parsed::<Cidr>("subnet", pool.subnet)?,
        gateway: parsed("gateway", pool.gateway)?,
        ip_range: parsed::<Cidr>("address range", pool.ip_range)?,
        auxiliary: others.collect::<Result<_, Failure>>()?,
    })
}

fn options(asked: Asked) -> Result<NetworkOptions, Failure> {
    if asked.ingress.unwrap_or(false) || asked.scope.as_deref() == Some("swarm") {
        return Err(Failure::unsupported("a network of a swarm"));
    }
    if asked.config_only.unwrap_or(false) {
        return Err(Failure::unsupported("a network that is only a configuration (ConfigOnly)"));
    }
    let driver = match asked.driver.as_deref().unwrap_or_default() {
        "" | "bridge" | "default" => Driver::Bridge,
        "ipvlan" => Driver::Ipvlan,
        "macvlan" => Driver::Macvlan,
        name @ ("host" | "null") => {
            return Err(Failure::new(
                hyper::StatusCode::FORBIDDEN,
                format!("only one instance of {name:?} network is allowed"),
            ));
        }
        "overlay" => return Err(crate::system::no_swarm()),
        driver => {
            return Err(Failure::missing(format!(
                "could not find plugin {driver} in v1 plugin registry: plugin not found"
            )));
        }
    };
    let ipam = asked.ipam.unwrap_or_default();
    Ok(NetworkOptions {
        name: asked.name.filter(|name| !name.is_empty()).ok_or_else(|| Failure::bad("network name is required"))?,
        driver,
        pools: ipam.config.unwrap_or_default().into_iter().map(pool).collect::<Result<_, _>>()?,
        ipv4: asked.ipv4,
        // Docker's clients leave it out for "no".
        ipv6: Some(asked.ipv6.unwrap_or(false)),
        internal: asked.internal.unwrap_or(false),
        attachable: asked.attachable.unwrap_or(false),
        options: asked.options.unwrap_or_default(),
        ipam_driver: ipam.driver.filter(|driver| !driver.is_empty()),
        ipam_options: ipam.options.unwrap_or_default(),
        labels: asked.labels.unwrap_or_default(),
    })
}

/// `POST /networks/create`
pub async fn create(mut context: Context) -> Result<Reply, Failure> {
    let mut options = options(context.document().await?)?;
    context.peer.check_network(&mut options)?;
    let network = context.workers().quick(move |engine| engine.create_network(&options)).await?;
    reply::json(StatusCode::CREATED, &json!({ "Id": network.id, "Warning": "" }))
}

const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// `GET /networks`
pub async fn list(context: Context) -> Result<Reply, Failure> {
    let filters = Filters::parse(context.query.text("filters"), FILTERS)?;
    let dangling = filters.switch("dangling")?;
    let peer = context.peer.clone();
    let mut all = context
        .workers()
        .translate(move |engine| {
            let uses = engine.network_uses()?;
            let kept = engine.networks()?.into_iter().filter(|network| {
                let unused = !network.is_predefined() && !uses.contains_key(&network.id);
                let seen = network.is_predefined() || peer.owns(&network.settings.labels);
                seen && dangling.is_none_or(|wanted| wanted == unused) && keep(network, &filters)
            });
            kept.map(|network| Ok(docker_json::network::value(&network, &[])?)).collect::<Result<Vec<Value>, Failure>>()
        })
        .await?;
    crate::newer::networks(&mut all, context.version);
    reply::ok(&all)
}

fn keep(network: &Network, filters: &Filters) -> bool {
    let kind = if network.is_predefined() { "builtin" } else { "custom" };
    filters.any("name", |name| docker_json::pattern::found(name, &network.name))
        && filters.any("id", |id| network.id.starts_with(id))
        && filters.any("driver", |driver| driver == network.settings.driver.name())
        && filters.any("scope", |scope| scope == "local")
        && filters.any("type", |wanted| wanted == kind)
        && filters.labels(&network.settings.labels)
}

/// `GET /networks/{id}`
pub async fn inspect(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let (wanted, peer, version) = (wanted.to_owned(), context.peer.clone(), context.version);
    let found = context.workers().translate(move |engine| {
        peer.check_network_use(engine, &wanted)?;
        let (network, mut members) = engine.network(&wanted)?;
        if peer.is_confined() {
            // Who else is on a network that all share is not for everybody.
            members.retain(|member| engine.inspect(&member.container).is_ok_and(|container| peer.made(&container)));
        }
        Ok((network, members))
    });
    let (network, members) = found.await?;
    let mut document = docker_json::network::value(&network, &members)?;
    if version >= crate::newer::FIRST {
        document["Status"] = crate::newer::addresses(&network, &members);
    }
    reply::ok(&document)
}

/// `DELETE /networks/{id}`
pub async fn remove(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let (wanted, peer) = (wanted.to_owned(), context.peer.clone());
    let removed = context.workers().translate(move |engine| {
        peer.check_network_use(engine, &wanted)?;
        Ok(engine.remove_network(&wanted)?)
    });
    removed.await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Joining {
    container: Option<String>,
    endpoint_config: Option<EndpointAsked>,
    force: Option<bool>,
}

impl Joining {
    fn container(&self) -> Result<String, Failure> {
        let name = self.container.clone().filter(|name| !name.is_empty());
        name.ok_or_else(|| Failure::bad("no container was named: Container is empty"))
    }
}

/// `POST /networks/{id}/connect`
pub async fn connect(mut context: Context, wanted: &str) -> Result<Reply, Failure> {
    let asked: Joining = context.document().await?;
    let container = asked.container()?;
    let mut request = asked.endpoint_config.unwrap_or_default().request(wanted)?;
    let (wanted, peer) = (wanted.to_owned(), context.peer.clone());
    let connected = context.workers().translate(move |engine| {
        peer.check_network_use(engine, &wanted)?;
        let container = peer.check_connected(engine, container)?;
        peer.check_links(engine, &mut request.links)?;
        Ok(engine.connect_network(&wanted, &ConnectOptions { container, request })?)
    });
    connected.await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `POST /networks/{id}/disconnect`
pub async fn disconnect(mut context: Context, wanted: &str) -> Result<Reply, Failure> {
    let asked: Joining = context.document().await?;
    let (wanted, container, force) = (wanted.to_owned(), asked.container()?, asked.force.unwrap_or(false));
    let peer = context.peer.clone();
    let disconnected = context.workers().translate(move |engine| {
        peer.check_network_use(engine, &wanted)?;
        let container = peer.check_connected(engine, container)?;
        Ok(engine.disconnect_network(&wanted, &container, force)?)
    });
    disconnected.await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `POST /networks/prune`
pub async fn prune(context: Context) -> Result<Reply, Failure> {
    let filters = Filters::parse(context.query.text("filters"), &["label", "label!", "until"])?;
    let until = crate::containers::list::until(&filters)?;
    let wanted = move |network: &Network| {
        let created = network.created_at.parse::<jiff::Timestamp>();
        until.is_none_or(|until| created.is_ok_and(|created| created <= until))
            && filters.labels(&network.settings.labels)
    };
    let names = context.workers().quick(move |engine| engine.prune_networks(wanted)).await?;
    reply::ok(&json!({ "NetworksDeleted": names }))
}
