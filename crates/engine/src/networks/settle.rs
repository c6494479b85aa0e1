//! From what was asked of a network to its configuration: defaults, conflicts and ranges resolved, nothing touched.

use super::options::{NetworkOptions, PoolRequest};
use super::record::{Driver, NetworkSettings, Subnet};
use crate::error::{Context, Error, Kind, Result};
use network::pools::{self, Pool, Used};
use network::{Cidr, GatewayMode};
use std::net::IpAddr;

/// What of the host matters for the choice of ranges.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Ranges that others have.
    pub used: Vec<Used>,
    /// The IPv6 ranges of this machine.
    pub unique_local: Pool,
    /// The host has IPv6.
    pub ipv6: bool,
}

/// Options that are known, and for which drivers.
const OPTIONS: &[(&str, &[Driver])] = &[
    ("com.docker.network.bridge.default_bridge", &[Driver::Bridge]),
    ("com.docker.network.bridge.enable_icc", &[Driver::Bridge]),
    ("com.docker.network.bridge.enable_ip_masquerade", &[Driver::Bridge]),
    ("com.docker.network.bridge.gateway_mode_ipv4", &[Driver::Bridge]),
    ("com.docker.network.bridge.gateway_mode_ipv6", &[Driver::Bridge]),
    ("com.docker.network.bridge.host_binding_ipv4", &[Driver::Bridge]),
    ("com.docker.network.bridge.name", &[Driver::Bridge]),
    ("com.docker.network.container_iface_prefix", &[Driver::Bridge, Driver::Macvlan, Driver::Ipvlan]),
    ("com.docker.network.driver.mtu", &[Driver::Bridge, Driver::Macvlan, Driver::Ipvlan]),
    ("com.docker.network.enable_ipv4", &[Driver::Bridge, Driver::Macvlan, Driver::Ipvlan]),
    ("com.docker.network.enable_ipv6", &[Driver::Bridge, Driver::Macvlan, Driver::Ipvlan]),
    ("dhow.bypass_firewall", &[Driver::Bridge]),
    ("ipvlan_mode", &[Driver::Ipvlan]),
    ("macvlan_mode", &[Driver::Macvlan]),
    ("parent", &[Driver::Macvlan, Driver::Ipvlan]),
];

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, message)
}

/// The configuration of a network.
pub(crate) fn settle(options: &NetworkOptions, around: &Surroundings) -> Result<NetworkSettings> {
    check_name(&options.name)?;
    check_options(options)?;
    if !matches!(options.ipam_driver.as_deref(), None | Some("" | "default")) {
        return Err(invalid(format!(
            "--ipam-driver {:?} is not supported: addresses are given by dhow itself (default)",
            options.ipam_driver.as_deref().unwrap_or_default()
        )));
    }
    if let Some(key) = options.ipam_options.keys().next() {
        return Err(invalid(format!("--ipam-opt {key} is not supported: there are no options for giving addresses")));
    }
    let asked = |name: &str| options.options.get(&format!("com.docker.network.{name}")).map(|value| value == "true");
    let ipv4 = options.ipv4.or(asked("enable_ipv4")).unwrap_or(true);
    let named_six = options.pools.iter().any(|pool| pool.subnet.is_some_and(|subnet| subnet.is_ipv6()));
    let is_bridge = options.driver == Driver::Bridge;
    let ipv6 = options.ipv6.or(asked("enable_ipv6")).unwrap_or(named_six || (around.ipv6 && is_bridge));
    if !ipv4 && !ipv6 {
        return Err(invalid("IPv4 or IPv6 must be enabled"));
    }
    if named_six && !ipv6 {
        return Err(invalid("an IPv6 subnet needs --ipv6"));
    }
    let mut subnets = Vec::new();
    let mut used = around.used.clone();
    for pool in options.pools.iter().filter(|pool| pool.subnet.is_some_and(|subnet| subnet.is_ipv6() || ipv4)) {
        let subnet = asked_subnet(pool, &used, options)?;
        used.push(Used { range: subnet.subnet, owner: "this network".to_owned() });
        subnets.push(subnet);
    }
    let loose = options.pools.iter().find(|pool| pool.subnet.is_none());
    if loose.is_some_and(|pool| pool.gateway.is_some() || pool.ip_range.is_some() || !pool.auxiliary.is_empty()) {
        return Err(invalid("no matching subnet for the gateway, range or auxiliary address: name it with --subnet"));
    }
    let has = |subnets: &[Subnet], six| subnets.iter().any(|subnet: &Subnet| subnet.subnet.is_ipv6() == six);
    let failed = || format!("cannot choose a range for the network {}", options.name);
    if ipv4 && !has(&subnets, false) {
        let chosen = pools::choose(&pools::user_networks(), &used).kind(Kind::Unavailable, failed)?;
        subnets.push(chosen_subnet(chosen, options));
    }
    if ipv6 && !has(&subnets, true) {
        let chosen = pools::choose(&[around.unique_local], &used).kind(Kind::Unavailable, failed)?;
        subnets.push(chosen_subnet(chosen, options));
    }
    subnets.sort_by_key(|subnet| subnet.subnet.is_ipv6());
    Ok(NetworkSettings {
        driver: options.driver,
        subnets,
        ipv4,
        ipv6,
        internal: options.internal,
        attachable: options.attachable,
        options: options.options.clone(),
        ipam_options: options.ipam_options.clone(),
        labels: options.labels.clone(),
    })
}

/// Docker's old rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, with spaces between words as it has them since, and none of the names that
/// have a meaning.
fn check_name(name: &str) -> Result<()> {
    let body = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b' ');
    if !name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        || !name.bytes().all(body)
        || name.ends_with(' ')
        || name.len() > 128
    {
        return Err(invalid(format!(
            "invalid network name {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] and spaces between words are allowed, at most 128 characters"
        )));
    }
    if matches!(name, "bridge" | "host" | "none" | "default") {
        return Err(Error::new(Kind::Forbidden, format!("operation is not permitted on predefined {name} network")));
    }
    Ok(())
}

fn check_options(options: &NetworkOptions) -> Result<()> {
    let driver = options.driver;
    if matches!(driver, Driver::Host | Driver::Null) {
        return Err(Error::new(
            Kind::Forbidden,
            format!("only one instance of \"{}\" network is allowed", driver.name()),
        ));
    }
    for (key, value) in &options.options {
        let Some((_, drivers)) = OPTIONS.iter().find(|(name, _)| name == key) else {
            return Err(invalid(format!("the option {key} of a network is not supported")));
        };
        if !drivers.contains(&driver) {
            return Err(invalid(format!("the option {key} has no meaning for the driver {}", driver.name())));
        }
        let is_boolean = matches!(value.as_str(), "true" | "false" | "1" | "0");
        let good = match key.as_str() {
            "com.docker.network.bridge.host_binding_ipv4" => value.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()),
            "com.docker.network.bridge.gateway_mode_ipv4" | "com.docker.network.bridge.gateway_mode_ipv6" => {
                value.parse::<GatewayMode>().is_ok_and(|mode| options.internal || mode != GatewayMode::Isolated)
            }
            "com.docker.network.bridge.name" => network::check_name(value).is_ok(),
            "com.docker.network.container_iface_prefix" => network::check_name(&format!("{value}99")).is_ok(),
            "com.docker.network.driver.mtu" => value.parse::<u32>().is_ok_and(|mtu| (68..=65_535).contains(&mtu)),
            "ipvlan_mode" => matches!(value.as_str(), "l2" | "l3" | "l3s"),
            "macvlan_mode" => matches!(value.as_str(), "bridge" | "private" | "vepa" | "passthru"),
            "parent" => network::check_name(value).is_ok(),
            _ => is_boolean,
        };
        if !good {
            return Err(invalid(format!("invalid value {value:?} of the network's option {key}")));
        }
    }
    if driver != Driver::Bridge && !options.options.contains_key("parent") {
        return Err(invalid(format!(
            "a network with the driver {} needs the device of the host that carries it",
            driver.name()
        ))
        .hint("for example -o parent=eth0"));
    }
    Ok(())
}

fn asked_subnet(pool: &PoolRequest, used: &[Used], options: &NetworkOptions) -> Result<Subnet> {
    let Some(asked) = pool.subnet else { return Err(invalid("a range of addresses is missing")) };
    let subnet = asked.network();
    if subnet != asked {
        return Err(invalid(format!("invalid subnet {asked}: it should be {subnet}")));
    }
    // With macvlan and ipvlan the range is that of the wire, which the host's route leads to, too.
    if options.driver == Driver::Bridge {
        pools::check(subnet, used).kind(Kind::Forbidden, || {
            "invalid pool request: Pool overlaps with other one on this address space".into()
        })?;
    }
    let inside = |what: &str, address: IpAddr| {
        if subnet.contains(address) {
            return Ok(());
        }
        Err(invalid(format!("the {what} {address} is not in the subnet {subnet}")))
    };
    if let Some(gateway) = pool.gateway {
        inside("gateway", gateway)?;
    }
    for address in pool.auxiliary.values() {
        inside("auxiliary address", *address)?;
    }
    if let Some(range) = pool.ip_range {
        inside("range's beginning", range.network().address())?;
        inside("range's end", range.last())?;
    }
    let gateway = pool.gateway.or_else(|| first_free(subnet, pool));
    Ok(Subnet {
        subnet,
        gateway: gateway.filter(|_| has_gateway(options, subnet.is_ipv6()) || pool.gateway.is_some()),
        ip_range: pool.ip_range.map(|range| range.network()),
        auxiliary: pool.auxiliary.clone(),
        asked: true,
    })
}

/// ipvlan on layer 3 knows no gateway: everything goes to the device. And from an isolated bridge the host is absent.
fn has_gateway(options: &NetworkOptions, ipv6: bool) -> bool {
    let name = if ipv6 { "gateway_mode_ipv6" } else { "gateway_mode_ipv4" };
    if options.options.get(&format!("com.docker.network.bridge.{name}")).is_some_and(|mode| mode == "isolated") {
        return false;
    }
    !matches!(options.options.get("ipvlan_mode").map(String::as_str), Some("l3" | "l3s"))
}

/// The first usable address, by which Docker chooses the gateway: of the range that addresses are given from, if there is one.
fn first_free(subnet: Cidr, pool: &PoolRequest) -> Option<IpAddr> {
    let taken = |address: &IpAddr| pool.auxiliary.values().any(|other| other == address);
    let from = pool.ip_range.map_or(subnet, |range| range.network());
    let start = if from.network().address() == subnet.network().address() { 1 } else { 0 };
    (start..start + 1024).map_while(|index| from.nth(index)).find(|address| !taken(address))
}

fn chosen_subnet(subnet: Cidr, options: &NetworkOptions) -> Subnet {
    Subnet {
        subnet,
        gateway: subnet.nth(1).filter(|_| has_gateway(options, subnet.is_ipv6())),
        ip_range: None,
        auxiliary: Default::default(),
        asked: false,
    }
}

/// Gathers the values of `--subnet`, `--gateway`, `--ip-range` and `--aux-address`, each given any number of times: what
/// lies in a subnet belongs to it.
///
/// # Errors
/// Something that lies in no subnet, or two gateways in one.
pub fn gather(
    subnets: &[Cidr],
    gateways: &[IpAddr],
    ranges: &[Cidr],
    auxiliary: &[(String, IpAddr)],
) -> Result<Vec<PoolRequest>> {
    let mut pools: Vec<PoolRequest> = Vec::new();
    for subnet in subnets {
        if let Some(other) = pools.iter().filter_map(|pool| pool.subnet).find(|other| other.overlaps(subnet)) {
            return Err(invalid(format!(
                "multiple overlapping subnet configuration is not supported: {subnet} and {other}"
            )));
        }
        pools.push(PoolRequest { subnet: Some(*subnet), ..PoolRequest::default() });
    }
    let of = |what: &str, address: IpAddr| -> Result<usize> {
        let found = pools.iter().position(|pool| pool.subnet.is_some_and(|subnet| subnet.contains(address)));
        found.ok_or_else(|| invalid(format!("no matching subnet for {what} {address}")))
    };
    let mut places = Vec::new();
    for range in ranges {
        places.push((of("range", range.network().address())?, Some(*range), None));
    }
    for gateway in gateways {
        places.push((of("gateway", *gateway)?, None, Some(*gateway)));
    }
    let mut others = Vec::new();
    for (name, address) in auxiliary {
        others.push((of("aux-address", *address)?, name, *address));
    }
    for (position, range, gateway) in places {
        let pool = &mut pools[position];
        if (gateway.is_some() && pool.gateway.is_some()) || (range.is_some() && pool.ip_range.is_some()) {
            return Err(invalid(format!(
                "cannot configure multiple gateways or ranges on the same subnet ({})",
                subnets[position]
            )));
        }
        pool.gateway = pool.gateway.or(gateway);
        pool.ip_range = pool.ip_range.or(range);
    }
    for (position, name, address) in others {
        pools[position].auxiliary.insert(name.clone(), address);
    }
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(used: &[&str]) -> Surroundings {
        Surroundings {
            used: used
                .iter()
                .map(|text| Used { range: text.parse().unwrap(), owner: format!("network {text}") })
                .collect(),
            unique_local: pools::unique_local(b"test"),
            ipv6: true,
        }
    }

    fn options(name: &str, subnets: &[&str]) -> NetworkOptions {
        let subnets: Vec<Cidr> = subnets.iter().map(|text| text.parse().unwrap()).collect();
        let pools = gather(&subnets, &[], &[], &[]).unwrap();
        NetworkOptions { name: name.into(), pools, ..NetworkOptions::default() }
    }

    #[test]
    fn ranges_are_chosen_and_checked() {
        let settings = settle(&options("a", &[]), &around(&[])).unwrap();
        let text: Vec<String> = settings.subnets.iter().map(|s| format!("{} {:?}", s.subnet, s.gateway)).collect();
        assert_eq!(text[0], "172.18.0.0/16 Some(172.18.0.1)");
        assert!(text[1].starts_with("fd"), "{text:?}");
        let settings = settle(&options("a", &["10.5.0.0/24"]), &around(&[])).unwrap();
        assert_eq!(settings.subnets[0].gateway.unwrap().to_string(), "10.5.0.1");
        let error = settle(&options("a", &["10.5.0.0/24"]), &around(&["10.0.0.0/8"])).unwrap_err();
        assert!(crate::containers::chain(&error).contains("belongs to network 10.0.0.0/8"));
        assert!(settle(&options("a", &["10.5.0.7/24"]), &around(&[])).is_err());
        assert!(settle(&options("a b", &[]), &around(&[])).is_ok());
        for name in ["", "host", "-a", "a/b"] {
            assert!(settle(&options(name, &[]), &around(&[])).is_err(), "{name}");
        }
    }

    #[test]
    fn unknown_options_are_refused() {
        let with = |key: &str, value: &str| {
            let mut options = options("a", &[]);
            options.options.insert(key.into(), value.into());
            settle(&options, &around(&[]))
        };
        assert!(with("com.docker.network.driver.mtu", "1400").is_ok());
        for (key, value) in [("foo", "bar"), ("com.docker.network.driver.mtu", "x"), ("parent", "eth0")] {
            assert!(with(key, value).is_err(), "{key}");
        }
    }

    #[test]
    fn gathering() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let pools = gather(
            &[cidr("10.1.0.0/16"), cidr("fd00::/64")],
            &[ip("fd00::9"), ip("10.1.0.9")],
            &[cidr("10.1.5.0/24")],
            &[("router".into(), ip("10.1.5.1"))],
        )
        .unwrap();
        assert_eq!(pools[0].gateway, Some(ip("10.1.0.9")));
        assert_eq!(pools[1].gateway, Some(ip("fd00::9")));
        assert_eq!(pools[0].auxiliary["router"], ip("10.1.5.1"));
        assert!(gather(&[cidr("10.1.0.0/16")], &[ip("10.2.0.1")], &[], &[]).is_err());
        assert!(gather(&[cidr("10.1.0.0/16"), cidr("10.1.1.0/24")], &[], &[], &[]).is_err());
        assert!(gather(&[cidr("10.1.0.0/16")], &[ip("10.1.0.1"), ip("10.1.0.2")], &[], &[]).is_err());
    }
}
